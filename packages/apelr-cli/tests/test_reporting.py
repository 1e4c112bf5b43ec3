"""What progress says: numbers with units, flags on lossy tokenizers, silence when quiet."""

import io

import pytest
from rich.console import Console

from apelr_cli.reporting import Reporter, plans_in_use
from apelr_model import PlanSplit, StepReport


def report(step: int, usage: tuple[float, ...] = (0.5, 0.5)) -> StepReport:
    return StepReport(step, 2.5, {"nll": 2.5}, 1e-3, 1.0, 100, usage)


def reporter(**changes: object) -> tuple[Reporter, io.StringIO]:
    out = io.StringIO()
    settings = {"max_steps": 10, "first_step": 0, "quiet": False, **changes}
    return Reporter(console=Console(file=out, width=400, highlight=False), **settings), out  # type: ignore[arg-type]


def test_a_step_names_its_figures_with_units() -> None:
    told, out = reporter()
    told.step(report(5), 1.25, 1234.0)
    line = out.getvalue()
    assert line.startswith("step 5/10  loss 2.500  1.250 bits/byte  1,234 tokens/s  plans 2.0/2  0:00 left")


def test_bits_per_byte_of_a_lossy_tokenizer_are_flagged() -> None:
    told, out = reporter()
    told.lossless = False
    told.step(report(1), 1.25, 1.0)
    told.step(report(2), None, 1.0)
    assert "1.250 bits/byte (lossy tokenizer)" in out.getvalue()
    assert "bits/byte unknown" in out.getvalue()


def test_a_split_names_both_states_and_what_was_lost() -> None:
    told, out = reporter()
    told.split(5, PlanSplit(state=2, worth=0.000123, heir=1, copy_of=7))
    told.split(5, PlanSplit(state=3, worth=0.0, heir=1, copy_of=None))
    assert out.getvalue().splitlines() == [
        "step 5/10  plan state 2 was worth 1.2e-04 nats/token, now a copy of state 7",
        "step 5/10  plan state 3 was worth 0.0e+00 nats/token, now out of use",
    ]


def test_quiet_says_nothing() -> None:
    told, out = reporter(quiet=True)
    told.say("x")
    told.step(report(1), 1.0, 1.0)
    assert out.getvalue() == ""


def test_speed_counts_the_targets_of_all_steps_since_the_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 112.0])
    monkeypatch.setattr("apelr_cli.reporting.time.monotonic", lambda: next(clock))
    told, _ = reporter(first_step=4)
    assert told.tokens_per_second(report(9)) == pytest.approx(100 * 5 / 10)
    assert told.tokens_per_second(report(10)) == pytest.approx(100 / 2)


def test_plans_in_use_is_the_exponential_of_the_entropy() -> None:
    assert plans_in_use((0.25, 0.25, 0.25, 0.25)) == "plans 4.0/4"
    assert plans_in_use((1.0, 0.0)) == "plans 1.0/2"


def test_a_terminal_gets_a_live_line() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200)
    with Reporter(max_steps=10, first_step=0, quiet=False, console=console) as told:
        told.step(report(3), 1.0, 10.0)
        told.say("a plain line")
    assert "step 3/10" in out.getvalue()
    assert "a plain line" in out.getvalue()
