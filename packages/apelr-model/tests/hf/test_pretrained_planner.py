"""A planner on a Llama of random weights: built, trained, filtered, continued, kept and read back."""

import itertools
import json
import math

import pytest
import torch

from apelr_model import (
    CheckpointError,
    FactorizedHeadConfig,
    OptimConfig,
    SamplingSettings,
    Trainer,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    generate,
    score,
)

pytest.importorskip("transformers", reason="the extra apelr-model[transformers] is not installed")

import transformers

from apelr_model.hf import PretrainedExecutor, load_planner, planner_on, save_planner

IDS = [3, 5, 7, 9, 4, 6, 8, 10, 3, 3, 5, 1, 2]
SIZES = {"num_plan_states": 3, "chunk_size": 4}
CONFIGS = {
    "V1": V1Config(fusion_dim=6, **SIZES),
    "V2 dense": V2Config(**SIZES),
    "V2 factorized": V2Config(head=FactorizedHeadConfig(rank=1), **SIZES),
}


def llama(seed=0, **sizes):
    torch.manual_seed(seed)
    widths = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=11, **widths, num_key_value_heads=2, **sizes)
    base = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in base.parameters():
            if parameter.ndim > 1:
                parameter.mul_(15)  # so that every id matters
    return base


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


@pytest.fixture
def model(config, device):
    return planner_on(llama().to(device), config).eval()


def train(model, make_batch, steps=6):
    kind = V1LossWeights if isinstance(model.config, V1Config) else V2LossWeights
    trainer = Trainer(model, OptimConfig(max_steps=steps, lr=0.01, warmup_steps=0), kind())
    return [trainer.train_step(make_batch([12, 7, 12], seed=step % 2)).terms["nll"] for step in range(steps)]


@torch.no_grad()
def test_reading_at_once_equals_step_by_step(model, device):
    """Beliefs and predictions, in single precision."""
    wanted = score(model, IDS)
    state, log_probs, beliefs = model.initial_state(1), [], []
    for here, after in itertools.pairwise(IDS):
        prediction = model.predict(torch.tensor([here], device=device), state)
        log_probs.append(prediction.log_probs[0, after].double())
        beliefs.append(prediction.log_belief[0])
        state = model.observe(prediction, torch.tensor([after], device=device))
    torch.testing.assert_close(torch.stack(log_probs), wanted.log_prob, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.stack(beliefs), wanted.log_belief, rtol=0, atol=1e-5)


def test_it_generates_rows_of_any_length(model):
    prompts = [IDS, [4], [6, 6, 6]]
    together = list(generate(model, prompts, SamplingSettings(), max_new_tokens=6, seeds=[1, 2, 3]))
    for row, prompt in enumerate(prompts):
        alone = list(generate(model, [prompt], SamplingSettings(), max_new_tokens=6, seeds=[row + 1]))
        assert [token.id for token in together if token.row == row] == [token.id for token in alone]


def test_a_frozen_base_stays_what_it_is(model, make_batch):
    base = model.executor.base
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    model.train()
    assert model.head.training
    assert not base.training
    losses = train(model, make_batch)
    assert losses[-1] < losses[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in base.parameters())


def test_the_optimizer_holds_nothing_of_a_frozen_base(model):
    trainer = Trainer(
        model, OptimConfig(max_steps=2), V1LossWeights() if model.config.version[:2] == "v1" else V2LossWeights()
    )
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for name, p in model.named_parameters() if not name.startswith("executor.")}


def test_a_base_that_is_not_frozen_is_trained(make_batch, device):
    model = planner_on(llama().to(device), CONFIGS["V2 factorized"], freeze=False)
    before = [tensor.clone() for tensor in model.executor.base.model.state_dict().values()]
    losses = train(model, make_batch)
    assert losses[-1] < losses[0]
    assert not any(map(torch.equal, model.executor.base.model.state_dict().values(), before))
    assert model.executor.base.training


def test_like_base_it_begins_with_the_predictions_of_the_base(device):
    base = llama().to(device)
    model = planner_on(base, V2Config(head=FactorizedHeadConfig(init_std=0.0), **SIZES), like_base=True)
    row = torch.tensor([IDS], device=device)
    with torch.no_grad():
        wanted = base(row).logits[0, :-1].log_softmax(-1).gather(1, row[0, 1:, None]).squeeze(1)
    torch.testing.assert_close(score(model, IDS).log_prob.float(), wanted, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"^like_base needs a factorized head and a base model with an output layer$"):
        planner_on(base, V2Config(**SIZES), like_base=True)


@pytest.mark.parametrize("changes", [{"logits_scaling": 8.0}, {"final_logit_softcapping": 0.5}])
def test_like_base_is_refused_where_the_base_changes_its_logits(changes):
    """Scaled in Granite, capped in Gemma 2."""
    widths = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    name = "Granite" if "logits_scaling" in changes else "Gemma2"
    made = getattr(transformers, f"{name}Config")(vocab_size=11, num_key_value_heads=1, **widths, **changes)
    base = getattr(transformers, f"{name}ForCausalLM")(made).train()
    with pytest.raises(ValueError, match=rf"^like_base cannot be: {name}ForCausalLM does more to its logits"):
        planner_on(base, CONFIGS["V2 factorized"], freeze=False, like_base=True)
    assert base.training
    assert planner_on(base, CONFIGS["V2 factorized"]).executor.freeze  # without like_base it serves


