"""From chunk to chunk: the belief at the start of every run of targets.

Two forms of one recursion behind one name. `starts_by_steps` takes any arithmetic; in log space it is exact whatever
the transitions. `starts_by_products` carries probabilities instead, two small operations a run, and has its gradient
by hand; it needs every transition above e^`LEAST_LOG_TRANSITION`, so that nothing that counts can underflow.
"""

from collections.abc import Iterator
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
BLOCK = 256
"""Runs that are tensors of their own at a time."""


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
    if arithmetic is LOG_ARITHMETIC:
        log_first, log_again = log_normalize(log_first), log_normalize(log_again)
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
    log_evidence = None if evidence is None else to_filter_dtype(evidence)
    log_weights = run_log_probs if log_evidence is None else run_log_probs + log_evidence
    restarts = segments.restarts[:, 1:].unsqueeze(-1)
    ends = log_normalize(log_start[:, 0] + run_log_probs[:, 0]).exp().unsqueeze(1)
    if again := bool(restarts.any()):
        log_weights = log_weights.masked_fill(segments.restarts.unsqueeze(-1), -torch.inf)
        later_ends = log_normalize(log_again.unsqueeze(1) + run_log_probs[:, 1:]).exp()
        ends = torch.cat([ends, later_ends.masked_fill(~restarts, 0.0)], dim=1)[:, :-1]
    log_later: Tensor = _Messages.apply(  # type: ignore[no-untyped-call]
        log_weights[:, :-1].transpose(0, 1), ends.transpose(0, 1), to_filter_dtype(log_transition).exp()
    ).transpose(0, 1)
    if log_evidence is not None:
        log_later = log_normalize(log_later + log_evidence[:, 1:])
    if again:
        log_later = torch.where(restarts, log_again.unsqueeze(1), log_later)
    return _kept_beyond(torch.cat([log_start, log_later], dim=1), run_log_probs, segments)


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


def _each_run(*tensors: Tensor, backwards: bool = False) -> Iterator[tuple[Tensor, ...]]:
    """The runs [B, K] of tensors [S, B, K], `BLOCK` at a time: many more would keep Python's garbage collector busy."""
    begins = range(0, len(tensors[0]), BLOCK)
    for begin in reversed(begins) if backwards else begins:
        parts = (tensor[begin : begin + BLOCK].unbind(0) for tensor in tensors)
        yield from zip(*(part[::-1] if backwards else part for part in parts), strict=True)


class _Messages(torch.autograd.Function):
    """The plans at the starts of runs: z_{s+1} = y_s P, y_s = a_s + w_s z_s, z_0 = 0, each row normalised at the end.

    log w [S, B, K], a [S, B, K] (beliefs at the ends of runs of known start; [1, B, K] where that is run 0 alone),
    P [K, K] -> log (z_s / sum_k z_s(k)), s = 1 ... S, [S, B, K]. The gradient, with g_s that of the result, and
    u_s = d / d z_s and v_s = d / d y_s = P u_{s+1}: u_s = g_s / z_s - sum_k g_s(k) / sum_k z_s(k) + w_s v_s,
    d / d log w_s = w_s z_s v_s, d / d a_s = v_s, d / d P = sum_s y_s^T u_{s+1}.
    """

    @staticmethod
    def forward(ctx: Any, log_weights: Tensor, ends: Tensor, transition: Tensor) -> Tensor:
        peak = log_weights.amax(-1, keepdim=True)
        weights = log_weights.new_empty(log_weights.shape)  # in order of the runs, as the loop goes through it
        torch.sub(log_weights, peak.masked_fill_(peak == -torch.inf, 0.0), out=weights).exp_()
        sums, messages = torch.empty_like(weights), torch.empty_like(weights)
        scales = torch.ones_like(ends[..., :1])
        every = int(LEAST_LOG_TRANSITION / min(-1.0, float(transition.min().log())))  # runs between two scalings
        message, given = torch.zeros_like(ends[0]), len(ends)
        for run, (weight, total, after) in enumerate(_each_run(weights, sums, messages)):
            torch.mul(message, weight, out=total)
            if run < given:
                total += ends[run]
            if run % every == 0:
                scale = total.sum(-1, keepdim=True)
                scale.masked_fill_(scale == 0, 1.0)  # what is impossible stays so
                total.div_(scale)
                weight.div_(scale)
                if run < given:
                    scales[run] = scale
            message = torch.mm(total, transition, out=after)
        totals = messages.sum(-1, keepdim=True)
        totals.masked_fill_(totals == 0, 1.0)
        ctx.save_for_backward(weights, sums, messages, totals, transition, scales)
        return messages.log().sub_(totals.log())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        weights, sums, messages, totals, transition, scales = ctx.saved_tensors
        of_messages = (gradient / messages).sub_(gradient.sum(-1, keepdim=True) / totals)
        of_messages.masked_fill_(messages == 0, 0.0)  # u_1 ... u_S, once completed below
        of_sums = torch.empty_like(weights)  # v
        back = transition.T.contiguous()
        of_message = of_messages[-1]
        for weight, of_sum, before in _each_run(weights[1:], of_sums[1:], of_messages[:-1], backwards=True):
            torch.mm(of_message, back, out=of_sum)
            of_message = before.addcmul_(weight, of_sum)
        torch.mm(of_message, back, out=of_sums[0])
        of_transition = sums.flatten(0, 1).T @ of_messages.flatten(0, 1)
        of_log_weights = torch.zeros_like(weights)
        torch.mul(weights[1:], messages[:-1], out=of_log_weights[1:]).mul_(of_sums[1:])
        return of_log_weights, of_sums[: len(scales)] / scales, of_transition
