"""The benchmarks: the loop over tokens against the package, the figures they are made of, and their page."""

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

FOLDER = Path(__file__).resolve().parent / "benchmarks"
sys.path.insert(0, str(FOLDER))

import cuda  # noqa: E402
import growth  # noqa: E402
import measured  # noqa: E402
import plot  # noqa: E402
import reference  # noqa: E402
import subjects  # noqa: E402
import training_gru  # noqa: E402
import writing  # noqa: E402

from apelr_cli.benchmark_timing import Figure, Times  # noqa: E402
from apelr_model import V1Config, V2Config, build_model  # noqa: E402

COLOURED = set(plot.COLOURS.values())
CONFIGS = {
    "V1": V1Config(num_plan_states=3, chunk_size=4, token_dim=5, hidden_dim=7, num_layers=2, fusion_dim=6),
    "V1, no evidence": V1Config(num_plan_states=3, chunk_size=1, token_dim=5, hidden_dim=7, boundary_evidence=False),
    "V2": V2Config(num_plan_states=3, chunk_size=4, token_dim=5, hidden_dim=7, num_layers=2, planner_context_scale=0.7),
    "V2, chunks of one": V2Config(num_plan_states=2, chunk_size=1, token_dim=5, hidden_dim=7),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loop_over_tokens_gives_the_package_s_nll_and_gradients(name):
    torch.manual_seed(1)
    model = build_model(CONFIGS[name], 11).double()
    with torch.no_grad():
        model.planner.initial_logits.normal_()
        model.planner.transition_logits.normal_()
        for parameter in model.head.parameters():
            parameter.normal_()
    ids = torch.randint(11, (3, 15))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    own = -model.read(inputs, targets).filtered.token_log_prob
    looped = reference.reference_nll(model, inputs, targets)
    torch.testing.assert_close(own, looped, rtol=0, atol=1e-10)
    weights = torch.rand(own.shape, dtype=torch.float64)
    every = list(model.parameters())
    used = torch.autograd.grad((own * weights).sum(), every, retain_graph=True, allow_unused=True)
    parameters = [parameter for parameter, gradient in zip(every, used, strict=True) if gradient is not None]
    pairs = [torch.autograd.grad((nll * weights).sum(), parameters) for nll in (own, looped)]
    assert len(parameters) >= 10
    for ours, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_a_target_is_met_at_its_bound():
    assert measured.at_least(0.6).met(0.6)
    assert not measured.at_least(0.6).met(0.599)
    assert measured.at_most(1.1).met(1.1)
    assert not measured.at_most(1.1).met(1.101)


def test_a_row_says_whether_its_median_meets_the_target():
    row = measured.Row("work", Figure(0.5, 0.4, 0.7), "%", measured.at_least(0.6)).plain()
    assert (row["target"], row["met"]) == (">= 0.6", False)
    assert writing.line(row) == "| work | 50 % (40–70) | ≥ 60 % | **missed** |"
    plain = measured.Row("rate", measured.single(123456.0), "/s").plain()
    assert writing.line(plain) == "| rate | 123,456 /s | | |"


def test_the_ratio_of_times_is_divided_by_that_of_the_operations():
    times = {"transformer_lm": 1.0, "V2 dense": 4.0, "V2 factorized": 1.2, "mixture_of_softmaxes": 5.0}
    found = training_gru.beside_controls(
        Times({name: (seconds,) for name, seconds in times.items()}), {"transformer_lm": 10.0, "V2 dense": 50.0}
    )
    assert [row.figure.median for row in found] == pytest.approx([0.8, 1.2, 0.8])


def test_the_exponent_of_a_power_is_found():
    assert growth.slope([2, 4, 8], [5 * x**1.5 for x in (2, 4, 8)]) == pytest.approx(1.5)


def test_the_picture_is_small_and_has_every_curve():
    points = {f"{kind}, {axis}": [[8, 1.0], [64, 9.0]] for kind in plot.TITLES for axis in "BTK"}
    found = ElementTree.fromstring(plot.picture(points))
    paths = [each for each in found.iter("{http://www.w3.org/2000/svg}path") if each.get("stroke") in COLOURED]
    assert len(paths) == 9
    assert len(plot.picture(points)) < 50_000


def test_a_curve_of_slope_one_lies_on_the_diagonal():
    assert plot.place(1, 1, 0) == (0, plot.TOP + plot.SIDE)
    across, down = plot.place(10, 10, 0)
    assert across == pytest.approx(plot.SIDE / 2)
    assert down == pytest.approx(plot.TOP + plot.SIDE / 2)


def test_the_sizes_are_those_of_the_page():
    models = {name: config(subjects.GRU) for name, config in subjects.CONFIGS.items()}
    assert {name: type(config) for name, config in models.items()}["V1"] is V1Config
    assert (models["V1"].fusion_dim, models["V2 dense"].num_plan_states, models["V2 dense"].chunk_size) == (384, 8, 16)


def test_the_models_of_the_card_have_about_150_million_parameters():
    with torch.device("meta"):
        sizes = {name: subjects.count(cuda.make(name)) for name in cuda.CONFIGS}
    assert sizes[cuda.CONTROL] == pytest.approx(150e6, rel=0.02)
    assert sizes[cuda.FACTORIZED] == pytest.approx(sizes[cuda.CONTROL], rel=0.01)


def test_without_a_card_the_group_refuses_in_one_line():
    run = measured.Run(1, "wall", torch.device("cpu"))
    with pytest.raises(
        SystemExit, match=r"^the group cuda needs a CUDA device, got cpu: name it where there is a card$"
    ):
        next(cuda.rows(run))


def group(**changes):
    machine = {"processor": None, "system": "Linux x", "flags": None, "cores": 2, "memory_gib": None}
    machine |= {"threads": 1, "torch": "2", "device": "cpu"}
    return {
        "about": "limits",
        "command": "python .ci/benchmarks limits",
        "date": "2026-01-01",
        "machine": machine,
        "rounds": 3,
        "clock": "wall",
        "rows": [measured.Row("a", measured.single(1.0)).plain()],
        "seconds": {},
        "points": {},
        **changes,
    }


def test_a_group_takes_the_place_of_its_earlier_results(tmp_path):
    path = tmp_path / "runs" / "found.json"
    writing.keep(path, "limits", group(date="2026-01-01"))
    writing.keep(path, "memory", group())
    writing.keep(path, "limits", group(date="2026-01-02"))
    found = json.loads(path.read_text(encoding="utf-8"))["groups"]
    assert {name: each["date"] for name, each in found.items()} == {"limits": "2026-01-02", "memory": "2026-01-01"}


def test_the_page_has_every_group_that_was_measured(tmp_path, monkeypatch):
    page = tmp_path / "benchmarks.md"
    page.write_text("before\n{}\nold\n{}\nafter\n".format(*writing.MARKS), encoding="utf-8")
    monkeypatch.setattr(writing, "PAGE", page)
    found = {"groups": {"memory": group(), "limits": group()}}
    for _ in range(2):
        writing.fill_page(found, ["limits", "data", "memory"])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- results")
    assert text.endswith("<!-- end of results -->\nafter\n")
    assert text.index("### limits") < text.index("### memory")
    assert "old" not in text
    assert "### data" not in text


def test_every_group_is_a_module_with_a_line_and_rows():
    source = (FOLDER / "__main__.py").read_text(encoding="utf-8")
    names = {path.stem for path in FOLDER.glob("*.py")}
    groups = {name for name in names if "def rows(run: Run)" in (FOLDER / f"{name}.py").read_text(encoding="utf-8")}
    assert all(f'"{name}"' in source for name in groups)
    assert len(groups) == 12
