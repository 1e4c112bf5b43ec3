"""Training of every version with both executors: parity with scoring, exact resumption, learning, precisions."""

import pytest
import torch

from apelr_model import (
    Checkpoint,
    MixtureOfSoftmaxesConfig,
    NoLossWeights,
    OptimConfig,
    Trainer,
    TransformerLMConfig,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    evaluate,
    load_checkpoint,
    save_checkpoint,
    score,
)
from apelr_model.executor_config import TransformerConfig
from apelr_model.objective import loss_terms

WEIGHTS = {
    V1Config: V1LossWeights(usage_balance_weight=0.1, chunk_bow_weight=0.1, plan_mi_weight=0.1),
    V2Config: V2LossWeights(
        usage_balance=0.1, boundary_entropy=0.1, future_contrastive=0.1, plan_js_div=0.1, rep_unlikelihood=0.1
    ),
    MixtureOfSoftmaxesConfig: NoLossWeights(),
    TransformerLMConfig: NoLossWeights(),
}
EXTRA = {
    V2Config: {
        "plan_commitment": "gumbel_st",
        "commitment_warmup_steps": 1,
        "commitment_ramp_steps": 3,
        "plan_temperature_start": 2.0,
        "plan_temperature_end": 0.5,
        "lookahead_feedback_scale": 0.3,
    }
}
OWN_POLICIES = [
    {},
    {"planner_temperature": 0.5, "lookahead_feedback_scale": 0.4, "lookahead_horizon": 2},
    {"token_filtering": False},
]
NLL_ALONE = {V1Config: V1LossWeights(), V2Config: V2LossWeights()}


def texts(batch):
    """Each row's ids, its last target included."""
    return [
        [*batch.inputs[row, :length].tolist(), int(batch.targets[row, length - 1])]
        for row, length in enumerate(batch.lengths.tolist())
    ]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_training_evaluation_and_scoring_have_one_nll(
    make_model, make_batch, version, executor_sizes, dtype, tolerance
):
    for policy in OWN_POLICIES if version is V2Config else [{}]:
        model = make_model(kind=version, dtype=dtype, **executor_sizes, **policy)
        batch = make_batch([12, 5, 9])
        trained = loss_terms(model.train(), batch, NoLossWeights()).nll.item()
        scored = [value for ids in texts(batch) for value in score(model, ids).log_prob.tolist()]
        assert trained == pytest.approx(-sum(scored) / len(scored), abs=tolerance)
        assert evaluate(model, [batch]).nll == pytest.approx(trained, abs=tolerance)
        report = Trainer(model, OptimConfig(), NLL_ALONE.get(version, NoLossWeights())).train_step(batch)
        assert report.loss == pytest.approx(trained, abs=tolerance)


@pytest.mark.parametrize("steps_before", [0, 3])
def test_an_interrupted_run_equals_the_uninterrupted_one_bit_for_bit(
    make_model, make_batch, tmp_path, version, executor_sizes, steps_before
):
    """Dropout, accumulation, schedules, commitments and documents on, through a file."""
    sizes = {"kind": version, "dropout": 0.2, "dtype": torch.float32, **executor_sizes, **EXTRA.get(version, {})}
    optim = OptimConfig(max_steps=5, warmup_steps=2, lr=1e-2, grad_accum_steps=2)

    def batch(step):
        return make_batch([10, 3, 7, 9], seed=step, documents=[[4, 6], [3], [2, 5], [9]])

    def start(seed):
        return Trainer(make_model(seed=seed, **sizes), optim, WEIGHTS[version])

    torch.manual_seed(1)
    whole = start(0)
    reports = [whole.train_step(batch(step)) for step in range(5)]
    torch.manual_seed(1)
    first = start(0)
    made = [first.train_step(batch(step)) for step in range(steps_before)]
    state = first.state_dict()
    model = state.pop("model")
    config = first.model.config
    save_checkpoint(
        tmp_path, Checkpoint(model_config=config, vocab_size=11, step=first.step, model=model, training=state)
    )
    torch.manual_seed(12345)
    second = start(99)
    loaded = load_checkpoint(tmp_path)
    assert loaded.model_config == config
    second.load_state_dict({"model": loaded.model, **loaded.training})
    made += [second.train_step(batch(step)) for step in range(steps_before, 5)]
    assert made == reports
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_version_learns_a_fixed_text(make_model, make_batch, version, executor_sizes, precision):
    model = make_model(kind=version, dtype=torch.float32, **executor_sizes)
    optim = OptimConfig(lr=5e-2, warmup_steps=0, max_steps=100, precision=precision)
    trainer = Trainer(model, optim, NoLossWeights())
    batch = make_batch([10] * 4, seed=1)
    nlls = [trainer.train_step(batch).terms["nll"] for _ in range(20)]
    assert nlls[-1] < 0.8 * nlls[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("kind", [V1Config, V2Config])
def test_activation_checkpointing_changes_no_gradient(make_model, make_batch, kind):
    found = []
    for recompute in (False, True):
        executor = TransformerConfig(num_heads=2, mlp_dim=12, activation_checkpointing=recompute)
        model = make_model(kind=kind, hidden_dim=8, num_layers=2, executor=executor, dropout=0.1)
        trainer = Trainer(model, OptimConfig(grad_clip=0.0), WEIGHTS[kind])
        torch.manual_seed(2)
        report = trainer.train_step(make_batch([9, 6]))
        found.append((report, [p.grad for p in model.parameters()]))
    assert found[0][0].loss == pytest.approx(found[1][0].loss, abs=1e-12)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_weights_of_another_version_change_nothing(make_model, make_batch):
    trainer = Trainer(make_model(kind=V2Config), OptimConfig(), V1LossWeights())
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    with pytest.raises(ValueError, match=r"^loss weights of v1_filtered_mixture do not fit a v2_planner_required$"):
        trainer.train_step(make_batch([5, 3]))
    assert trainer.step == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())
