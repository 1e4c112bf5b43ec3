"""From chunk to chunk: the belief at the start of every run of targets.

Two forms of one recursion behind one name. `starts_by_steps` takes any arithmetic; in log space it is exact whatever
the transitions. `starts_by_products` carries probabilities instead, two small operations a run, and has its gradient
by hand; it needs every transition above e^`LEAST_LOG_TRANSITION`, so that nothing that counts can underflow.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from apelr_model.arithmetic import LOG_ARITHMETIC, Arithmetic
from apelr_model.belief import cross_boundary, log_normalize, to_filter_dtype
from apelr_model.plain_forms import fast_forms
from apelr_model.segments import Segments

__all__ = ["run_starts", "starts_by_products", "starts_by_steps"]

LEAST_LOG_TRANSITION = -200
"""Nats. A run's sum of weights falls by at most its least transition; float64 ends at e^-708."""


def run_starts(
    run_log_probs: Tensor,
    log_initial: Tensor,
    log_restart: Tensor | None,
    log_transition: Tensor,
    segments: Segments,
    evidence: Tensor | None,
    arithmetic: Arithmetic,
) -> tuple[Tensor, Tensor]:
    """run_log_probs [B, S, K] (sums of l over each run) -> log_starts [B, S, K], and the beliefs taken there."""
    log_first = to_filter_dtype(log_initial).expand(len(run_log_probs), -1)
    log_again = log_first if log_restart is None else to_filter_dtype(log_restart).expand_as(log_first)
    by_products = arithmetic is LOG_ARITHMETIC and fast_forms()
    if not (by_products and float(log_transition.detach().min()) >= LEAST_LOG_TRANSITION):  # by steps for NaN, too
        return starts_by_steps(run_log_probs, log_first, log_again, log_transition, segments, evidence, arithmetic)
    log_starts = starts_by_products(run_log_probs, log_first, log_again, log_transition, segments, evidence)
    return log_starts, log_starts


def starts_by_steps(
    run_log_probs: Tensor,
    log_first: Tensor,
    log_again: Tensor,
    log_transition: Tensor,
    segments: Segments,
    evidence: Tensor | None,
    arithmetic: Arithmetic,
) -> tuple[Tensor, Tensor]:
    """run_log_probs [B, S, K], log_first and log_again [B, K] -> log_starts [B, S, K], and the beliefs taken there."""
    log_belief = log_first
    belief = arithmetic.take(log_belief, torch.zeros_like(segments.begins[:, 0]))
    crossed_by, restarted = segments.crosses.any(0).tolist(), segments.restarts.any(0).tolist()
    log_starts, starts = [], []
    for run in range(run_log_probs.shape[1]):
        log_belief = arithmetic.log(belief)
        if crossed_by[run]:
            crossed = arithmetic.cross(belief, log_transition, None if evidence is None else evidence[:, run])
            log_belief = torch.where(segments.crosses[:, run].unsqueeze(1), crossed, log_belief)
        if restarted[run]:
            log_belief = torch.where(segments.restarts[:, run].unsqueeze(1), log_again, log_belief)
        log_starts.append(log_belief)
        starts.append(arithmetic.take(log_belief, segments.begins[:, run]))
        belief = arithmetic.condition(starts[-1], run_log_probs[:, run])
    return torch.stack(log_starts, dim=1), torch.stack(starts, dim=1)


def starts_by_products(
    run_log_probs: Tensor,
    log_first: Tensor,
    log_again: Tensor,
    log_transition: Tensor,
    segments: Segments,
    evidence: Tensor | None,
) -> Tensor:
    """run_log_probs [B, S, K], log_first and log_again [B, K] -> log_starts [B, S, K]; all transitions are possible."""
    crossed = cross_boundary(log_first, log_transition, None if evidence is None else evidence[:, 0])
    log_start = torch.where(segments.crosses[:, :1], crossed, log_first)
    log_start = torch.where(segments.restarts[:, :1], log_again, log_start).unsqueeze(1)
    if run_log_probs.shape[1] == 1:
        return log_start
    known = segments.restarts.index_fill(1, segments.restarts.new_zeros(1, dtype=torch.long), True).unsqueeze(-1)
    log_known = torch.cat([log_start, log_again.unsqueeze(1).expand_as(run_log_probs[:, 1:])], dim=1)
    ends = log_normalize(log_known + run_log_probs).exp().masked_fill(~known, 0.0)
    log_evidence = None if evidence is None else to_filter_dtype(evidence)
    log_weights = run_log_probs if log_evidence is None else run_log_probs + log_evidence
    log_weights = log_weights.masked_fill(known, -torch.inf)
    log_messages: Tensor = _Messages.apply(  # type: ignore[no-untyped-call]
        log_weights[:, :-1].transpose(0, 1), ends[:, :-1].transpose(0, 1), to_filter_dtype(log_transition).exp()
    ).transpose(0, 1)
    log_later = log_normalize(log_messages if log_evidence is None else log_messages + log_evidence[:, 1:])
    log_starts = torch.where(known, log_known, torch.cat([log_start, log_later], dim=1))
    return _kept_beyond(log_starts, run_log_probs, segments)


