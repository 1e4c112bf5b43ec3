"""From the model's distribution to one token: pure functions, in the one order of docs/math.md.

temperature -> repetition penalty -> repeated n-grams -> top-k -> top-p -> draw.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from apelr_model.errors import NonFiniteError
from apelr_model.rules import Rule, check_rules

__all__ = [
    "NothingLeftError",
    "SamplingSettings",
    "banned_by_ngram",
    "choose",
    "keep_top_k",
    "keep_top_p",
    "temper",
]


class NothingLeftError(ValueError):
    """Every token of the vocabulary is excluded at a step: there is nothing to sample."""


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How the next token is drawn from the model's distribution."""

    temperature: float = 1.0
    """Divides the mixture's log-probabilities (V1: each plan state's logits); 1 leaves the model's own distribution, 0
    takes the most likely token."""
    top_k: int = 0
    """Keep only the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of most likely tokens with this probability; 1 keeps all."""
    repetition_penalty: float = 1.0
    """Divides the probability of every id already in the sequence by this much (>= 1; 1 is none)."""
    no_repeat_ngram_size: int = 0
    """Exclude ids that would complete an n-gram already in the sequence; 0 excludes none."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        return [
            ("temperature", self.temperature, ">= 0 and finite", 0 <= self.temperature < math.inf),
            ("top_k", self.top_k, ">= 0", self.top_k >= 0),
            ("top_p", self.top_p, "> 0 and <= 1", 0 < self.top_p <= 1),
            (
                "repetition_penalty",
                self.repetition_penalty,
                ">= 1 and finite",
                1 <= self.repetition_penalty < math.inf,
            ),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size, ">= 0", self.no_repeat_ngram_size >= 0),
        ]

    def __post_init__(self) -> None:
        check_rules(self.rules())


def temper(state_log_probs: Tensor, temperature: float) -> Tensor:
    """state_log_probs [..., V] -> log-probabilities [..., V], divided by `temperature` > 0 and normalised again.

    Any temperature will do: towards 0 the most likely ids alone are left, and impossible ids stay impossible.
    """
    if temperature == 1:
        return state_log_probs
    below = state_log_probs - state_log_probs.amax(-1, keepdim=True)
    # A temperature that the dtype rounds to 0 or infinity would make NaN of these two.
    tempered = (below / temperature).masked_fill(below == 0, 0.0).masked_fill(below == -math.inf, -math.inf)
    return tempered.log_softmax(-1)


def banned_by_ngram(ids: Sequence[int], size: int) -> set[int]:
    """The ids that, put after `ids`, would complete an n-gram of `size` that `ids` already holds."""
    if size == 0 or len(ids) < size:
        return set()
    tail = tuple(ids[len(ids) - size + 1 :])
    return {
        ids[start + size - 1] for start in range(len(ids) - size + 1) if tuple(ids[start : start + size - 1]) == tail
    }


def keep_top_k(log_probs: Tensor, k: int) -> Tensor:
    """log_probs [B, V] -> [B, V], all but the k most likely at minus infinity; ties at the edge go to the lower id."""
    if k == 0 or k >= log_probs.shape[-1]:
        return log_probs
    kept = log_probs.sort(dim=-1, descending=True, stable=True).indices[:, :k]
    return torch.full_like(log_probs, -math.inf).scatter(-1, kept, log_probs.gather(-1, kept))


def keep_top_p(log_probs: Tensor, p: float) -> Tensor:
    """log_probs [B, V] -> [B, V], all outside the smallest set of most likely tokens of mass >= p at minus infinity.

    The mass is a share of what is left in `log_probs`, which need not sum to one. The most likely token always stays.
    """
    if p == 1:
        return log_probs
    ordered = log_probs.sort(dim=-1, descending=True, stable=True)
    mass = ordered.values.softmax(-1).cumsum(-1)
    inside = mass - ordered.values.softmax(-1) < p
    inside[:, 0] = True  # also for a p that the dtype rounds to 0
    kept = ordered.values.masked_fill(~inside, -math.inf)
    return torch.full_like(log_probs, -math.inf).scatter(-1, ordered.indices, kept)


def choose(
    log_probs: Tensor,
    settings: SamplingSettings,
    *,
    seen: Tensor,
    banned: Sequence[set[int]],
    uniform: Tensor,
) -> Tensor:
    """log_probs [B, V] (tempered mixture), seen [B, V] bool, uniform [B] in [0, 1) -> ids [B].

    `seen` marks ids in the sequence so far, `banned` holds each row's excluded ids, `uniform` the row's own
    random number, used to invert the cumulative distribution. Raises NothingLeftError, and NonFiniteError for NaN.
    """
    scores = log_probs
    if settings.repetition_penalty != 1:
        scores = scores - seen.to(scores) * math.log(settings.repetition_penalty)
    if any(banned):
        scores = scores.clone()
        for row, ids in enumerate(banned):
            if ids:
                scores[row, sorted(ids)] = -math.inf
    best = scores.amax(-1).tolist()  # NaN where any score is
    if any(map(math.isnan, best)):
        raise NonFiniteError("the model's distribution over the next token holds NaN; its parameters are damaged")
    if -math.inf in best:
        raise NothingLeftError(
            "no token is left to sample: every id is excluded; lower no_repeat_ngram_size or generate fewer tokens"
        )
    if settings.temperature == 0:
        return scores.argmax(-1)
    scores = keep_top_p(keep_top_k(scores, settings.top_k), settings.top_p)
    cumulative = scores.cpu().double().softmax(-1).cumsum(-1)
    point = uniform.cpu().double().unsqueeze(-1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True).squeeze(-1).to(log_probs.device)
