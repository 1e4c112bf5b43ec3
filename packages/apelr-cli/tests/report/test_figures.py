import math
from collections.abc import Callable
from pathlib import Path

from apelr_cli.report.figures import config_tables, environment_tables, headline, key_figures, used_states
from apelr_cli.report.run_files import read_run_files


def test_what_a_page_opens_with(run_of: Callable[..., Path], unfinished: Path) -> None:
    files = read_run_files(run_of())
    facts = {fact.name: fact for fact in key_figures(files, files.planner)}
    assert facts["bits per byte"].value == f"{files.final['validation']['bits_per_byte']:.3f}"
    assert facts["bits per byte"].note == "all held-out text"
    assert {"states in use", "plan MI", "worth of the plan", "known plans found"} <= facts.keys()
    line = headline(files, "v2_planner_required", 3, 4)
    assert line.endswith("trained on storyworld · step 4 of 4, finished")
    assert "3 plan states, chunks of 4 tokens" in line
    half = read_run_files(unfinished)
    assert next(key_figures(half, {})).note == "a part of the held-out text"
    assert headline(half, "v", 1, 2).endswith("step 2 of 4, not finished")


def test_used_states_is_the_exponential_of_the_entropy() -> None:
    assert math.isclose(used_states([0.25] * 4), 4)
    assert used_states([1.0, 0.0]) == 1


def test_settings_and_environment_are_tables() -> None:
    top, model = config_tables({"seed": 3, "model": {"executor": {"type": "gru"}, "hidden_dim": 8}})
    assert top.rows == (("seed", "3"),)
    assert model.rows == (("executor.type", "gru"), ("hidden_dim", "8"))


def test_the_environment_is_what_run_json_says(run_of: Callable[..., Path]) -> None:
    tables = {table.title: dict(table.rows) for table in environment_tables(read_run_files(run_of()))}
    assert tables["where and how"]["device"] == "cpu"
    assert "torch" in tables["versions"]
    assert int(tables["parameters"]["total"].replace(",", "")) > 0
