"""Token log-likelihoods and vocabulary-wide quantities, computed in slices of tokens.

Each plan state has a distribution over the whole vocabulary at every position: [B, T, K, V] numbers. They
are made a slice of tokens at a time (apelr_model.slices), reduced at once, and made again in the backward pass.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.belief import log_mean_state, to_filter_dtype
from apelr_model.head import Head, log_probs_of
from apelr_model.slices import in_slices, recomputed, slice_limit, slice_rows

__all__ = ["Mixtures", "gate_information", "mixtures", "state_log_probs", "target_log_probs"]


def state_log_probs(head: Head, hidden: Tensor) -> Tensor:
    """hidden [N, D] -> log p(v | h, z = k), log-probabilities [N, K, V], in at least float32."""
    return log_probs_of(head(hidden))


def target_log_probs(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    """hidden [N, D], targets [N] or [N, M] -> log p(y | h, z = k) [N, K] or [N, M, K], in at least float32."""
    return head.outputs(hidden).target_log_probs(targets)


class Mixtures(NamedTuple):
    """Vocabulary-wide quantities of the plan mixture, reduced over the vocabulary or over chunks."""

    mixture_entropy: Tensor
    """[N] H(sum_k b(k) p(. | k)) in nats, with b the belief before the token."""
    state_entropy: Tensor
    """[N] sum_k b(k) H(p(. | k)) in nats."""
    chunk_mixture: Tensor
    """[G, V] per group of tokens: mean over its tokens of sum_k b_start(k) p(. | k), probabilities in float64."""


def mixtures(
    head: Head,
    hidden: Tensor,
    log_belief: Tensor,
    log_start: Tensor,
    group: Tensor,
    *,
    num_groups: int,
    vocab_size: int,
) -> Mixtures:
    """hidden [N, D], log_belief [N, K], log_start [N, K], group [N] -> Mixtures of [N] and [num_groups, V], in slices.

    `group` numbers the token's chunk within the batch: non-decreasing and below `num_groups`. `log_start` is the
    belief at the start of that chunk.
    """

    def one_slice(hidden: Tensor, log_belief: Tensor, log_start: Tensor, local: Tensor) -> tuple[Tensor, ...]:
        log_probs = state_log_probs(head, hidden)
        by_start = log_mean_state(log_start, log_probs)
        words = to_filter_dtype(by_start).exp()  # float32 would lose words below e^-88, and their gradients
        summed = words.new_zeros(int(local[-1]) + 1, vocab_size).index_add(0, local.to(words.device), words)
        return *_entropies(log_belief, log_probs), summed

    entropies, conditionals, sums, summed_groups = [], [], [], []
    width = log_belief.shape[-1] * vocab_size
    for part in slice_rows(len(hidden), width, slice_limit(width)):
        first = int(group[part.start])
        entropy, conditional, summed = recomputed(
            one_slice, hidden[part], log_belief[part], log_start[part], group[part] - first
        )
        entropies.append(entropy)
        conditionals.append(conditional)
        sums.append(summed)
        summed_groups.append(torch.arange(first, first + len(summed), device=summed.device))
    joined = torch.cat(sums)
    totals = joined.new_zeros(num_groups, vocab_size).index_add(0, torch.cat(summed_groups), joined)
    counts = torch.bincount(group, minlength=num_groups).clamp(min=1).unsqueeze(1)
    return Mixtures(torch.cat(entropies), torch.cat(conditionals), totals / counts.to(totals.device))


def gate_information(head: Head, hidden: Tensor, log_gate: Tensor) -> Tensor:
    """hidden [N, D], log_gate [N, K] -> mutual information [N] of plan state and next token, in nats, in slices.

    H(sum_k g(k) p(. | k)) - sum_k g(k) H(p(. | k)), with g the gate of the token.
    """

    def one_slice(hidden: Tensor, log_gate: Tensor) -> Tensor:
        mixed, conditional = _entropies(log_gate, state_log_probs(head, hidden))
        return mixed - conditional

    return in_slices(one_slice, head.logits_per_token, hidden, log_gate)


def _entropies(log_belief: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """log_belief [n, K], log_probs [n, K, V] -> entropy of the mixture [n], mean entropy of the states [n]."""
    mixed = log_mean_state(log_belief, log_probs)
    of_states = -(log_probs.exp() * log_probs).sum(-1)
    return -(mixed.exp() * mixed).sum(-1), (log_belief.exp().to(of_states) * of_states).sum(-1)
