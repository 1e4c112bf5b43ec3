"""The benchmarks: the loop over tokens against the package, the figures they are made of, and their page."""

import argparse
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

FOLDER = Path(__file__).resolve().parent / "benchmarks"
sys.path.insert(0, str(FOLDER))

import card  # noqa: E402
import decoding  # noqa: E402
import evaluation  # noqa: E402
import growth  # noqa: E402
import limits  # noqa: E402
import measured  # noqa: E402
import plot  # noqa: E402
import reference  # noqa: E402
import settings  # noqa: E402
import subjects  # noqa: E402
import training_gru  # noqa: E402
import training_transformer  # noqa: E402
import writing  # noqa: E402

from apelr_cli import benchmark_limits  # noqa: E402
from apelr_cli.benchmark_costs import training_flops  # noqa: E402
from apelr_cli.benchmark_timing import Figure, Times  # noqa: E402
from apelr_model import OptimConfig, TransformerConfig, V1Config, V2Config, build_model, count_costs  # noqa: E402

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


@pytest.mark.parametrize(
    ("axis", "least", "most"),
    [("B", 1.2, 2.0), ("T", 1.2, 2.0), ("K", 1.2, 2.0), ("V", 1.2, 2.0), ("L", 0.98, 1.02)],
)
def test_a_step_s_live_memory_grows_with_every_size_but_that_of_chunks(axis, least, most):
    small = growth.Sizes(B=2, T=64, K=4, V=256)
    twice = replace(small, **{axis: 2 * getattr(small, axis)})
    assert least <= growth.live_bytes(twice) / growth.live_bytes(small) <= most


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
        sizes = {name: subjects.count(card.make(name)) for name in card.CONFIGS}
    assert sizes[card.CONTROL] == pytest.approx(150e6, rel=0.02)
    assert sizes[card.FACTORIZED] == pytest.approx(sizes[card.CONTROL], rel=0.01)


class Instant(measured.Run):
    """Runs nothing: every work takes a second, and the large product for ever. It keeps the works of the last time."""

    def time(self, works, **_):
        self.works = works
        return Times({name: (1e12 if name.startswith("product 2048 x 2048") else 1.0,) for name in works})


@pytest.fixture
def instant(monkeypatch):
    """Groups at sizes that take no time."""
    executor = TransformerConfig(num_heads=2)
    gru, transformer = ({"token_dim": 4, "hidden_dim": 8, **more} for more in ({}, {"executor": executor}))
    for name, sizes in {"GRU": gru, "TRANSFORMER": transformer}.items():
        monkeypatch.setattr(subjects, name, sizes)
        monkeypatch.setattr(subjects, f"{name}_VOCABULARY", 64)
        monkeypatch.setattr(subjects, f"{name}_ROWS", 2)
        monkeypatch.setattr(subjects, f"{name}_TARGETS", 16)
    settings = {"GRU": (gru, 64, 2, 16), "transformer": (transformer, 64, 2, 16)}
    monkeypatch.setattr(subjects, "SETTINGS", settings)
    monkeypatch.setattr(decoding, "LARGE_READ", 2**14)
    monkeypatch.setattr(benchmark_limits, "LARGEST_RESULT", 2**14)
    return Instant(1, "wall", torch.device("cpu"))


@pytest.mark.parametrize(("group", "sizes"), [(training_gru, "GRU"), (training_transformer, "TRANSFORMER")])
def test_each_model_is_held_against_its_own_head_s_product(instant, monkeypatch, group, sizes):
    monkeypatch.setattr(subjects, "llama", lambda model: model)
    shares = {row.work.partition(":")[0]: row.figure.median for row in group.rows(instant) if "rate" in row.work}
    for name in {"V1", "V2 dense", "V2 factorized", "mixture_of_softmaxes", "transformer_lm"} & set(shares):
        model = subjects.make(name, getattr(subjects, sizes), 64, torch.device("cpu"))
        large, own = benchmark_limits.products_of(model, 32)
        assert {large.name, own.name} <= set(instant.works)
        assert shares[name] == pytest.approx(32 * training_flops(model, 16) / own.flops)


