"""Sharded parameters: what cannot be done with them is refused in one line. What they do: test_world.py."""

import pytest

from apelr_model import OptimConfig, Trainer, TransformerConfig, V2Config, V2LossWeights, World, build_model

SIZES = V2Config(
    num_plan_states=2, chunk_size=2, token_dim=4, hidden_dim=4, num_layers=1, executor=TransformerConfig(num_heads=1)
)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"split_interval": 2}, "split_interval must be 0: splits of plan states need whole parameters"),
        ({"skip_non_finite": 1}, "skip_non_finite must be 0: a forward pass that has failed cannot be taken back"),
        ({"precision": "fp16"}, "precision must be fp32 or bf16: the loss scaler needs whole gradients"),
        ({"compile": True}, "compile must be false: compiled layers would not gather their weights"),
    ],
)
def test_what_shards_cannot_do_is_refused(changes, rule, monkeypatch):
    monkeypatch.setattr("apelr_model.training.check_arithmetic", lambda *_: None)
    with pytest.raises(ValueError, match=f"with sharded parameters {rule}"):
        Trainer(build_model(SIZES, 5), OptimConfig(**changes), V2LossWeights(), world=World(0, 2), sharded=True)


def test_one_process_divides_nothing():
    model = build_model(SIZES, 5)
    trainer = Trainer(model, OptimConfig(split_interval=2), V2LossWeights(), sharded=True)
    assert not trainer.is_sharded
    assert trainer.whole_model() is model
