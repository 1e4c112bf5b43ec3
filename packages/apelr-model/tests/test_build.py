"""From configurations to models: parts, sizes, frozen names of the tensors, tied embeddings, checkpoints."""

import dataclasses

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
    build_model,
    load_checkpoint,
    save_checkpoint,
    score,
)
from apelr_model.config import ExecutorSizes
from apelr_model.executor import GRUExecutor
from apelr_model.executor_config import TransformerConfig
from apelr_model.transformer import TransformerExecutor

GRU = {
    "executor.token_emb.weight": (11, 5),
    "executor.gru.weight_ih_l0": (24, 5),
    "executor.gru.weight_hh_l0": (24, 8),
    "executor.gru.bias_ih_l0": (24,),
    "executor.gru.bias_hh_l0": (24,),
}
TRANSFORMER = {
    "executor.token_emb.weight": (11, 5),
    "executor.token_proj.weight": (8, 5),
    "executor.layers.0.attention_norm.weight": (8,),
    "executor.layers.0.attention.qkv.weight": (16, 8),
    "executor.layers.0.attention.out.weight": (8, 8),
    "executor.layers.0.mlp_norm.weight": (8,),
    "executor.layers.0.mlp.gate_up.weight": (24, 8),
    "executor.layers.0.mlp.down.weight": (8, 12),
    "executor.norm.weight": (8,),
}
PLAN = {
    "planner.initial_logits": (3,),
    "planner.transition_logits": (3, 3),
    "planner.context_proj.weight": (3, 8),
    "planner.context_proj.bias": (3,),
}
EXPERTS = {"head.weight": (33, 8), "head.bias": (3, 11)}
OWN = {
    V1Config: {
        **PLAN,
        "planner.recognizer.weight": (3, 8),
        "planner.recognizer.bias": (3,),
        "head.plan_vocab_bias": (3, 11),
        "head.state_proj.weight": (6, 8),
        "head.state_proj.bias": (6,),
        "head.plan_emb.weight": (3, 6),
        "head.plan_proj.weight": (6, 6),
        "head.out_proj.weight": (11, 6),
        "head.out_proj.bias": (11,),
    },
    V2Config: {
        **PLAN,
        "planner.temperature": (),
        "planner.plan_state_emb.weight": (3, 8),
        "planner.future_proj.weight": (8, 8),
        **EXPERTS,
    },
    MixtureOfSoftmaxesConfig: {"planner.gate_proj.weight": (3, 8), "planner.gate_proj.bias": (3,), **EXPERTS},
    TransformerLMConfig: {"head.weight": (11, 8), "head.bias": (1, 11)},
}
SMALL_TRANSFORMER = TransformerConfig(num_heads=2, num_kv_heads=1, mlp_dim=12)


def shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


class TestNames:
    """Checkpoints hold the tensors by these names: none may be renamed without a way for older files."""

    def test_with_a_gru(self, make_model, version):
        assert shapes(make_model(kind=version, hidden_dim=8)) == GRU | OWN[version]

    def test_with_a_transformer(self, make_model, version):
        assert shapes(make_model(kind=version, hidden_dim=8, executor=SMALL_TRANSFORMER)) == TRANSFORMER | OWN[version]

    @pytest.mark.parametrize("kind", [V1Config, V2Config])
    def test_without_boundary_evidence(self, make_model, kind):
        lacking = OWN[kind].keys() - {"planner.context_proj.weight", "planner.context_proj.bias"}
        assert shapes(make_model(kind=kind, hidden_dim=8, boundary_evidence=False)).keys() == GRU.keys() | lacking

    def test_every_tensor_but_the_temperature_is_a_parameter(self, make_model, version):
        model = make_model(kind=version)
        assert set(model.state_dict()) - {name for name, _ in model.named_parameters()} <= {"planner.temperature"}


class TestParts:
    def test_the_executor_is_the_configured_one(self, make_model, version):
        model = make_model(kind=version, num_layers=2, dropout=0.25)
        assert isinstance(model.executor, GRUExecutor)
        assert model.executor.gru.dropout == model.head.dropout.p == 0.25
        other = make_model(kind=version, hidden_dim=8, executor=SMALL_TRANSFORMER)
        assert isinstance(other.executor, TransformerExecutor)
        assert other.executor.config == SMALL_TRANSFORMER

    def test_where_chunks_fall(self, make_model):
        for kind, offset in ((V1Config, 0), (V2Config, 1)):
            chunks = make_model(kind=kind, chunk_size=5).chunks
            assert (chunks.chunk_size, chunks.offset) == (5, offset)

    def test_plan_states(self, make_model):
        counts = [make_model(kind=kind).num_plan_states for kind in OWN]
        assert counts == [3, 3, 3, 1]

    def test_what_reads_the_text_at_boundaries(self, make_model):
        assert make_model(kind=V1Config).planner.summary == "last_state"
        assert make_model(kind=V2Config).planner.summary == "chunk_mean"

    def test_fresh_transitions_prefer_to_stay(self):
        for kind in (V1Config, V2Config):
            logits = build_model(kind(planner_self_bias=1.5, num_plan_states=3), 11).planner.transition_logits
            assert torch.equal(logits.detach(), 1.5 * torch.eye(3))

    @pytest.mark.parametrize("vocab", [-1, 0, 1])
    def test_a_vocabulary_below_two_is_refused(self, vocab):
        with pytest.raises(ValueError, match=rf"^vocab_size must be >= 2, got {vocab}$"):
            build_model(V1Config(), vocab)

    def test_an_unknown_configuration_is_refused(self):
        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Foreign(ExecutorSizes):
            version: str = "other"

        with pytest.raises(TypeError, match=r"^config must be a model configuration, got Foreign$"):
            build_model(Foreign(), 5)