def test_evaluations_are_held_against_their_own_head_s_product(instant):
    shares = {row.work: row.figure.median for row in evaluation.rows(instant) if "rate" in row.work}
    assert len(shares) == 8
    for executor, (sizes, *_) in subjects.SETTINGS.items():
        for name in evaluation.PAIRS:
            model = subjects.make(name, sizes, 64, torch.device("cpu"))
            _, own = benchmark_limits.products_of(model, 32)
            for kind, tokens, length in (("evaluation", 32, 16), ("scoring", evaluation.SCORED, evaluation.SCORED)):
                flops = tokens * sum(count_costs(model, length).flops_per_token.values())
                share = shares[f"{kind}, {executor}: {name}, of the matrix-product rate"]
                assert share == pytest.approx(flops / own.flops)


def test_settings_are_each_measured_beside_the_defaults_where_the_machine_has_them(instant, monkeypatch):
    made = []
    monkeypatch.setattr(subjects, "training_steps", lambda model, optim, *_: made.append(optim))

    def refuses(optim, device):
        if optim.compile:
            raise ValueError("no compiler")

    monkeypatch.setattr(settings, "check_arithmetic", refuses)
    titles = [row.work for row in settings.rows(instant)]
    names = [name for name in settings.SETTINGS if name != "compile: true"]
    assert made == [OptimConfig(), *(OptimConfig(**settings.SETTINGS[name]) for name in names)]
    assert titles[: len(names)] == [f"`{name}`: times as fast as with the defaults" for name in names]
    assert titles[len(names) :] == [f"{name}: a step" for name in ("defaults", *names)]
    for name, changes in settings.SETTINGS.items():
        assert ", ".join(f"{key}: {str(value).lower()}" for key, value in changes.items()) == name


def test_decoding_says_of_every_row_how_it_decodes(instant, monkeypatch):
    monkeypatch.setattr(decoding, "decoder_of", lambda model, **how: model)
    for name in ("llama", "llama_as_large_as"):
        monkeypatch.setattr(subjects, name, lambda model: model)
    titles = [row.work for row in decoding.rows(instant)]
    assert len(set(titles)) == len(titles)
    assert all("plain" in title or "compiled" in title for title in titles)
    assert sum(f"compiled, fp32, {decoding.MANY} rows beside 1" in title for title in titles) == 5
    assert sum(f"plain, {decoding.MANY} rows beside 1" in title for title in titles) == 5
    assert all("not compiled" in title for title in titles if "generate" in title or title.startswith("Llama"))
    assert sum("of the memory's bandwidth" in title for title in titles) == 5 * (1 + len(decoding.FORMS))


@pytest.mark.parametrize("name", ["V1", "V2 dense"])
def test_tokens_after_prompts_go_on_from_what_was_read(instant, name):
    """Each row's first token comes after as many ids as its prompt has."""
    model = subjects.make(name, subjects.TRANSFORMER, 64, torch.device("cpu"))
    stood, predict = [], model.predict
    model.predict = lambda ids, state: stood.append(state.position.tolist()) or predict(ids, state)
    run = decoding.continuing(model, [[1] * 2, [1] * 5], tokens=2)
    run()
    run()
    assert stood == [[2, 5], [3, 6]] * 2


def test_products_of_few_rows_are_measured_beside_the_library_s(instant, monkeypatch):
    monkeypatch.setattr(limits, "WEIGHT", (32, 4))
    found = list(limits.few_rows(instant))
    assert len(found) == 2 * len(limits.FEW)
    assert [row.figure.median for row in found] == [1.0, 32 * 4 * 4] * len(limits.FEW)
    for name, work in instant.works.items():
        assert work().shape == (int(name.partition(",")[0]), 32)


def test_prompts_of_different_lengths_have_as_many_ids_as_those_of_one():
    assert sum(decoding.RAGGED) == sum(decoding.EVEN)
    assert len(decoding.RAGGED) == len(decoding.EVEN) == decoding.MANY
    assert len(set(decoding.RAGGED)) == decoding.MANY


