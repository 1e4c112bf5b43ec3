"""The contrastive term of V2: the plan state at a chunk's start should tell the text of the chunks that follow."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from apelr_model.linear_log_probs import linear_log_probs
from apelr_model.slices import slice_limit

__all__ = ["future_contrastive"]


def future_contrastive(
    states: Tensor,
    plan_embeddings: Tensor,
    summaries: Tensor,
    *,
    horizon: int,
    temperature: float,
    valid: Tensor | None = None,
) -> Tensor:
    """states [B, C, K], plan_embeddings [K, D], summaries [B, C, D] -> InfoNCE, a scalar in nats.

    `states` are the chunk-start states (probabilities, after commitment); `summaries` the projected means of the
    executor's state over each chunk's inputs, cL ... cL + L - 1 or as many as the row has (a short last chunk counts
    in full). With a(b, c) the normalised states(b, c) @ plan_embeddings, s(b, c) the normalised summaries, t the
    temperature and S(b, c, b', c') = a(b, c) . s(b', c') / t,

        loss(d) = mean over b, c of -log( exp S(b, c, b, c + d) / sum over b', c' of exp S(b, c, b', c') )

    with c = 0 ... C - 1 - d and the candidates c' = d ... C - 1 of every row b' of the batch; the term is the mean of
    loss(d) over d = 1 ... min(horizon, C - 1), and 0 where C = 1. Chunks that `valid` [B, C] excludes (those
    without an unpadded input) are no anchors, positives or candidates; distances left without a pair do not count.

    The candidates are those of the (micro-)batch, so the term does not add up over micro-batches. Computed in at
    least float32, in slices of anchors.
    """
    batch, chunks, _ = summaries.shape
    dtype = torch.promote_types(plan_embeddings.dtype, torch.float32)
    with torch.autocast(summaries.device.type, enabled=False):
        anchors = normalize(states.to(summaries.device, dtype) @ plan_embeddings.to(dtype), dim=-1) / temperature
        candidates = normalize(summaries.to(dtype), dim=-1)
        if valid is None:
            valid = torch.ones(batch, chunks, dtype=torch.bool, device=summaries.device)
        losses = []
        for distance in range(1, min(horizon, chunks - 1) + 1):
            later = valid[:, distance:]
            pairs = valid[:, : chunks - distance] & later
            if bool(pairs.any()):
                found = _info_nce(anchors[:, : chunks - distance], candidates[:, distance:], pairs, later)
                losses.append(found)
        return torch.stack(losses).mean() if losses else anchors.new_zeros(())


def _info_nce(anchors: Tensor, candidates: Tensor, pairs: Tensor, later: Tensor) -> Tensor:
    """anchors [B, c, D], candidates [B, c, D] (each the positive of its own anchor), masks [B, c] -> mean loss."""
    kept = candidates[later]
    number = torch.zeros_like(later, dtype=torch.long)
    number[later] = torch.arange(len(kept), device=kept.device)
    no_bias = kept.new_zeros(1, len(kept))
    return -linear_log_probs(anchors[pairs], kept, no_bias, number[pairs], slice_limit(len(kept))).mean()