TIED = [
    (V1Config, {"fusion_dim": 5}, "head.out_proj.weight"),
    (TransformerLMConfig, {"hidden_dim": 5}, "head.weight"),
    (TransformerLMConfig, {"hidden_dim": 8, "token_dim": 8, "executor": SMALL_TRANSFORMER}, "head.weight"),
]


@pytest.mark.parametrize(("kind", "sizes", "name"), TIED)
class TestTiedEmbeddings:
    def test_they_are_one_parameter(self, make_model, kind, sizes, name):
        tied, untied = make_model(kind=kind, tie_embeddings=True, **sizes), make_model(kind=kind, **sizes)
        assert tied.get_parameter(name) is tied.executor.token_emb.weight
        assert untied.get_parameter(name) is not untied.executor.token_emb.weight
        saved = untied.executor.token_emb.weight.numel()
        assert sum(p.numel() for p in tied.parameters()) == sum(p.numel() for p in untied.parameters()) - saved

    def test_the_gradient_comes_from_both_uses(self, make_model, kind, sizes, name):
        """It is the sum of those of an embedding and an output matrix of the same values."""
        tied, untied = make_model(kind=kind, tie_embeddings=True, **sizes), make_model(kind=kind, **sizes)
        untied.load_state_dict(tied.state_dict())
        ids = torch.randint(0, 11, (2, 9), generator=torch.Generator().manual_seed(0)).to(tied.device)
        for model in (tied, untied):
            model.read(ids[:, :-1], ids[:, 1:]).filtered.token_log_prob.sum().backward()
        parts = untied.executor.token_emb.weight.grad, untied.get_parameter(name).grad
        assert all(bool((part != 0).any()) for part in parts)
        torch.testing.assert_close(tied.get_parameter(name).grad, parts[0] + parts[1])

    def test_they_stay_one_through_training_and_a_checkpoint(self, make_model, make_batch, tmp_path, kind, sizes, name):
        model = make_model(kind=kind, tie_embeddings=True, **sizes)
        weights = V1LossWeights() if kind is V1Config else NoLossWeights()
        trainer = Trainer(model, OptimConfig(warmup_steps=0), weights)
        for step in range(2):
            trainer.train_step(make_batch([7, 4], seed=step))
        saved = Checkpoint(model_config=model.config, vocab_size=11, step=2, model=model.state_dict())
        found = load_checkpoint(save_checkpoint(tmp_path, saved)).build_model()
        assert found.get_parameter(name) is found.executor.token_emb.weight
        assert torch.equal(found.get_parameter(name), model.get_parameter(name).cpu())
        torch.testing.assert_close(score(found, [1, 2, 3]).log_prob, score(model, [1, 2, 3]).log_prob.cpu())

    def test_a_fresh_one_gives_logits_of_order_one(self, make_model, kind, sizes, name):
        wide = {"token_dim": 256, **{key: 256 for key in sizes if key.endswith("_dim")}}
        executor = {key: value for key, value in sizes.items() if key == "executor"}
        model = make_model(kind=kind, vocab=500, tie_embeddings=True, **{**wide, **executor})
        assert model.get_parameter(name).std().item() == pytest.approx(256**-0.5, rel=0.05)


class TestCheckpoints:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_every_version_comes_back(self, make_model, tmp_path, version, executor_sizes, dtype):
        model = make_model(kind=version, dtype=dtype, **executor_sizes)
        saved = Checkpoint(model_config=model.config, vocab_size=11, step=3, model=model.state_dict())
        loaded = load_checkpoint(save_checkpoint(tmp_path, saved))
        assert loaded.model_config == model.config
        found = loaded.build_model(model.device)
        for name, tensor in model.state_dict().items():
            assert torch.equal(found.state_dict()[name], tensor), name
            assert found.state_dict()[name].dtype == tensor.dtype
        if dtype == torch.float32:
            assert torch.equal(score(found, [1, 2, 3, 4]).log_prob, score(model, [1, 2, 3, 4]).log_prob)

    def test_the_temperature_of_the_saved_step_is_in_the_file(self, make_model, tmp_path):
        model = make_model(kind=V2Config, plan_temperature_start=2.0, plan_temperature_end=1.0, dtype=torch.float32)
        model.set_schedule(3, 10)
        saved = Checkpoint(model_config=model.config, vocab_size=11, step=3, model=model.state_dict())
        found = load_checkpoint(save_checkpoint(tmp_path, saved)).build_model()
        assert found.policy == model.policy
        assert found.policy.temperature == pytest.approx(1.7)
