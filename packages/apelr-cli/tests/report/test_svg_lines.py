import re

import pytest

from apelr_cli.report.curves import Chart, Series, UsageChart
from apelr_cli.report.svg_lines import line_chart, step_label, usage_bands


def paths(picture: str, class_: str) -> list[list[tuple[float, float]]]:
    found = re.findall(rf'class="{class_}"[^>]* d="M([^"]*?)z?"', picture)
    return [[(float(x), float(y)) for x, y in (pair.split() for pair in each.split("L"))] for each in found]


def test_a_line_goes_through_its_points() -> None:
    chart = Chart("learning_rate", "Rate", "", (Series("a", ((0, 0.0), (50, 2.0), (100, 1.0))),))
    ((start, middle, end),) = paths(line_chart(chart), "line line0")
    assert (start[0], middle[0], end[0]) == (46, 197, 348)
    assert start[1] > end[1] > middle[1]
    assert end[1] == pytest.approx((start[1] + middle[1]) / 2, abs=0.1)


def test_losses_are_on_a_logarithmic_axis() -> None:
    chart = Chart("nll", "Loss", "nats", (Series("a", ((0, 8.0), (1, 4.0), (2, 2.0))),), (("other", 3.0),))
    assert chart.axes == "nats, logarithmic scale, by step"
    assert chart._replace(series=(Series("a", ((0, 0.0),)),)).axes == "nats, by step"
    ((first, second, third),) = paths(line_chart(chart), "line line0")
    assert second[1] - first[1] == pytest.approx(third[1] - second[1], abs=0.2)
    assert ">other</text>" in line_chart(chart)


def test_a_chart_says_in_words_where_its_lines_lead() -> None:
    chart = Chart("nll", "Loss", "", (Series("training", ((1, 4.0), (9, 2.0))), Series("held-out", ((9, 2.5),))))
    label = "Loss: training from 4 at step 1 to 2 at step 9; held-out from 2.5 at step 9 to 2.5 at step 9"
    assert f'aria-label="{label}"' in line_chart(chart)
    assert '<circle class="dot line1"' in line_chart(chart), "a single point is seen"


def test_equal_values_and_a_single_step_have_a_place() -> None:
    assert paths(line_chart(Chart("nll", "", "", (Series("a", ((3, 1.0),)),))), "line line0") == [[(197, 96)]]
    assert "nan" not in line_chart(Chart("plan_mi", "", "", (Series("a", ((3, 0.0), (4, 0.0))),)))


def test_bands_of_usage_fill_the_height() -> None:
    usage = UsageChart((10, 20), (2, 9, None), ((0.5, 0.25), (0.25, 0.25), (0.25, 0.5)))
    made = usage_bands(usage)
    assert re.findall(r'class="fill (\w+)"', made) == ["s2", "s1", "rest"]
    assert re.findall(r'data-state="(\d+)"', made) == ["2", "9"]
    assert "<title>state 9: 25.0% at step 20</title>" in made
    last = paths(made.replace(' data-state="9"', ""), "fill rest")[0]
    assert last[0] == (46, 12), "the top of all bands"


def test_labels_of_ticks_are_short() -> None:
    assert [step_label(v) for v in (0, 0.003, 0.25, 2000, 30_000)] == ["0", "3e-3", "0.25", "2000", "30k"]