def _kept_beyond(log_starts: Tensor, run_log_probs: Tensor, segments: Segments) -> Tensor:
    """log_starts [B, S, K] -> the same, where a document's runs are over the belief that the last of them left."""
    index = torch.arange(segments.runs, device=log_starts.device)
    last = segments.begins.long().mul(index).cummax(1).values  # [R, S] the last run so far that begins a chunk
    beyond = last != index
    if not bool(beyond.any()):
        return log_starts
    where = last.expand(len(log_starts), -1).unsqueeze(-1).expand_as(log_starts)
    log_ends = log_normalize((log_starts + run_log_probs).gather(1, where))
    return torch.where(beyond.unsqueeze(-1), log_ends, log_starts)


class _Messages(torch.autograd.Function):
    """Unnormalised weights z_s of the plans at the starts of runs: z_{s+1} = y_s P, y_s = a_s + w_s z_s, z_0 = 0.

    log w [S, B, K], a [S, B, K] (beliefs at the ends of runs of known start), P [K, K] -> log z_1 ... z_S [S, B, K],
    each row up to a constant. The gradient of a function that does not depend on those constants, with
    u_s = d / d z_s and v_s = d / d y_s = P u_{s+1}: u_s = (d / d log z_s) / z_s + w_s v_s, d / d log w_s = w_s z_s v_s,
    d / d a_s = v_s, d / d P = sum_s y_s^T u_{s+1}.
    """

    @staticmethod
    def forward(ctx: Any, log_weights: Tensor, ends: Tensor, transition: Tensor) -> Tensor:
        peak = log_weights.amax(-1, keepdim=True)
        weights = (log_weights - peak.masked_fill_(peak == -torch.inf, 0.0)).exp_().contiguous()
        sums, messages = torch.empty_like(weights), torch.empty_like(weights)
        scales = ends.new_ones(*ends.shape[:2], 1)
        every = int(LEAST_LOG_TRANSITION / min(-1.0, float(transition.min().log())))  # runs between two scalings
        message = torch.zeros_like(ends[0])
        each = zip(*(tensor.unbind(0) for tensor in (weights, ends, sums, messages, scales)), strict=True)
        for run, (weight, end, total, after, scale) in enumerate(each):
            torch.addcmul(end, weight, message, out=total)
            if run % every == 0:
                torch.sum(total, -1, keepdim=True, out=scale)
                scale.masked_fill_(scale == 0, 1.0)  # what is impossible stays so
                total.div_(scale)
                weight.div_(scale)
            message = torch.mm(total, transition, out=after)
        ctx.save_for_backward(weights, sums, messages, transition, scales)
        return messages.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        weights, sums, messages, transition, scales = ctx.saved_tensors
        of_messages = (gradient / messages).masked_fill_(messages == 0, 0.0)  # u_1 ... u_S, once completed below
        of_sums = torch.empty_like(weights)  # v
        back = transition.T.contiguous()
        each = list(zip(*(tensor.unbind(0) for tensor in (weights, of_messages, of_sums)), strict=True))
        for run in range(len(each) - 1, -1, -1):
            weight, of_message, of_sum = each[run]
            torch.mm(of_message, back, out=of_sum)
            if run:
                each[run - 1][1].addcmul_(weight, of_sum)
        of_transition = sums.flatten(0, 1).T @ of_messages.flatten(0, 1)
        of_log_weights = torch.zeros_like(weights)
        torch.mul(weights[1:], messages[:-1], out=of_log_weights[1:]).mul_(of_sums[1:])
        return of_log_weights, of_sums.div_(scales), of_transition