def test_a_process_of_its_own_can_begin_with_this_folder():
    """It finds this folder first: no name here may be one that a library looks for, as torch does for `cuda`."""
    program = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import subjects, memory"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_a_card_the_group_refuses_in_one_line():
    run = measured.Run(1, "wall", torch.device("cpu"))
    with pytest.raises(
        SystemExit, match=r"^the group card needs a CUDA device, got cpu: name it where there is a card$"
    ):
        next(card.rows(run))


def test_a_card_decodes_plain_and_compiled(monkeypatch):
    monkeypatch.setattr(card, "VOCABULARY", 64)
    monkeypatch.setattr(card, "CONFIGS", {name: V2Config(token_dim=4, hidden_dim=8) for name in card.CONFIGS})
    monkeypatch.setattr(decoding, "LARGE_READ", 2**14)
    monkeypatch.setattr(benchmark_limits, "LARGEST_RESULT", 2**14)
    forms = []
    monkeypatch.setattr(card, "decoder_of", lambda model, *, compiled, weights: forms.append(weights) or model)
    monkeypatch.setattr(card, "ROWS", 2)
    monkeypatch.setattr(card, "TARGETS", 16)
    titles = [row.work for row in card.rows_of_models(Instant(1, "wall", torch.device("cpu")))]
    assert forms == 3 * ["fp32", "bf16"]
    for name in card.CONFIGS:
        for how in ("plain", "compiled, fp32", "compiled, bf16"):
            of_row = f"{name}, 1 row, {how}"
            assert {f"{of_row}: of the memory's bandwidth", f"{of_row}: tokens a second"} <= set(titles)


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


def test_the_page_has_every_group_that_was_measured_and_keeps_the_others(tmp_path, monkeypatch):
    page = tmp_path / "benchmarks.md"
    old = "### limits\n\nold limits\n\n### data\n\nold data\n\n| a | b |\n\n### another\n\nold other"
    page.write_text(f"before\n{writing.MARKS[0]}\n{old}\n{writing.MARKS[1]}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(writing, "PAGE", page)
    found = {"groups": {"memory": group(), "limits": group()}}
    for _ in range(2):
        writing.fill_page(found, ["limits", "data", "memory"])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- results")
    headings = [line for line in text.splitlines() if line.startswith("### ")]
    assert headings == ["### limits", "### data", "### memory", "### another"]
    assert "old limits" not in text
    assert "\n\n### data\n\nold data\n\n| a | b |\n\n### memory\n\n" in text
    assert text.endswith("### another\n\nold other\n<!-- end of results -->\nafter\n")


@pytest.fixture
def command(monkeypatch):
    """The program, run with arguments."""
    spec = importlib.util.spec_from_file_location("benchmarks_main", FOLDER / "__main__.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    monkeypatch.setattr(program, "limit_threads", lambda count: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        program.main()

    run.program = program
    return run


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--rounds", "0"], "argument --rounds: must be a whole number >= 1, got 0"),
        (["--rounds", "few"], "argument --rounds: must be a whole number >= 1, got few"),
        (["--threads", "-1"], "argument --threads: must be a whole number >= 1, got -1"),
        (["--device", "bogus"], "argument --device: invalid choice: 'bogus'"),
        (["nothing"], "no group nothing; there are limits, "),
    ],
)
def test_wrong_arguments_end_in_a_line(command, capsys, arguments, line):
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2
    assert line in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="the card is here")
def test_a_card_that_is_not_there_ends_in_a_line(command, capsys):
    with pytest.raises(SystemExit) as ended:
        command("limits", "--device", "cuda")
    assert ended.value.code == 2
    assert "device must be auto or one that torch finds here" in capsys.readouterr().err


def test_the_recorded_command_has_the_device_that_was_used(command):
    chosen = argparse.Namespace(rounds=3, threads=None, clock="wall", device="cpu")
    assert command.program.command("limits", chosen) == "python .ci/benchmarks limits --rounds 3 --device cpu"


def test_every_group_is_a_module_with_a_line_and_rows():
    source = (FOLDER / "__main__.py").read_text(encoding="utf-8")
    names = {path.stem for path in FOLDER.glob("[a-z]*.py")}
    groups = {name for name in names if "def rows(run: Run)" in (FOLDER / f"{name}.py").read_text(encoding="utf-8")}
    assert all(f'"{name}"' in source for name in groups)
    assert len(groups) == 13
