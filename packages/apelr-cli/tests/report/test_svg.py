import pytest

from apelr_cli.report.svg import band, compact, element, nice_ticks, picture, tag


def test_text_and_attributes_are_escaped() -> None:
    made = element("text", '</text><script>"', class_='a"b', data_state=3, stroke_width=1.5, x=None)
    assert made == ('<text class="a&#34;b" data-state="3" stroke-width="1.5">&lt;/text&gt;&lt;script&gt;&#34;</text>')
    assert element("g", [tag("line", x1=0.5), "<"]) == '<g><line x1="0.5"/>&lt;</g>'


def test_a_picture_has_its_label() -> None:
    made = picture(10, 20.5, [], label='a "label"', class_="strip", fill=True)
    assert 'viewBox="0 0 10 20.5"' in made
    assert 'preserveAspectRatio="none"' in made
    assert 'role="img" aria-label="a &#34;label&#34;"' in made
    assert "width=" not in made
    assert ' width="30"' in picture(10, 20, [], label="", class_="", shown_width=30.0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 100, [0, 25, 50, 75, 100]),
        (1.02, 1.98, [1.25, 1.5, 1.75]),
        (5, 5, [5]),
        (-0.1, 0.1, [-0.1, -0.05, 0, 0.05, 0.1]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low: float, high: float, expected: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(expected)


def test_coordinates_are_short() -> None:
    assert [compact(value) for value in (0.0, 1.0, 0.1234, -2.5, 100.0)] == ["0", "1", "0.123", "-2.5", "100"]
    assert band(1, 0, 2, 0.5) == "M1 0h2v0.5h-2z"
