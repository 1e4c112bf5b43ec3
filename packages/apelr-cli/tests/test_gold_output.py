"""Known plans in reports: what the model's functions give, and pages that say it."""

import json

import pytest
import torch

from apelr_cli.gold_output import recovery_lines, recovery_report, skill_lines, skill_report
from apelr_model import GoldChunks, lookahead_skill, plan_recovery

NAMES = ("start", "middle", "end")


@pytest.fixture
def chunks() -> GoldChunks:
    """Four states for three plans, 12 rows of 9 chunks: states 1 to 3 are the plans, now and then it is state 0."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (12, 9), generator=draw).sort(1).values
    states = (labels + 1).masked_fill(torch.rand(labels.shape, generator=draw) < 0.1, 0)
    belief = 0.9 * torch.nn.functional.one_hot(states, 4).double() + 0.1 / 4
    chain = torch.full((4, 4), 0.1, dtype=torch.float64) + 0.6 * torch.eye(4, dtype=torch.float64)
    none = torch.zeros_like(labels)
    return GoldChunks(belief.log(), belief.flip(-1).log(), labels, none, labels >= 0, chain.log(), chain[0].log())


def test_the_recovery_report_is_the_models_own(chunks: GoldChunks) -> None:
    truth = torch.eye(3, dtype=torch.float64)
    report, found = recovery_report(chunks, NAMES, true_transition=truth), plan_recovery(chunks, true_transition=truth)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["plans"] == list(NAMES)
    assert report["filtered"]["normalized_mutual_info"] == found.filtered.normalized_mutual_info
    assert report["smoothed"]["table"] == [list(row) for row in found.smoothed.table]
    assert report["filtered"]["matching"] == [-1, 0, 1, 2]
    assert found.transition is not None
    assert report["transition"] == {
        "mean": found.transition.mean,
        "largest": found.transition.largest,
        "rows": list(found.transition.rows),
    }
    assert recovery_report(chunks, NAMES)["transition"] is None


def test_the_page_of_recovery(chunks: GoldChunks) -> None:
    report = recovery_report(chunks, NAMES, true_transition=torch.eye(3, dtype=torch.float64))
    lines = list(recovery_lines(report))
    assert lines[0].startswith("plans against the 3 known ones, 108 chunks")
    for name, line in zip(
        ("normalized_mutual_info", "adjusted_rand", "accuracy", "used_states"), lines[1:], strict=False
    ):
        assert line.split()[-2:] == [f"{report[kind][name]:.4f}" for kind in ("filtered", "smoothed")]
    mean, largest = (report["transition"][name] for name in ("mean", "largest"))
    assert lines[5].endswith(f"total variation: mean {mean:.4f}, largest {largest:.4f}")
    assert lines[6] == "  state matched with each plan: start 1, middle 2, end 3"
    assert len(list(recovery_lines(recovery_report(chunks, NAMES)))) == 6


def test_skill_as_a_report_and_as_a_page(chunks: GoldChunks) -> None:
    report, found = skill_report(chunks, pytest.fail), lookahead_skill(chunks)
    assert report is not None
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert [each["step"] for each in report["steps"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    first, ours = found.steps[0], report["steps"][0]
    assert ours["forecast"] == first.forecast
    assert ours["over_persistence"] == {
        "mean": first.over_persistence.mean,
        "low": first.over_persistence.low,
        "high": first.over_persistence.high,
    }
    lines = list(skill_lines(report))
    assert len(lines) == 2 + 8
    stationary, persistence, frequencies = first.over_stationary, first.over_persistence, first.over_frequencies
    assert ours["frequencies"] == first.frequencies
    assert lines[2].split(maxsplit=2)[:2] == ["1", f"{first.forecast:.4f}"]
    assert f"{stationary.mean:+.4f} [{stationary.low:+.4f}, {stationary.high:+.4f}]" in lines[2]
    assert f"{persistence.mean:+.4f} [{persistence.low:+.4f}, {persistence.high:+.4f}]" in lines[2]
    assert lines[2].endswith(f"{frequencies.mean:+.4f} [{frequencies.low:+.4f}, {frequencies.high:+.4f}]")


def test_one_row_has_no_interval(chunks: GoldChunks) -> None:
    report = skill_report(chunks.rows(0, 2), pytest.fail)
    assert report is not None
    assert "[one row]" in list(skill_lines(report))[2]


def test_too_little_text_is_said(chunks: GoldChunks) -> None:
    said: list[str] = []
    assert skill_report(chunks.rows(0, 1), said.append) is None
    assert said == [
        "Note: no skill of forecasts: the rows to learn the states' meaning on hold no chunk with a known plan; "
        "give more rows"
    ]
