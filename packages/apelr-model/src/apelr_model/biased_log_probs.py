"""Log-softmax at the targets of one linear layer under K biases: the normalisers of all K from one matrix product.

With logits_k = base + beta_k the normaliser is sum_v exp(base_v) exp(beta_kv): for all k together one product of the
exponentials, [N, V] by [V, K]. Nothing of size N x K x V is ever made.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from apelr_model.linear_log_probs import add_product, biased_product, operands
from apelr_model.slices import slice_rows

__all__ = ["LARGEST_BIAS", "biased_log_probs"]

LARGEST_BIAS = 20.0
"""Nats. Biases within +- this keep every normaliser above e^-40 of its largest possible term: exact in float32."""


def biased_log_probs(
    features: Tensor, weight: Tensor, bias: Tensor, plan_bias: Tensor, targets: Tensor, limit: int
) -> Tensor:
    """features [N, D], weight [V, D], bias [V], plan_bias [K, V], targets [N] -> log-probabilities [N, K].

    Of the targets: log_softmax(features W^T + bias + plan_bias_k)[n, targets[n]], with at most `limit` logits at any
    time; `plan_bias` must be within `LARGEST_BIAS`. With several targets for each token, [N, M], the result is
    [N, M, K]. Under autocast the product with `weight` is in its dtype; all else is in at least float32. Gradients of
    the first order only.
    """
    features, weight = operands(features, weight)
    dtype = torch.promote_types(bias.dtype, torch.float32)
    found: Tensor = _BiasedLogProbs.apply(  # type: ignore[no-untyped-call]
        features, weight, bias.to(dtype), plan_bias.to(dtype), targets.view(len(targets), -1), limit
    )
    return found.squeeze(1) if targets.ndim == 1 else found


class _BiasedLogProbs(torch.autograd.Function):
    """d l[n, m, k] / d logits[n, k] = onehot(targets[n, m]) - softmax(logits[n, k]); targets [N, M], l [N, M, K]."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, plan_bias: Tensor, targets: Tensor, limit: int
    ) -> Tensor:
        factors = plan_bias.exp()  # [K, V]
        chosen = bias.new_empty(targets.shape)
        log_totals = bias.new_empty(len(features), len(plan_bias))
        with torch.autocast(features.device.type, enabled=False):
            for rows in slice_rows(len(features), len(bias), limit):
                base = biased_product(features[rows], weight, bias)
                chosen[rows] = base.gather(-1, targets[rows])
                peak = base.amax(-1, keepdim=True)
                log_totals[rows] = (base.sub_(peak).exp_() @ factors.T).log_() + peak
        ctx.save_for_backward(features, weight, bias, plan_bias, targets, log_totals)
        ctx.limit = limit
        return chosen.unsqueeze(-1) + plan_bias.T[targets] - log_totals.unsqueeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias, plan_bias, targets, log_totals = ctx.saved_tensors
        factors = plan_bias.exp()
        of_features = torch.empty_like(features)
        of_weight = torch.zeros_like(weight, dtype=bias.dtype)
        of_bias = torch.zeros_like(bias)
        sums = torch.zeros_like(plan_bias)
        with torch.autocast(features.device.type, enabled=False):
            for rows in slice_rows(len(features), len(bias), ctx.limit):
                base = biased_product(features[rows], weight, bias)
                peak = base.amax(-1, keepdim=True)
                terms = base.sub_(peak).exp_()  # [n, V]
                share = gradient[rows].sum(1) * (peak - log_totals[rows]).exp()  # [n, K]
                sums.addmm_(share.T, terms)
                of_base = terms.mul_(share @ factors).neg_()
                of_base.scatter_add_(-1, targets[rows], gradient[rows].sum(-1))
                of_bias += of_base.sum(0)
                of_products = of_base.to(weight.dtype)
                of_features[rows] = of_products @ weight
                add_product(of_weight, of_products.T, features[rows])
        of_plan = sums.mul_(factors).neg_()
        of_plan.T.index_add_(0, targets.flatten(), gradient.flatten(0, 1))
        return of_features, of_weight.to(weight.dtype), of_bias, of_plan, None, None
