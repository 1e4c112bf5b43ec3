"""Has the model found the plans that a text was written under? Its states against gold labels, chunk by chunk."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from apelr_model.gold_chunks import GoldChunks
from apelr_model.plan_matching import compare_plans

__all__ = ["PlanAgreement", "PlanRecovery", "TransitionDistance", "matched_transition_distance", "plan_recovery"]


class PlanAgreement(NamedTuple):
    """The most likely state of each chunk against the chunk's gold label."""

    normalized_mutual_info: float
    """NMI, 0 ... 1: mutual information over the arithmetic mean of the two entropies."""
    adjusted_rand: float
    """ARI: 1 for the same partition of the chunks, about 0 for unrelated ones."""
    accuracy: float
    """Share of the chunks that agree when each state is called by the label it is matched with, 0 ... 1."""
    used_states: float
    """exp(entropy of the shares of chunks that each state is the most likely one of): 1 ... K."""
    matching: tuple[int, ...]
    """[K] the label matched with each state, none twice; -1 for the states left over where K is larger."""
    table: tuple[tuple[int, ...], ...]
    """[K][G] chunks by most likely state and gold label."""


class TransitionDistance(NamedTuple):
    """How far learnt transitions are from the true ones, as total variation of their rows, 0 ... 1."""

    mean: float
    """Over the rows of matched states."""
    largest: float
    """Of those rows."""
    rows: tuple[float | None, ...]
    """[K]; None for a state that no label is matched with."""


class PlanRecovery(NamedTuple):
    """A model's plans against known ones."""

    chunks: int
    """Chunks that are compared: those with a gold label that the row's end does not cut off."""
    labels: int
    """G: labels are numbered below this."""
    filtered: PlanAgreement
    """By the belief after the chunk's last target."""
    smoothed: PlanAgreement
    """By the posterior given the document as far as the row holds it."""
    transition: TransitionDistance | None
    """Of the model's P, with the matching of the filtered plans; None where the true transitions are not known."""


def plan_recovery(chunks: GoldChunks, *, true_transition: Tensor | None = None) -> PlanRecovery:
    """Chunks [N, S] as `read_gold_chunks` gives them, true_transition [K*, K*] (probabilities) -> PlanRecovery.

    Raises ValueError as `matched_transition_distance`.
    """
    gold = chunks.labels[chunks.compared]
    filtered, smoothed = (
        _agreement(each[chunks.compared].argmax(-1), gold, each.shape[-1])
        for each in (chunks.log_filtered, chunks.log_smoothed)
    )
    distance = None
    if true_transition is not None:
        matching = torch.tensor(filtered.matching)
        distance = matched_transition_distance(chunks.log_transition, matching, true_transition)
    return PlanRecovery(len(gold), chunks.num_labels, filtered, smoothed, distance)


def _agreement(plans: Tensor, gold: Tensor, num_states: int) -> PlanAgreement:
    """plans [N], gold [N] -> PlanAgreement; every one of the K states is there, also one that no chunk has."""
    found = compare_plans(one_hot(plans, num_states).double(), gold)
    shares = found.table.sum(1) / found.table.sum()
    return PlanAgreement(
        found.normalized_mutual_info,
        found.adjusted_rand,
        found.accuracy,
        math.exp(-float(torch.special.xlogy(shares, shares).sum())),
        tuple(found.matching.tolist()),
        tuple(tuple(row) for row in found.table.long().tolist()),
    )


def matched_transition_distance(
    log_transition: Tensor, matching: Tensor, true_transition: Tensor
) -> TransitionDistance:
    """log_transition [K, K], matching [K] (a state's label; -1: left over), true_transition [K*, K*] -> the distances.

    Row i of P, its columns renamed by the matching, against row m(i) of the true transitions (probabilities): total
    variation 1/2 sum_j |P[i, j] - P*[m(i), m(j)]|. What P gives to left-over states (K > K*) is one more outcome, which
    the truth never has; labels without a state (K < K*) have probability 0 under P. Rows of left-over states have no
    counterpart and are not compared. Raises ValueError where shapes disagree, a label is matched twice or not a row of
    the true transitions, or no state is matched.
    """
    states, kinds = len(log_transition), len(true_transition)
    if log_transition.shape != (states, states) or true_transition.shape != (kinds, kinds):
        raise ValueError(
            f"transitions must be square, got {list(log_transition.shape)} and {list(true_transition.shape)}"
        )
    used = sorted(matching[matching >= 0].tolist())
    if matching.shape != (states,) or not used or used[-1] >= kinds or len(set(used)) < len(used):
        raise ValueError(
            f"matching must give the {states} states labels from 0 to {kinds - 1}, none twice, or -1, "
            f"got {matching.tolist()}"
        )
    outcome = torch.where(matching >= 0, matching, kinds).to(log_transition.device)
    learnt = log_transition.detach().double().exp()
    renamed = learnt.new_zeros(states, kinds + 1).index_add(1, outcome, learnt)[outcome < kinds]
    truth = true_transition.to(renamed)[outcome[outcome < kinds]]
    distances = ((renamed[:, :kinds] - truth).abs().sum(1) + renamed[:, kinds]) / 2
    by_state = iter(distances.tolist())
    rows = tuple(next(by_state) if label >= 0 else None for label in matching.tolist())
    return TransitionDistance(float(distances.mean()), float(distances.max()), rows)
