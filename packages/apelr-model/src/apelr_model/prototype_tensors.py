"""The prototype's tensors: their names and shapes, and how the parameters of today are made of them."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from apelr_model.checkpoint_checks import check_tensor
from apelr_model.config import V1Config
from apelr_model.errors import CheckpointError
from apelr_model.prototype_config import PrototypeConfig
from apelr_model.shown import shown, shown_names

__all__ = ["Part", "check_prototype_tensors", "join", "model_parts", "own_names", "prototype_shapes"]

COMPILED = "_orig_mod."
"""What `torch.compile` puts before names."""
OPTIONAL = ("chunk_post_proj.", "plan_state_emb.", "future_chunk_proj.")
"""Tensors that only training losses and their diagnostics read."""
GRU = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
HEAD = (
    *("state_proj.weight", "state_proj.bias", "plan_emb.weight", "plan_proj.weight"),
    *("out_proj.weight", "out_proj.bias", "plan_vocab_bias"),
)
Shapes = dict[str, tuple[int, ...]]


class Part(NamedTuple):
    """A parameter of today and the prototype's tensors that it is made of."""

    name: str
    sources: tuple[str, ...]
    how: Literal["same", "rows", "stacked", "evidence"] = "same"
    """`same`: the one source; `rows`: one below the other; `stacked`: along a new axis; `evidence`: scale a + b."""


def prototype_shapes(config: PrototypeConfig) -> Shapes:
    """Every tensor that a file of this configuration holds, with its shape."""
    model, vocab = config.model, config.vocab_size
    states, width = model.num_plan_states, model.hidden_dim
    shapes: Shapes = {
        "token_emb.weight": (vocab, model.token_dim),
        "planner_init_logits": (states,),
        "planner_transition_logits": (states, states),
    }
    for layer in range(model.num_layers):
        below = width if layer else model.token_dim
        shapes[f"backbone.weight_ih_l{layer}"] = (3 * width, below)
        shapes[f"backbone.weight_hh_l{layer}"] = (3 * width, width)
        shapes[f"backbone.bias_ih_l{layer}"] = shapes[f"backbone.bias_hh_l{layer}"] = (3 * width,)
    if isinstance(model, V1Config):
        fusion = model.fusion_dim
        shapes |= _linear("state_proj", fusion, width)
        shapes |= {"plan_emb.weight": (states, fusion), "plan_proj.weight": (fusion, fusion)}
        shapes |= _linear("out_proj", vocab, fusion)
        shapes |= {"plan_vocab_bias": (states, vocab)}
        shapes |= _linear("planner_ctx_proj", states, width)
        return shapes | _linear("chunk_post_proj", states, width)
    for state in range(states):
        shapes |= _linear(f"expert_heads.{state}", vocab, width)
    shapes |= _linear("planner_boundary_proj", states, width)
    shapes |= _linear("planner_obs_proj", states, width)
    return shapes | {"plan_state_emb.weight": (states, width), "future_chunk_proj.weight": (width, width)}


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def model_parts(config: PrototypeConfig) -> list[Part]:
    """Every parameter of today's model and what it is made of."""
    model = config.model
    kinds = [f"{what}_l{layer}" for layer in range(model.num_layers) for what in GRU]
    parts = [
        Part("executor.token_emb.weight", ("token_emb.weight",)),
        *[Part(f"executor.gru.{kind}", (f"backbone.{kind}",)) for kind in kinds],
        Part("planner.initial_logits", ("planner_init_logits",)),
        Part("planner.transition_logits", ("planner_transition_logits",)),
    ]
    ends = ("weight", "bias")
    if isinstance(model, V1Config):
        parts += [Part(f"head.{name}", (name,)) for name in HEAD]
        parts += [Part(f"planner.context_proj.{end}", (f"planner_ctx_proj.{end}",)) for end in ends]
        return parts + [Part(f"planner.recognizer.{end}", (f"chunk_post_proj.{end}",)) for end in ends]
    experts = range(model.num_plan_states)
    both = ("planner_boundary_proj", "planner_obs_proj")
    return [
        *parts,
        Part("head.weight", tuple(f"expert_heads.{k}.weight" for k in experts), "rows"),
        Part("head.bias", tuple(f"expert_heads.{k}.bias" for k in experts), "stacked"),
        *[Part(f"planner.context_proj.{end}", tuple(f"{p}.{end}" for p in both), "evidence") for end in ends],
        Part("planner.plan_state_emb.weight", ("plan_state_emb.weight",)),
        Part("planner.future_proj.weight", ("future_chunk_proj.weight",)),
    ]


def join(part: Part, tensors: Sequence[Tensor], context_scale: float) -> Tensor:
    """The prototype's tensors of a part -> the parameter of today."""
    if part.how == "rows":
        return torch.cat(list(tensors))
    if part.how == "stacked":
        return torch.stack(list(tensors))
    if part.how == "evidence":
        boundary, observed = tensors
        return (context_scale * boundary.double() + observed.double()).to(boundary.dtype)
    return tensors[0]


def own_names(state: Mapping[Any, Any], where: str) -> list[str]:
    """The names in a file's order, without what compiling put before them. CheckpointError where two become one."""
    names = [name.replace(COMPILED, "") if isinstance(name, str) else shown(name) for name in state]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise CheckpointError(f"{where} holds two tensors named {shown_names(twice)}")
    return names


def check_prototype_tensors(
    found: Mapping[str, Any], config: PrototypeConfig, where: str, *, allow_unexpected: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that the configuration asks for, all of one type of numbers, and notices; shapes are compared.

    What is missing and optional gets fresh values. Raises CheckpointError, naming `where` and the tensors, for any
    other that is missing, for unexpected ones unless allowed, and for wrong shapes and numbers.
    """
    model = config.model
    for name in ("num_layers", "num_plan_states"):  # even listing the names of that many would take for ever
        if getattr(model, name) > max(len(found), 1) and (name == "num_layers" or not isinstance(model, V1Config)):
            count = f"{len(found)} tensors, too few for {name} {getattr(model, name)}"
            raise CheckpointError(f"{where} holds {count}")
    shapes = prototype_shapes(config)
    missing = [name for name in shapes if name not in found]
    notices = []
    if needed := [name for name in missing if not name.startswith(OPTIONAL)]:
        raise CheckpointError(f"{where} lacks the tensors {shown_names(needed)}")
    if unexpected := [name for name in found if name not in shapes]:
        if not allow_unexpected:
            raise CheckpointError(
                f"{where} has unexpected tensors {shown_names(unexpected)}; --allow-unexpected leaves them out"
            )
        notices.append(f"unexpected tensors are left out: {shown_names(unexpected)}")
    for name, shape in shapes.items():
        if name in found:
            check_tensor(name, found[name], shape, where)
    tensors = {name: found[name].detach() for name in shapes if name in found}
    dtype = functools.reduce(torch.promote_types, {tensor.dtype for tensor in tensors.values()})
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    if missing:
        tensors |= {name: _fresh(shapes[name], model.hidden_dim, dtype) for name in missing}
        notices.append(
            f"optional tensors are missing: {shown_names(missing)}; they get fresh values, which only training "
            "losses and their diagnostics read"
        )
    return tensors, notices


def _fresh(shape: tuple[int, ...], fan_in: int, dtype: torch.dtype) -> Tensor:
    """Values as `nn.Linear` draws them, the same every time."""
    bound = fan_in**-0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=torch.Generator().manual_seed(0)).to(dtype)
