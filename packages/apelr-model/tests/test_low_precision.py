"""Weights in fewer bits: what is kept, how exactly, and what can no longer be done."""

import pytest
import torch
from torch import nn

from apelr_model import (
    NoLossWeights,
    OptimConfig,
    Trainer,
    TransformerConfig,
    TransformerLMConfig,
    V1Config,
    V2Config,
    V2LossWeights,
    mean_nll,
)
from apelr_model.low_precision import keep_in

TRANSFORMER = {"token_dim": 64, "hidden_dim": 64, "num_layers": 1, "executor": TransformerConfig(num_heads=2)}
GRU = {"token_dim": 64, "hidden_dim": 64, "num_layers": 2}
KINDS = {
    "V1, GRU": (V1Config, {**GRU, "fusion_dim": 64}),
    "V2, transformer": (V2Config, TRANSFORMER),
    "tied": (TransformerLMConfig, {**TRANSFORMER, "tie_embeddings": True}),
}
FORMS = {"bf16": 2, "int8": 1}
"""With the bytes of an element."""


@pytest.fixture(params=KINDS)
def pair(request, make_model):
    """Twice the same model."""
    kind, sizes = KINDS[request.param]
    return [make_model(kind=kind, vocab=64, dtype=torch.float32, **sizes) for _ in range(2)]


@pytest.mark.parametrize("form", FORMS)
def test_a_model_does_all_it_did_with_nearly_the_same_numbers(pair, make_batch, form):
    plain, kept = pair
    kept.keep_weights(form)
    assert (plain.weight_form, kept.weight_form) == (None, form)
    batch = make_batch([8, 5, 8], seed=0)
    nll, wanted = (mean_nll(model, [batch]).nll for model in (kept, plain))
    assert nll != wanted
    assert nll == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("form", FORMS)
def test_large_matrices_are_kept_so_and_nothing_else(pair, form):
    plain, kept = pair
    every = plain.named_parameters(remove_duplicate=False)  # a tied weight is kept so in the head alone
    names = [name for name, weight in every if weight.ndim == 2 and weight.numel() >= 4096]
    matrices = [name for name in names if "bias" not in name and not name.startswith(("planner", "executor.token_emb"))]
    kept.keep_weights(form)
    assert sum(each.element_size() == FORMS[form] for each in kept.parameters()) == len(matrices) >= 4
    for name, weight in plain.named_parameters(remove_duplicate=False):
        module, _, own = name.rpartition(".")
        found = getattr(kept.get_submodule(module), own)
        if name not in matrices:
            assert torch.equal(found, weight), name
        elif form == "bf16":
            assert torch.equal(found, weight.bfloat16().float()), name
        else:  # half of a step, which is the row's largest magnitude / 127
            assert bool(((found - weight).abs() <= weight.abs().amax(1, keepdim=True) / 253).all()), name
        assert not found.requires_grad or name.startswith("planner")


def test_rows_of_zeros_stay_zeros():
    layer = nn.Linear(64, 64)
    nn.init.zeros_(layer.weight)
    keep_in("int8", layer)
    assert torch.equal(layer.weight, torch.zeros(64, 64))


def test_what_is_refused(make_model):
    model = make_model(kind=V2Config, vocab=64, dtype=torch.float32, **TRANSFORMER)
    with pytest.raises(ValueError, match=r"^weights must be one of bf16, int8, got int4$"):
        model.keep_weights("int4")
    with pytest.raises(ValueError, match=r"^weights are kept in fewer bits from float32, got torch\.float64$"):
        make_model(kind=V2Config, vocab=64, **TRANSFORMER).keep_weights("bf16")
    model.keep_weights("bf16")
    with pytest.raises(ValueError, match=r"^weights are kept in fewer bits already; load the checkpoint again"):
        model.keep_weights("int8")
    with pytest.raises(ValueError, match=r"^weights kept in bf16 cannot be trained; load the checkpoint again$"):
        Trainer(model, OptimConfig(), V2LossWeights())
    assert Trainer(make_model(kind=TransformerLMConfig, **TRANSFORMER), OptimConfig(), NoLossWeights())
