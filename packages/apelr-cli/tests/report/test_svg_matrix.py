import re

import pytest

from apelr_cli.report.svg_matrix import bars, belief_strip, heat_map, plan_strip


def test_cells_have_their_shade_number_and_words() -> None:
    made = heat_map([[0.5, 0.25], [0.0, 1.0]], [0, 1], [0, 1], label="moves", largest=1.0, framed={0: 1})
    assert re.findall(r'class="(h\d+)"', made) == ["h5", "h2", "h0", "h10"]
    assert re.findall(r'class="number n\d+"[^>]*>([^<]*)<', made) == [".50", ".25", ".00", "1.00"]
    assert "<title>0 to 1: 0.250</title>" in made
    assert made.count('class="frame"') == 1
    assert '<g data-row="0" data-column="1" class="cell"><title>0 to 1: 0.250</title>' in made


def test_a_large_matrix_shows_some_states_without_numbers() -> None:
    values = [[0.01] * 40 for _ in range(40)]
    made = heat_map(values, range(13), range(13), label="")
    assert made.count('class="cell"') == 169
    assert 'class="number' not in made
    assert 'class="matrix big"' in made


def test_small_values_have_three_decimals() -> None:
    assert ">.012</text>" in heat_map([[0.012]], [0], [0], label="")


def test_bars_go_to_both_sides_of_zero() -> None:
    made = bars([("a", 0.02), ("b", -0.01)], label="")
    (right, left) = re.findall(r'<rect class="(bar[ \w]*)" x="([\d.]+)" y="\d+" width="([\d.]+)"', made)
    assert (right[0], left[0]) == ("bar", "bar minus")
    assert float(left[1]) + float(left[2]) == pytest.approx(float(right[1]))
    assert "+0.0200" in made
    assert "-0.0100" in made


def test_a_strip_stacks_the_belief_of_each_token() -> None:
    made = belief_strip([(0.25, 0.75), (0.25, 0.75), None, (1.0, 0.0)], label="belief")
    found = dict(re.findall(r'data-state="(\d)" d="([^"]*)"', made))
    assert found == {"0": "M0 0h2v0.25h-2zM3 0h1v1h-1z", "1": "M0 0.25h2v0.75h-2z"}
    assert 'viewBox="0 0 4 1"' in made


def test_known_plans_have_the_colours_of_the_states_they_are_matched_with() -> None:
    made = plan_strip([-1, 1, 1, 0], ["a<", "b"], {1: 9}, label="")
    assert re.findall(r'class="fill (\w+)"', made) == ["s1", "rest"]
    assert re.findall(r"<title>([^<]*)</title>", made) == ["b", "a&lt;"]
