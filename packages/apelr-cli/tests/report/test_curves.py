from pathlib import Path
from typing import Any

from apelr_cli.report.curves import MOST_POINTS, comparison_charts, run_charts, usage_chart
from apelr_cli.report.run_files import RunFiles


def files(*lines: dict[str, Any], final: dict[str, Any] | None = None) -> RunFiles:
    return RunFiles(Path("run"), None, {}, lines, final or {}, {})


def train(step: int, **values: Any) -> dict[str, Any]:
    return {"kind": "train", "step": step, "loss": 2.0, "nll": 2.0, **values}


def test_each_curve_has_the_lines_that_the_run_logged() -> None:
    found = files(
        train(10, bits_per_byte=1.0, learning_rate=0.1),
        {"kind": "validation", "step": 10, "nll": 2.5, "plan_mi": 0.1, "bits_per_byte": None},
        train(20, bits_per_byte=0.5, learning_rate=0.2),
        {"kind": "preview", "step": 20, "text": "a"},
        {"kind": "final", "step": 20, "nll": 2.25, "plan_mi": 0.2},
        final={"references_bits_per_byte": {"gzip_9": 2.0}},
    )
    charts = {chart.key: chart for chart in run_charts(found)}
    assert list(charts) == ["nll", "bits_per_byte", "learning_rate", "plan_mi"]
    assert [(each.name, each.points) for each in charts["nll"].series] == [
        ("training", ((10, 2.0), (20, 2.0))),
        ("held-out", ((10, 2.5), (20, 2.25))),
    ]
    assert charts["bits_per_byte"].levels == (("gzip 9", 2.0),)
    assert charts["plan_mi"].series[0].points == ((10, 0.1), (20, 0.2))
    assert charts["nll"].last == 20


def test_a_loss_with_more_terms_has_a_line_of_its_own() -> None:
    (chart,) = run_charts(files(train(1, loss=3.0)))
    assert [each.name for each in chart.series] == ["training", "training loss, all terms"]


def test_a_model_without_a_plan_has_no_curve_of_its_information() -> None:
    found = files({"kind": "validation", "step": 1, "nll": 1.0, "plan_mi": 0.0})
    assert [chart.key for chart in run_charts(found)] == ["nll"]
    assert usage_chart(files(train(1, usage=[1.0]))) is None
    assert run_charts(files()) == ()


def test_long_runs_are_thinned_and_keep_their_ends() -> None:
    found = files(*(train(step) for step in range(1, 2 * MOST_POINTS + 3)))
    points = run_charts(found)[0].series[0].points
    assert len(points) <= MOST_POINTS + 1
    assert (points[0][0], points[-1][0]) == (1, 2 * MOST_POINTS + 2)


def test_usage_keeps_the_most_used_states_and_joins_the_others() -> None:
    shares = [0.2, 0.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    usage = usage_chart(files(train(1, usage=shares), train(2, usage=shares)))
    assert usage is not None
    assert usage.bands[0] == 0
    assert len(usage.bands) == 9
    assert usage.bands[-1] is None
    assert abs(sum(band[1] for band in usage.shares) - 1) < 1e-12


def test_runs_over_each_other_are_read_on_held_out_text() -> None:
    one = files({"kind": "validation", "step": 1, "nll": 1.0})
    charts = comparison_charts([("a", one), ("b", files(train(1)))])
    assert [[each.name for each in chart.series] for chart in charts] == [["a"]]
    assert charts[0].unit == "held-out text, nats per token"


def test_a_run_without_a_plan_has_no_line_of_plan_mi() -> None:
    with_plan, without = (files({"kind": "validation", "step": 1, "plan_mi": value}) for value in (0.5, 0.0))
    (chart,) = comparison_charts([("a", with_plan), ("b", without)])
    assert [each.name for each in chart.series] == ["a"]
    assert comparison_charts([("b", without)]) == ()