def test_a_base_that_was_frozen_before_is_trained_where_that_is_asked_for():
    base = llama()
    planner_on(base, CONFIGS["V2 dense"])
    base.lm_head.requires_grad_()
    planner_on(base, CONFIGS["V2 dense"], freeze=False)
    assert sum(parameter.requires_grad for parameter in base.parameters()) == 1  # the user's choice
    planner_on(base, CONFIGS["V2 dense"])
    planner_on(base, CONFIGS["V2 dense"], freeze=False)
    assert all(parameter.requires_grad for parameter in base.parameters())


def test_a_base_that_sees_the_future_or_narrows_its_states_is_refused():
    widths = {"vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = transformers.BertConfig(**widths, intermediate_size=24)
    with pytest.raises(ValueError, match=r"^BertLMHeadModel sees ids before they come: it is no decoder$"):
        PretrainedExecutor(transformers.BertLMHeadModel(bert))
    bert.is_decoder = True
    assert PretrainedExecutor(transformers.BertLMHeadModel(bert)).hidden_dim == 16
    opt = transformers.OPTConfig(**widths, ffn_dim=24, word_embed_proj_dim=8)
    with pytest.raises(ValueError, match=r"^OPTForCausalLM has hidden states of width 8, not its hidden_size$"):
        PretrainedExecutor(transformers.OPTForCausalLM(opt))


def test_a_base_in_half_precision_serves_a_planner_in_full(device):
    model = planner_on(llama().to(device, torch.bfloat16), CONFIGS["V2 dense"])
    hidden, _ = model.executor(torch.tensor([IDS], device=device), None)
    assert hidden.dtype == model.head.weight.dtype == torch.float32
    assert model.executor.base.dtype == torch.bfloat16
    assert math.isfinite(score(model, IDS).log_prob.sum())


@pytest.mark.parametrize("named", [True, False], ids=["a named base", "a base of its own"])
def test_saved_and_read_back_it_scores_the_same(config, tmp_path, named):
    base = llama()
    if named:
        base.save_pretrained(tmp_path / "llama")
        base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "llama")
    model = planner_on(base, config).eval()
    save_planner(model, tmp_path / "planner")
    files = {path.name for path in (tmp_path / "planner").iterdir()}
    assert files == {"planner.json", "planner.safetensors"} | (set() if named else {"base"})
    loaded = load_planner(tmp_path / "planner")
    assert loaded.config == model.config
    assert loaded.executor.freeze
    torch.testing.assert_close(score(loaded, IDS).log_prob, score(model, IDS).log_prob, rtol=0, atol=1e-6)
    given = load_planner(tmp_path / "planner", base=llama())
    torch.testing.assert_close(score(given, IDS).log_prob, score(model, IDS).log_prob, rtol=0, atol=1e-6)


def test_a_trained_base_is_written_even_where_it_has_a_name(tmp_path):
    llama().save_pretrained(tmp_path / "llama")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "llama")
    save_planner(planner_on(base, CONFIGS["V2 dense"], freeze=False), tmp_path / "planner")
    assert (tmp_path / "planner" / "base" / "model.safetensors").exists()
    assert not load_planner(tmp_path / "planner").executor.freeze


def test_what_cannot_be_built_or_kept_is_refused_in_one_line(tmp_path, planner):
    with pytest.raises(ValueError, match=r"^tie_embeddings must be false on a pretrained executor$"):
        planner_on(llama(), V1Config(tie_embeddings=True, fusion_dim=128, token_dim=128))
    with pytest.raises(ValueError, match=r"^save_planner is for a planner on a pretrained executor, got Transformer"):
        save_planner(planner, tmp_path / "planner")
    mamba = transformers.MambaConfig(vocab_size=11, hidden_size=8, num_hidden_layers=1, state_size=4)
    with pytest.raises(ValueError, match=r"^MambaForCausalLM keeps more than keys and values"):
        PretrainedExecutor(transformers.MambaForCausalLM(mamba))
    t5 = transformers.T5Config(vocab_size=11, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    with pytest.raises(ValueError, match=r"^T5ForConditionalGeneration is no decoder"):
        PretrainedExecutor(transformers.T5ForConditionalGeneration(t5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "x"}, "key 'format' must be 'apelr-planner'$"),
        ({"format_version": 2}, "key 'format_version' must be 1"),
        ({"vocab_size": "11"}, "key 'vocab_size' is missing or of another type$"),
        ({"vocab_size": 12}, "needs a base model of 12 ids, got 11$"),
        ({"model_config": {"version": "transformer_lm"}}, "must be that of a planner, got 'transformer_lm'$"),
        ({"model_config": {"version": "v1_filtered_mixture", "x": 1}}, "its model_config is not valid"),
    ],
)
def test_a_folder_that_is_not_what_it_says_is_refused(tmp_path, changes, message):
    save_planner(planner_on(llama(), CONFIGS["V2 dense"]), tmp_path / "planner")
    path = tmp_path / "planner" / "planner.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=message):
        load_planner(tmp_path / "planner", base=llama())


def test_damaged_and_foreign_weights_are_refused(tmp_path):
    save_planner(planner_on(llama(), CONFIGS["V2 dense"]), tmp_path / "planner")
    save_planner(planner_on(llama(), CONFIGS["V1"]), tmp_path / "other")
    weights = tmp_path / "planner" / "planner.safetensors"
    weights.write_bytes((tmp_path / "other" / "planner.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="lacks the tensors"):
        load_planner(tmp_path / "planner", base=llama())
    weights.write_bytes(b"\0" * 20)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_planner(tmp_path / "planner", base=llama())
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_planner(tmp_path / "nothing")
