"""Passages of held-out text as a model reads them: beliefs token by token, and forecasts chunk by chunk."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_cli.evaluation_text import EvaluationText, TextPassage
from apelr_cli.loading import LoadedModel
from apelr_cli.plan_choice import has_chain
from apelr_model import forecast, score, smooth_plans
from apelr_tokenizers import Tokenizer

__all__ = ["AHEAD", "Passage", "PassageToken", "Row", "read_passages"]

PASSAGES = 12
"""Passages that are read; forecasts are judged on all of them."""
LONGEST = 256
"""Targets of a passage, or fewer where the rows of the run are shorter."""
AHEAD = (1, 2, 4)
"""Chunks ahead that forecasts are kept of."""

Row = tuple[float, ...]
"""[K] probabilities of the plan states."""


class PassageToken(NamedTuple):
    """One target."""

    text: str
    """What it adds to the text, of a special id its role in words; empty where it completes no character."""
    special: bool
    id: int
    bits: float | None
    """Of surprise, -log2 of its probability; None where it was impossible."""
    chunk: int
    plan: int
    """The known plan that it was written under; -1 where none is known."""


class Passage(NamedTuple):
    """T targets in order."""

    place: str
    """Where in the text it begins, in words."""
    tokens: tuple[PassageToken, ...]
    filtered: tuple[Row, ...]
    """[T] belief before each target, from the text before it alone; the gate in a control."""
    smoothed: tuple[Row, ...]
    """[T] the plan given the whole passage; empty without a chain of plans."""
    foreseen: dict[int, tuple[Row | None, ...]]
    """By chunks ahead: [T] what was forecast for the target's chunk so many chunks earlier; None where nothing was."""
    overlaps: tuple[tuple[int, float, float, float], ...]
    """(chunks ahead, share that a forecast gives to the plan that came, the same for no change and for the long run):
    means over the passage's chunks."""


def read_passages(loaded: LoadedModel, text: EvaluationText, labels: Tensor | None) -> tuple[Passage, ...]:
    """Up to `PASSAGES` passages; `labels` [N] are the known plans of the stream's ids.

    After an impossible target there is no belief: all its shares are 0. Raises NonFiniteError as `score`.
    """
    longest = min(LONGEST, text.seq_len)
    return tuple(_read(loaded, each, labels) for each in text.passages(PASSAGES, longest))


@torch.no_grad()
def _read(loaded: LoadedModel, passage: TextPassage, labels: Tensor | None) -> Passage:
    model, chained = loaded.model, has_chain(loaded.model)
    found = score(model, passage.ids, with_trellis=chained)
    count = len(passage.ids) - 1
    plans = [-1] * count if labels is None else labels[passage.start + 1 : passage.start + 1 + count].tolist()
    tokenizer, ids = loaded.tokenizer, passage.ids[1:]
    roles = {tokenizer.bos_id: "begin", tokenizer.eos_id: "end", tokenizer.unk_id: "unknown", tokenizer.pad_id: "pad"}
    named = [roles.get(number, piece) for number, piece in zip(ids, _pieces(tokenizer, passage.ids), strict=True)]
    of_tokens = (named, [number in roles for number in ids], ids, map(_bits, found.log_prob.tolist()))
    tokens = tuple(map(PassageToken, *of_tokens, found.chunk_index, plans))
    filtered = _rows(found.log_belief if chained else found.log_gate)
    if found.trellis is None:
        return Passage(passage.place, tokens, filtered, (), {}, ())
    trellis = found.trellis
    smoothed = smooth_plans(trellis).log_posterior
    log_transition = trellis.log_transition
    ahead = forecast(trellis.log_after[0], log_transition, max(AHEAD)).exp()
    foreseen: dict[int, tuple[Row | None, ...]] = {}
    for steps in AHEAD:
        of_chunks = torch.full_like(smoothed, math.nan)
        of_chunks[0, steps:] = ahead[:-steps, steps - 1]
        known = trellis.at_targets(of_chunks)[0]
        foreseen[steps] = tuple(None if row[0] != row[0] else tuple(row) for row in known.tolist())
    return Passage(
        passage.place,
        tokens,
        filtered,
        _rows(trellis.at_targets(smoothed)[0]),
        foreseen,
        _overlaps(trellis.log_after[0].exp(), smoothed[0].exp(), ahead, log_transition.exp()),
    )


def _overlaps(
    after: Tensor, came: Tensor, ahead: Tensor, transition: Tensor
) -> tuple[tuple[int, float, float, float], ...]:
    """after, came [S, K], ahead [S, n, K], transition [K, K] -> `Passage.overlaps`."""
    long_run = torch.linalg.matrix_power(transition, 2**12).mean(0)
    found = []
    for steps in range(1, min(ahead.shape[1], len(came) - 1) + 1):
        later = came[steps:]
        shares = (ahead[:-steps, steps - 1], after[:-steps], long_run.expand_as(later))
        foreseen, unchanged, long_term = (float((share * later).sum(-1).mean()) for share in shares)
        found.append((steps, foreseen, unchanged, long_term))
    return tuple(found)


def _pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """What each target adds to the text before it; what is left at the end goes to the last one."""
    decoder = tokenizer.stream_decoder()
    pieces = [decoder.push(number) for number in ids][1:]
    pieces[-1] += decoder.finish()
    return pieces


def _rows(log_probabilities: Tensor) -> tuple[Row, ...]:
    return tuple(tuple(row) for row in log_probabilities.double().exp().tolist())


def _bits(log_prob: float) -> float | None:
    return -log_prob / math.log(2) if math.isfinite(log_prob) else None
