"""The works of a model that are timed: a training step, the planner's part of it, evaluation and decoding."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch

from apelr_cli.benchmark_timing import Work
from apelr_model import (
    LossWeights,
    OptimConfig,
    PlannerLM,
    SamplingSettings,
    TokenBatch,
    Trainer,
    TransformerLMConfig,
    build_model,
    generate,
    mean_nll,
)

__all__ = ["control_of", "decoder_of", "decoding", "evaluation", "planner_part", "random_batch", "training_steps"]


def random_batch(model: PlannerLM, rows: int, targets: int, *, seed: int = 0) -> TokenBatch:
    """`rows` full rows of `targets` targets each, ids drawn evenly: time does not depend on them."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(model.vocab_size, (rows, targets + 1), generator=generator)
    return TokenBatch(ids[:, :-1], ids[:, 1:], torch.full((rows,), targets)).to(model.device)


def training_steps(
    model: PlannerLM, optim: OptimConfig, weights: LossWeights, batch: TokenBatch, *, step: int = 0
) -> Work:
    """Each call makes one optimizer step, as `apelr train` does it after `step` others."""
    trainer = Trainer(model, optim, weights)
    trainer.step = step
    return lambda: trainer.train_step(batch)


def planner_part(model: PlannerLM, optim: OptimConfig, batch: TokenBatch, *, step: int = 0) -> Work:
    """Each call does, forward and backward, what the plan adds to a step: filter, gate and boundary evidence.

    From the executor's states and the targets' log-likelihoods, which are made beforehand, to the NLL and back; in
    training mode, with the commitments and the temperature that the model has after `step` steps.
    """
    with torch.no_grad():
        reading = model.read(batch.inputs, batch.targets, keep_state=False)
    hidden = reading.hidden.detach().requires_grad_()
    log_probs = reading.state_log_probs.detach().requires_grad_()

    def run() -> None:
        model.train()  # an evaluation may have come before
        model.set_schedule(step, optim.max_steps)
        state = model.planner.initial_state(len(batch.lengths))
        found = model.planner.read(hidden, log_probs, state, model.policy, positions=reading.positions, lengths=None)
        gate_parts = [hidden, log_probs, *(p for p in model.planner.parameters() if p.requires_grad)]
        torch.autograd.grad(-found.filtered.token_log_prob.mean(), gate_parts, allow_unused=True)

    return run


def evaluation(model: PlannerLM, batch: TokenBatch) -> Work:
    """Each call gives the NLL of a batch, as periodic evaluations and `apelr eval --no-diagnostics` do."""
    return lambda: mean_nll(model, [batch])


def decoder_of(model: PlannerLM, *, compiled: bool, weights: Literal["fp32", "bf16", "int8"]) -> PlannerLM:
    """The model itself, or a copy that is compiled and has weights in fewer bits, which cannot be trained."""
    if not compiled and weights == "fp32":
        return model
    copied = copy.deepcopy(model)
    if weights != "fp32":
        copied.keep_weights(weights)
    if compiled:
        copied.compile_decoding()
    return copied


def decoding(
    model: PlannerLM, rows: int, tokens: int, *, prompts: Sequence[Sequence[int]] | None = None, **settings: Any
) -> Work:
    """Each call draws `tokens` tokens in each of `rows` rows, from a prompt of one id unless prompts are given.

    `settings` go to `generate`.
    """
    begins = [[1]] * rows if prompts is None else prompts

    def run() -> None:
        for _ in generate(model, begins, SamplingSettings(), max_new_tokens=tokens, seeds=range(rows), **settings):
            pass

    return run


def control_of(model: PlannerLM) -> PlannerLM:
    """A fresh `transformer_lm` with an executor of the same kind and sizes, where the model is."""
    own = model.config
    config = TransformerLMConfig(
        token_dim=own.token_dim,
        hidden_dim=own.hidden_dim,
        num_layers=own.num_layers,
        dropout=own.dropout,
        executor=own.executor,
    )
    return build_model(config, model.vocab_size).to(model.device)
