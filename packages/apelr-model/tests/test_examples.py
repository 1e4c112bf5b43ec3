"""The examples of docs/reuse.md: short, on torch alone, and what they say of themselves is so."""

import ast
import importlib.util
import io
import itertools
import re
import sys
from pathlib import Path

import pytest
import torch

from apelr_model import compare_plans, filter_sequence, fixed_lag_plans, plan_trellis, score

FOLDER = Path(__file__).resolve().parent.parent / "examples"
PATHS = sorted(FOLDER.glob("*.py"))


@pytest.fixture(scope="module")
def example():
    """A function that imports an example by its name, once."""

    def load(name):
        if name not in loaded:
            spec = importlib.util.spec_from_file_location(f"apelr_example_{name}", FOLDER / f"{name}.py")
            loaded[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded[name])
        return loaded[name]

    loaded = {}
    return load


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_an_example_is_short_and_needs_torch_alone(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    tops = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert tops <= {"torch", "apelr_model", *sys.stdlib_module_names}
    assert "apelr_model" in tops


def test_regimes_are_found_without_being_told(example, capsys):
    accuracy, learnt = example("regimes").main()
    assert accuracy > 0.98
    assert (learnt - example("regimes").TRUE_TRANSITION).abs().max() < 0.1
    printed = capsys.readouterr().out
    losses = [float(found) for found in re.findall(r"([-\d.]+) nats a value", printed)]
    assert losses[0] > losses[1] > losses[2]
    assert f"{accuracy:.1%} of the periods of new series" in printed


def test_density_of_the_series_is_that_of_the_normal_distribution(example):
    model = example("regimes").SwitchingSeries(num_regimes=3)
    series = torch.tensor([[0.3, 1.0, -2.0]])
    mean, log_scale = model.network(torch.tensor([[1.0]])).chunk(2, dim=-1)
    expected = -0.5 * ((-2.0 - mean) / log_scale.exp()) ** 2 - log_scale - 0.5 * torch.tensor(2 * torch.pi).log()
    torch.testing.assert_close(model.chain(series)[0][:, 1], expected)


@pytest.fixture(scope="module")
def counting_model(example):
    return example("own_executor").main()


def test_a_planner_over_a_convolution_learns_the_plans(example, counting_model):
    batch, plans = example("own_executor").counting(count=32, chunks=6, seed=1000)
    with torch.no_grad():
        filtered = counting_model.read(batch.inputs, batch.targets).filtered
    # A guess at random costs log 12 = 2.48 nats; knowing the plans from the start it would cost 1.35.
    assert -filtered.token_log_prob.mean() < 1.6
    ends = slice(example("own_executor").CHUNK - 2, None, example("own_executor").CHUNK)
    assert compare_plans(plans, filtered.log_belief_after.argmax(-1)).accuracy > 0.85
    assert compare_plans(plans[:, ends], filtered.log_belief_after.argmax(-1)[:, ends]).accuracy > 0.97


def test_a_planner_over_a_convolution_samples_what_it_learnt(example, counting_model):
    own = example("own_executor").apelr
    settings = own.SamplingSettings(temperature=0.0)
    tokens = list(own.generate(counting_model, [[5]], settings, max_new_tokens=40, seeds=[0]))
    ids = [5, *(token.id for token in tokens)]
    steps = [(b - a) % example("own_executor").VOCAB for a, b in itertools.pairwise(ids)]
    assert set(steps) <= set(example("own_executor").STRIDES.tolist())
    scored = score(counting_model, ids).log_prob
    torch.testing.assert_close(scored, torch.tensor([t.log_prob for t in tokens]).to(scored), rtol=0, atol=1e-4)


def test_a_live_stream_tells_what_the_whole_text_tells(example):
    live = example("live_beliefs")
    events = ["ok", "ok", "ok", "slow", "slow", "fail", "fail", "fail", "fail", "ok", "ok", "ok", "slow"]
    first = list(live.watch(events[:5], stream := live.new_stream()))
    seen = first + list(live.watch(events[5:], live.new_stream(stream.state)))  # stopped, and gone on elsewhere

    found = live.EMISSION.log()[:, [live.EVENTS.index(event) for event in events]].T.unsqueeze(0)
    tables = live.INITIAL.log(), live.TRANSITION.log(), [t // live.SECONDS for t in range(len(events))]
    whole = filter_sequence(found, *tables)
    beliefs = torch.stack([each.belief for each in seen])
    torch.testing.assert_close(beliefs, whole.log_belief_after[0].exp(), rtol=0, atol=1e-10)
    surprises = torch.tensor([each.surprise for each in seen], dtype=torch.float64)
    torch.testing.assert_close(surprises, -whole.token_log_prob[0], rtol=0, atol=1e-7)

    lagged = fixed_lag_plans(plan_trellis(found[:, :12], *tables[:2], tables[2][:12]), lag=1)[0].exp()
    torch.testing.assert_close(seen[11].hindsight, lagged[2], rtol=0, atol=1e-10)
    ahead = seen[8].belief @ live.TRANSITION.double()
    torch.testing.assert_close(seen[8].forecast[0], ahead, rtol=0, atol=1e-7)
    assert seen[8].belief[live.STATES.index("down")] > 0.99
    assert seen[2].belief[live.STATES.index("healthy")] > 0.95


def test_the_page_shows_what_a_live_stream_prints(example, monkeypatch, capsys):
    page = (FOLDER.parents[2] / "docs" / "reuse.md").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(re.search(r"printf '(.*)'", page)[1]))
    example("live_beliefs").main()
    assert capsys.readouterr().out in page


def test_a_live_stream_is_printed_event_by_event(example, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("ok ok\nfail\nfail fail"))
    example("live_beliefs").main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["event", "ok", "ok", "fail", "fail", "fail"]
    assert re.search(r"down  (9\d|100)%", re.sub(r" +", "  ", lines[-1]))
    with pytest.raises(ValueError, match="must be one of ok, slow, fail, got 'fine'"):
        list(example("live_beliefs").watch(["fine"], example("live_beliefs").new_stream()))
