"""`--model_args`: read as the options are, all problems at once."""

from pathlib import Path

import pytest

from apelr_cli.errors import ConfigError
from apelr_cli.harness.arguments import PLAN_NAMES, ModelArguments, read_arguments
from apelr_cli.plan_options import PLAN_OPTIONS


class TestReading:
    def test_values_are_as_the_harness_gives_them(self):
        assert read_arguments({"checkpoint": Path("runs/a"), "batch_size": "8", "planner_temperature": 2}) == (
            ModelArguments(checkpoint="runs/a", batch_size=8, planner_temperature=2.0)
        )

    def test_a_name_that_is_a_number_is_a_name(self):
        assert read_arguments({"checkpoint": 7}).checkpoint == "7"

    @pytest.mark.parametrize(
        ("values", "lines"),
        [
            ({}, ["checkpoint is missing; it must be text"]),
            ({"checkpoint": "x", "force_stat": 1}, ["unknown key force_stat; did you mean force_state?"]),
            (
                {"checkpoint": "x", "planner_mode": "off", "batch_size": 0},
                ["batch_size must be >= 1, got 0", "planner_mode must be one of normal, uniform or null, got off"],
            ),
            (
                {"checkpoint": "x", "batch_size": "auto"},
                ["batch_size must be an integer, got auto"],
            ),
            ({"checkpoint": "x", "batch_size": "auto:4"}, ["batch_size must be an integer, got auto:4"]),
        ],
    )
    def test_mistakes_are_named_together(self, values, lines):
        with pytest.raises(ConfigError) as caught:
            read_arguments(values)
        for line in lines:
            assert line in str(caught.value)
        assert len(str(caught.value).splitlines()) == len(lines)


def test_interventions_have_the_names_of_the_options():
    options = {flag.removeprefix("--").replace("-", "_"): name for name, (flag, _) in PLAN_OPTIONS.items()}
    assert options == {**PLAN_NAMES, "no_token_filtering": "token_filtering"}
    nothing = dict.fromkeys(options.values())
    assert ModelArguments(checkpoint="x").plan() == {**nothing, "freeze_planner": False}
    given = ModelArguments(checkpoint="x", planner_mode="uniform", no_token_filtering=True, freeze_planner=True)
    assert given.plan() == {**nothing, "mode": "uniform", "token_filtering": False, "freeze_planner": True}
