"""`compile` and `fused_adamw` change how fast a training step is, and nothing else but rounding."""

import copy

import pytest
import torch

from apelr_model import (
    NoLossWeights,
    OptimConfig,
    SamplingSettings,
    Trainer,
    TransformerConfig,
    TransformerLMConfig,
    V2Config,
    V2LossWeights,
    build_model,
    check_arithmetic,
    generate,
)

SIZES = {"token_dim": 16, "hidden_dim": 16, "num_layers": 1, "dropout": 0.0}
TRANSFORMER = TransformerConfig(num_heads=2)


def make_trainer(device, kind=TransformerLMConfig, executor=TRANSFORMER, dtype=torch.float32, **optim):
    torch.manual_seed(0)
    planner = {"num_plan_states": 3, "chunk_size": 4} if kind is V2Config else {}
    model = build_model(kind(**SIZES, **planner, executor=executor), 11).to(device=device, dtype=dtype)
    weights = V2LossWeights() if kind is V2Config else NoLossWeights()
    return Trainer(model, OptimConfig(**{"max_steps": 20, "warmup_steps": 0, "lr": 1e-2, **optim}), weights)


@pytest.fixture(scope="module")
def compiler(device):
    """Where `torch.compile` makes no code, what it makes cannot be tested."""
    try:
        check_arithmetic(OptimConfig(compile=True), device)
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("compiler")
def test_compiled_training_equals_eager_training(device, make_batch):
    """Losses and gradient norms, step after step; the names of the parameters, and text."""
    eager, compiled = (make_trainer(device, V2Config, compile=on) for on in (False, True))
    names = list(eager.model.state_dict())
    for step in range(4):
        batch = make_batch([8, 8, 8], seed=step)
        wanted, found = (trainer.train_step(batch) for trainer in (eager, compiled))
        assert found.loss == pytest.approx(wanted.loss, rel=1e-5)
        assert found.grad_norm == pytest.approx(wanted.grad_norm, rel=1e-4)
    assert list(compiled.model.state_dict()) == names, "a checkpoint's names do not tell how it was trained"
    compiled.model.load_state_dict(eager.model.state_dict())
    texts = [
        [token.id for token in generate(trainer.model, [[1, 2]], SamplingSettings(), max_new_tokens=5, seeds=[0])]
        for trainer in (eager, compiled)
    ]
    assert texts[0] == texts[1]


@pytest.mark.usefixtures("compiler")
def test_compiled_code_is_used_in_training_and_only_there(device, make_batch):
    trainer = make_trainer(device, compile=True)
    calls = []
    executor = trainer.model.executor
    executor._compiled = [
        lambda *arguments, layer=layer: calls.append(1) or layer(*arguments) for layer in executor.layers
    ]
    trainer.train_step(make_batch([8, 8], seed=0))
    assert len(calls) == 1
    with torch.no_grad():
        trainer.model.read(*make_batch([8, 8], seed=0)[:2])
    assert len(calls) == 1


def test_a_recurrent_executor_is_not_compiled(make_model):
    with pytest.raises(
        ValueError, match=r"^compile true is for transformer executors: PyTorch compiles nothing of a GRU"
    ):
        make_model().executor.compile_training()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_fused_update_equals_the_plain_one(device, make_batch, dtype):
    if device.type == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    plain, fused = (
        make_trainer(device, V2Config, dtype=dtype, weight_decay=0.3, fused_adamw=on) for on in (False, True)
    )
    for step in range(5):
        for trainer in (plain, fused):
            trainer.train_step(make_batch([8, 5, 8], seed=step))
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for wanted, found in zip(plain.model.parameters(), fused.model.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def test_the_fused_update_gives_the_same_bits_every_time(device, make_batch):
    states = []
    for _ in range(2):
        trainer = make_trainer(device, V2Config)
        for step in range(3):
            trainer.train_step(make_batch([8, 8], seed=step))
        states.append(trainer.model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("before", [True, False])
def test_a_state_of_either_update_can_be_taken_up_by_the_other(device, make_batch, before):
    first = make_trainer(device, V2Config, fused_adamw=before)
    first.train_step(make_batch([8, 8], seed=0))
    state = copy.deepcopy(first.state_dict())
    going_on = [make_trainer(device, V2Config, fused_adamw=fused) for fused in (before, not before)]
    for trainer in going_on:
        trainer.load_state_dict(copy.deepcopy(state))
        trainer.train_step(make_batch([8, 8], seed=1))
    assert [trainer.optimizer.param_groups[0]["fused"] for trainer in going_on] == [before, not before]
    for wanted, found in zip(*(trainer.model.parameters() for trainer in going_on), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
