import pytest
import torch

from apelr_cli import benchmark_works
from apelr_cli.benchmark_works import (
    control_of,
    decoding,
    evaluation,
    planner_part,
    random_batch,
    training_steps,
)
from apelr_model import (
    MixtureOfSoftmaxesConfig,
    OptimConfig,
    TransformerConfig,
    TransformerLMConfig,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    build_model,
    mean_nll,
)

SIZES = {"token_dim": 6, "hidden_dim": 8}


@pytest.fixture
def model(device):
    torch.manual_seed(0)
    return build_model(V2Config(num_plan_states=3, chunk_size=4, **SIZES), 20).to(device)


def test_a_batch_is_full_and_shifted_by_one(model):
    batch = random_batch(model, 3, 7)
    assert batch.inputs.shape == batch.targets.shape == (3, 7)
    assert batch.lengths.tolist() == [7, 7, 7]
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert int(batch.inputs.max()) < 20
    assert torch.equal(batch.inputs, random_batch(model, 3, 7).inputs)


def test_each_call_makes_one_step(model):
    steps = training_steps(model, OptimConfig(warmup_steps=0), V2LossWeights(), random_batch(model, 2, 9))
    before = model.head.weight.clone()
    assert [steps().step for _ in range(3)] == [1, 2, 3]
    assert not torch.equal(before, model.head.weight)


@pytest.mark.parametrize("kind", [V1Config, V2Config, MixtureOfSoftmaxesConfig])
def test_the_planner_s_part_reads_and_differentiates_the_same_nll(device, kind, monkeypatch):
    model = build_model(kind(num_plan_states=3, **SIZES), 20).to(device)
    batch = random_batch(model, 2, 9)
    seen = []
    gradients = torch.autograd.grad

    def kept(loss, parts, **settings):
        found = gradients(loss, parts, **settings)
        seen.append((float(loss.detach()), found))
        return found

    monkeypatch.setattr(benchmark_works.torch.autograd, "grad", kept)
    part = planner_part(model, OptimConfig(), batch)
    part()
    part()
    (nll, found), again = seen
    assert nll == pytest.approx(mean_nll(model, [batch]).nll, abs=1e-5)
    assert again[0] == nll
    of_hidden, of_log_probs = found[:2]
    assert of_hidden is None or of_hidden.shape == (2, 9, 8)
    assert of_log_probs.sum() == pytest.approx(-1, abs=1e-4)  # the gates' weights, over all targets


def test_the_planner_s_part_commits_as_training_does_at_its_step(device, monkeypatch):
    config = V2Config(
        num_plan_states=3,
        plan_commitment="gumbel_st",
        commitment_ramp_steps=80,
        plan_temperature_start=3.0,
        plan_temperature_end=1.0,
        **SIZES,
    )
    model = build_model(config, 20).to(device)
    seen = []
    read = model.planner.read

    def kept(*arguments, **settings):
        seen.append((model.planner.training, model.planner.hard_fraction, arguments[3].temperature))
        return read(*arguments, **settings)

    part = planner_part(model, OptimConfig(max_steps=100), random_batch(model, 2, 9), step=50)
    monkeypatch.setattr(model.planner, "read", kept)
    model.eval()
    part()
    assert seen == [(True, 51 / 80, 2.0)]


def test_steps_go_on_after_those_that_were_made(model):
    steps = training_steps(model, OptimConfig(), V2LossWeights(), random_batch(model, 2, 9), step=41)
    assert [steps().step for _ in range(2)] == [42, 43]


def test_evaluation_is_the_nll(model):
    batch = random_batch(model, 2, 9)
    assert evaluation(model, batch)().nll == mean_nll(model, [batch]).nll


@pytest.mark.parametrize(("prompts", "expected"), [(None, [[1]] * 3), ([[1], [2, 3], [4]], [[1], [2, 3], [4]])])
def test_decoding_draws_every_token(model, monkeypatch, prompts, expected):
    drawn = []

    def counted(*arguments, **settings):
        assert arguments[1] == expected
        for token in real(*arguments, **settings):
            drawn.append(token)
            yield token

    real = benchmark_works.generate
    monkeypatch.setattr(benchmark_works, "generate", counted)
    decoding(model, 3, 5, prompts=prompts)()
    assert len(drawn) == 3 * 5


@pytest.mark.parametrize(
    "config",
    [
        V1Config(num_layers=2, dropout=0.1, **SIZES),
        V2Config(executor=TransformerConfig(num_heads=2, mlp_dim=12), **SIZES),
    ],
)
def test_the_control_has_the_same_executor(config):
    model = build_model(config, 20)
    control = control_of(model)
    assert isinstance(control.config, TransformerLMConfig)
    shapes = [{n: p.shape for n, p in each.executor.named_parameters()} for each in (model, control)]
    assert shapes[0] == shapes[1]
    assert control.config.dropout == config.dropout
    assert control.vocab_size == 20


def test_weights_of_v1_fit_its_steps(device):
    model = build_model(V1Config(**SIZES), 20).to(device)
    assert training_steps(model, OptimConfig(), V1LossWeights(), random_batch(model, 2, 9))().targets == 18
