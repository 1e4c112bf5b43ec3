"""The prototype's optimizer state: which moments are taken over, and what is said of the others."""

import pytest
import torch

from apelr_model import OptimConfig, Trainer, V1LossWeights, V2LossWeights, load_checkpoint

SUMMED = ("planner.context_proj.bias", "planner.context_proj.weight")


def taken_over(path, version=1):
    """The checkpoint, and the moments of each parameter in a trainer that goes on from it."""
    checkpoint = load_checkpoint(path)
    model = checkpoint.build_model()
    trainer = Trainer(model, OptimConfig(max_steps=100), {1: V1LossWeights, 2: V2LossWeights}[version]())
    state = {**checkpoint.training, "model": checkpoint.model, "step": checkpoint.step}
    trainer.load_state_dict(state, restore_rng=False)
    return checkpoint, {name: trainer.optimizer.state.get(p, {}) for name, p in model.named_parameters()}, trainer


def stored(content, name):
    """Entry i belongs to the i-th tensor of the file."""
    index = list(content["model_state_dict"]).index(name)
    return content["optimizer_state_dict"]["state"][index]


def test_every_moment_of_v1_goes_to_its_parameter(make_content, write):
    content = make_content(1)
    checkpoint, moments, trainer = taken_over(write(content))
    assert trainer.step == checkpoint.step == 60
    pairs = {
        "executor.token_emb.weight": "token_emb.weight",
        "executor.gru.weight_ih_l1": "backbone.weight_ih_l1",
        "planner.initial_logits": "planner_init_logits",
        "planner.transition_logits": "planner_transition_logits",
        "planner.context_proj.weight": "planner_ctx_proj.weight",
        "planner.recognizer.weight": "chunk_post_proj.weight",
        "head.out_proj.weight": "out_proj.weight",
        "head.plan_vocab_bias": "plan_vocab_bias",
    }
    for ours, theirs in pairs.items():
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(moments[ours][name], stored(content, theirs)[name])
        assert moments[ours]["step"] == 60
    assert all(moments.values())
    (notice,) = checkpoint.training_notices
    assert notice.endswith("random number generators start afresh: the prototype did not save their states")


def test_v2_experts_are_joined_and_summed_projections_start_afresh(make_content, write):
    content = make_content(2)
    checkpoint, moments, _ = taken_over(write(content), 2)
    for k in range(3):
        for name in ("exp_avg", "exp_avg_sq"):
            head = moments["head.weight"][name].view(3, 11, 7)[k]
            assert torch.equal(head, stored(content, f"expert_heads.{k}.weight")[name])
            assert torch.equal(moments["head.bias"][name][k], stored(content, f"expert_heads.{k}.bias")[name])
    assert torch.equal(
        moments["planner.future_proj.weight"]["exp_avg"], stored(content, "future_chunk_proj.weight")["exp_avg"]
    )
    assert [name for name, each in moments.items() if not each] == [
        "planner.context_proj.weight",
        "planner.context_proj.bias",
    ]
    assert checkpoint.training_notices[1].endswith(f"does not fit: {', '.join(SUMMED)}")


@pytest.mark.parametrize("version", [1, 2])
def test_training_goes_on_with_and_without_moments(make_content, write, make_batch, device, version):
    _, _, trainer = taken_over(write(make_content(version)), version)
    trainer.model.to(device)
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    assert trainer.train_step(make_batch([9, 7], vocab=11).to(device)).step == 61
    moved = [name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])]
    assert {"planner.context_proj.weight", "executor.token_emb.weight"} <= set(moved)


def test_entries_count_every_tensor_of_the_file_also_those_left_out(make_content, write):
    content = make_content()
    content["model_state_dict"] = {"extra": torch.zeros(2), **content["model_state_dict"]}
    state = content["optimizer_state_dict"]["state"]
    content["optimizer_state_dict"]["state"] = {0: {}, **{index + 1: entry for index, entry in state.items()}}
    path = write(content)
    found = load_checkpoint(path, allow_unexpected=True)
    plain = load_checkpoint(write(make_content()))
    first, second = (c.training["optimizer"]["state"] for c in (found, plain))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[i]["exp_avg"], second[i]["exp_avg"]) for i in first)


@pytest.mark.parametrize("state", ["absent", None])
def test_a_file_without_optimizer_state(make_content, write, state):
    content = make_content()
    if state == "absent":
        content = make_content(metadata=False)
    else:
        content["optimizer_state_dict"] = None
    checkpoint, moments, trainer = taken_over(write(content))
    assert not any(moments.values())
    assert trainer.step == (0 if state == "absent" else 60)
    assert checkpoint.training_notices[1].endswith("no optimizer state: the optimizer starts afresh")


NAN = torch.full((11,), float("nan"))


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(exp_avg=torch.zeros(3)),
        lambda entry: entry.update(exp_avg=torch.zeros(11, dtype=torch.int64)),
        lambda entry: entry.update(exp_avg="text"),
        lambda entry: entry.update(exp_avg=NAN),
        lambda entry: entry.update(exp_avg_sq=-torch.ones(11)),
        lambda entry: entry.pop("exp_avg_sq"),
        lambda entry: entry.update(step="many"),
        lambda entry: entry.update(step=True),
        lambda entry: entry.update(step=torch.tensor(float("nan"))),
        lambda entry: entry.update(step=torch.tensor([1.0, 2.0])),
        lambda entry: entry.pop("step"),
        lambda entry: entry.clear(),
    ],
)
def test_moments_that_do_not_fit_start_afresh_and_are_named(make_content, write, change):
    content = make_content()
    change(stored(content, "out_proj.bias"))
    checkpoint, moments, _ = taken_over(write(content))
    assert [name for name, each in moments.items() if not each] == ["head.out_proj.bias"]
    assert checkpoint.training_notices[1].endswith("what its stored state does not fit: head.out_proj.bias")


def test_experts_whose_moments_are_of_different_steps_start_afresh(make_content, write):
    content = make_content(2)
    stored(content, "expert_heads.1.bias")["step"] = torch.tensor(59.0)
    checkpoint, _, _ = taken_over(write(content), 2)
    assert checkpoint.training_notices[1].endswith(", ".join(("head.bias", *SUMMED)))


@pytest.mark.parametrize(
    "state", [{}, {"state": None}, {"state": []}, {"state": {"0": {}}}, {"state": {0: None, -1: 3}}]
)
def test_states_of_another_form_are_no_moments(make_content, write, state):
    content = make_content()
    content["optimizer_state_dict"] = state
    checkpoint, moments, _ = taken_over(write(content))
    assert not any(moments.values())
    assert "does not fit" in checkpoint.training_notices[1]


def test_a_step_may_be_a_plain_number(make_content, write):
    content = make_content()
    for entry in content["optimizer_state_dict"]["state"].values():
        entry["step"] = 60
    _, moments, _ = taken_over(write(content))
    assert all(each["step"] == 60 for each in moments.values())
