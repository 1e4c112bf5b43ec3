import re
from collections.abc import Callable
from pathlib import Path

import pytest

from apelr_cli.report.assemble import ReportData, assemble_report
from apelr_cli.report.curves import Chart, Series
from apelr_cli.report.report_page import chart_data, report_page

PARTS = ["training", "text", "states", "transitions", "forecasts", "interventions", "settings"]


@pytest.fixture(scope="module")
def data_of(run_of: Callable[..., Path]) -> Callable[[str], ReportData]:
    made: dict[str, ReportData] = {}

    def data_of(version: str) -> ReportData:
        if version not in made:
            made[version] = assemble_report(run_of(version), device="cpu", say=lambda line: None)
        return made[version]

    return data_of


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)">', page)


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        ("v2_planner_required", set()),
        ("v1_filtered_mixture", set()),
        ("mixture_of_softmaxes", {"transitions", "forecasts"}),
        ("transformer_lm", {"states", "transitions", "forecasts", "interventions"}),
    ],
)
def test_every_version_has_the_parts_that_it_can_have(
    data_of: Callable[[str], ReportData], version: str, missing: set[str]
) -> None:
    page = report_page(data_of(version))
    expected = [part for part in PARTS if part not in missing]
    assert sections(page) == expected
    assert re.findall(r'<a href="#(\w+)">', page) == expected
    assert ">nan<" not in page.lower()
    assert "None" not in page


def test_many_states_are_folded_and_the_most_used_come_first(data_of: Callable[[str], ReportData]) -> None:
    page = report_page(data_of("v1_filtered_mixture"))
    assert "28 more states, less used" in page
    assert "24 more</summary>" in page
    assert "the 32 most used of 40 states" in page
    assert page.count('class="cell"') == 2 * 32 * 32


def test_tokens_have_the_likeliest_state_and_its_strength(data_of: Callable[[str], ReportData]) -> None:
    run = data_of("v2_planner_required")
    page = report_page(run)
    belief = run.passages[0].filtered[2]
    state = max(range(3), key=belief.__getitem__)
    assert f'id="t0-2" class="token" data-f="{state} {round(belief[state] * 10)}"' in page
    assert 'id="t0-3" class="token new"' in page, "V2's first chunk has one target less"
    sizes = [len(passage.tokens) for passage in run.passages[:3]]
    assert [len(re.findall(f'id="t{i}-', page)) for i in range(4)] == [*sizes, 0]


def test_a_model_without_states_is_shaded_by_surprise(data_of: Callable[[str], ReportData]) -> None:
    run = data_of("transformer_lm")
    bits = run.passages[0].tokens[0].bits
    assert bits is not None
    assert f'data-f="x {round(min(bits, 10))}"' in report_page(run)


def test_hostile_words_stay_words(data_of: Callable[[str], ReportData]) -> None:
    bad = '</script><img src=x onerror="hurt()">{{ 7 * 7 }}'
    run = data_of("v2_planner_required")
    token = run.passages[0].tokens[0]._replace(text=bad)
    passage = run.passages[0]._replace(tokens=(token, *run.passages[0].tokens[1:]), place=bad)
    word = run.cards[0].words[0]._replace(text=bad)
    card = run.cards[0]._replace(words=(word,), texts=(bad,))
    hurt = run._replace(title=bad, headline=bad, passages=(passage,), cards=(card,), plan_names=(bad,) * 9)
    page = report_page(hurt)
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert "49" not in re.findall(r"<blockquote[^>]*>(.*?)</blockquote>", page)[0]
    assert "&lt;/script&gt;&lt;img src=x onerror=&#34;hurt()&#34;&gt;{{ 7 * 7 }}" in page


def test_the_script_finds_the_value_of_each_line_at_each_step() -> None:
    chart = Chart("nll", "", "", (Series("a", ((1, 0.123456), (3, 2.0))), Series("b", ((3, 5.0),))))
    assert chart_data(chart) == {"x": [1, 3], "lines": [[0.1235, 2.0], [None, 5.0]]}
