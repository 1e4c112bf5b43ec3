"""A checkpoint in two parts: plain data and tensors, and back."""

import json
from dataclasses import replace

import pytest
import torch

from apelr_model import (
    Checkpoint,
    CheckpointError,
    TransformerLMConfig,
    V1Config,
    V2Config,
    build_model,
    checkpoint_from_parts,
    describe_checkpoint,
    portable_tensors,
)

TIED = {"token_dim": 8, "hidden_dim": 8, "tie_embeddings": True}
CONFIGS = [V2Config(hidden_dim=8), V1Config(fusion_dim=8, **TIED), TransformerLMConfig(**TIED)]


def of(config):
    model = build_model(config, 11)
    more = {"tokenizer": "text", "tokenizer_fingerprint": "f", "run_config": {"seed": 1, "lr": 1e-3}}
    return Checkpoint(model_config=config, vocab_size=11, step=5, model=model.state_dict(), **more)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.version)
def test_the_parts_make_the_checkpoint_again_bit_for_bit(config):
    checkpoint = of(config)
    description = json.loads(json.dumps(describe_checkpoint(checkpoint)))
    tensors = portable_tensors(checkpoint)
    assert len({tensor.data_ptr() for tensor in tensors.values()}) == len(tensors)  # tied ones are there once
    found = checkpoint_from_parts(description, tensors, "here", tokenizer="text")
    assert describe_checkpoint(found) == describe_checkpoint(checkpoint)
    assert found.tokenizer == "text"
    assert found.model.keys() == checkpoint.model.keys()
    assert all(torch.equal(tensor, checkpoint.model[name]) for name, tensor in found.model.items())


def test_tensors_that_are_missing_unknown_or_no_numbers_are_named():
    checkpoint = of(CONFIGS[0])
    description, tensors = describe_checkpoint(checkpoint), portable_tensors(checkpoint)
    with pytest.raises(CheckpointError, match=r"^here has unknown tensors .*more"):
        checkpoint_from_parts(description, {**tensors, "more": torch.zeros(1)}, "here")
    with pytest.raises(CheckpointError, match=r"^here: tensor head.bias holds NaN"):
        checkpoint_from_parts(description, {**tensors, "head.bias": tensors["head.bias"] * torch.nan}, "here")
    found = checkpoint_from_parts(description, {**tensors, "more": torch.zeros(1)}, "here", allow_unexpected=True)
    assert found.model.keys() == checkpoint.model.keys()
    assert found.notices == ("here: unexpected tensors are left out: more",)
    del tensors["head.bias"]
    with pytest.raises(CheckpointError, match=r"^here lacks the tensors .*head\.bias"):
        checkpoint_from_parts(description, tensors, "here")


def test_tied_tensors_that_differ_are_refused():
    checkpoint = of(CONFIGS[2])
    model = {**checkpoint.model, "head.weight": checkpoint.model["head.weight"] + 1}
    with pytest.raises(CheckpointError, match=r"^the tensors head.weight and executor.token_emb.weight are tied"):
        portable_tensors(replace(checkpoint, model=model))


@pytest.mark.parametrize("key", ["format", "step", "model_config", "vocab_size"])
def test_a_description_without_a_key_is_refused(key):
    checkpoint = of(CONFIGS[0])
    description = {name: value for name, value in describe_checkpoint(checkpoint).items() if name != key}
    with pytest.raises(CheckpointError, match=f"^here.*'{key}'"):
        checkpoint_from_parts(description, portable_tensors(checkpoint), "here")
