"""What each plan state says: its mean distribution over the vocabulary, and the tokens that it raises most."""

from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.belief import log_mean_state, to_filter_dtype
from apelr_model.emissions import state_log_probs
from apelr_model.head import Head
from apelr_model.slices import slice_limit, slice_rows

__all__ = ["RaisedToken", "VocabularySums", "raised_tokens", "vocabulary_sums"]


class VocabularySums(NamedTuple):
    """Probabilities summed over tokens; they add up over batches."""

    states: Tensor
    """[K, V] sum of p_t(. | k), float64."""
    mixture: Tensor
    """[V] sum of sum_k gate_t(k) p_t(. | k), float64."""


@torch.no_grad()
def vocabulary_sums(head: Head, hidden: Tensor, log_gate: Tensor) -> VocabularySums:
    """hidden [N, D], log_gate [N, K] -> sums over the N tokens of every state's distribution and of the mixture."""
    states, mixtures = [], []
    width = head.logits_per_token
    for part in slice_rows(len(hidden), width, slice_limit(width)):
        log_probs = state_log_probs(head, hidden[part])
        mixtures.append(to_filter_dtype(log_mean_state(log_gate[part], log_probs).exp().sum(0)))
        states.append(to_filter_dtype(log_probs.exp_().sum(0)))
    return VocabularySums(torch.stack(states).sum(0), torch.stack(mixtures).sum(0))


class RaisedToken(NamedTuple):
    """A token that a plan state makes likelier than the mixture does."""

    id: int
    lift: float
    """Mean probability under the state / mean probability in the mixture, over the same targets."""


def raised_tokens(sums: VocabularySums, state: int, count: int) -> tuple[RaisedToken, ...]:
    """The at most `count` tokens of highest lift above 1 in `state`, highest first.

    Only tokens whose mean probability under the state is at least 1 / V: below that a lift is a ratio of noise.
    """
    probs = sums.states[state] / sums.states[state].sum()
    mixture = sums.mixture / sums.mixture.sum()
    lift = (probs / mixture).masked_fill((probs < 1 / len(probs)) | (probs <= mixture), 0.0)
    best = lift.sort(descending=True, stable=True)
    return tuple(
        RaisedToken(token, value)
        for value, token in zip(best.values[:count].tolist(), best.indices[:count].tolist(), strict=True)
        if value > 0
    )
