"""The hand-written gradient of the target log-probabilities: against torch's own, in every precision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model.linear_log_probs import linear_log_probs, slice_rows

N, K, F, V = 9, 3, 4, 7


def problem(device, *, dtype=torch.float64, seed=0, spread=1.0):
    """features [N, K, F], weight [V, F], bias [K, V], targets [N]."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((N, K, F), (V, F), (K, V))
    tensors = [spread * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    targets = torch.randint(0, V, (N,), generator=generator).to(device)
    return [x.to(device=device, dtype=dtype).requires_grad_() for x in tensors], targets


def plain(features, weight, bias, targets):
    log_probs = (features @ weight.T + bias).log_softmax(-1)
    return log_probs[torch.arange(len(targets), device=targets.device), :, targets]


@given(st.integers(0, 50), st.integers(1, 20), st.integers(1, 60))
def test_slices_cover_everything_once_and_hold_no_more_than_the_limit(tokens, elements, limit):
    parts = list(slice_rows(tokens, elements, limit))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(tokens))
    assert all((part.stop - part.start) * elements <= limit or part.stop - part.start == 1 for part in parts)


@settings(max_examples=30)
@given(st.integers(1, 2 * N * K * V), st.floats(0.1, 30), st.integers(0, 2**32))
def test_values_and_gradients_are_torchs_own(device, limit, spread, seed):
    leaves, targets = problem(device, seed=seed, spread=math.sqrt(spread))
    weights = torch.linspace(-1, 2, N * K, dtype=torch.float64, device=device).view(N, K)
    found, wanted = linear_log_probs(*leaves, targets, limit), plain(*leaves, targets)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), leaves),
        torch.autograd.grad((wanted * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_gradcheck(device):
    leaves, targets = problem(device)
    assert torch.autograd.gradcheck(lambda *x: linear_log_probs(*x, targets, 2 * K * V), leaves)


def test_gaps_of_hundreds_of_nats_stay_finite_in_float32(device):
    (features, weight, bias), targets = problem(device, dtype=torch.float32)
    with torch.no_grad():
        bias[:, targets[0]] = -400.0
        bias[0] += 1e5
    found = linear_log_probs(features, weight, bias, targets, K * V)
    assert torch.isfinite(found).all()
    assert found.min() < -350
    for gradient in torch.autograd.grad(found.sum(), (features, weight, bias)):
        assert torch.isfinite(gradient).all()


def test_an_excluded_target_is_minus_infinity_with_a_finite_gradient(device):
    (features, weight, bias), targets = problem(device)
    with torch.no_grad():
        bias[1, targets[0]] = -math.inf
    found = linear_log_probs(features, weight, bias, targets, K * V)
    assert found[0, 1] == -math.inf
    assert torch.isfinite(found[targets != targets[0]]).all()
    for gradient in torch.autograd.grad(found[torch.isfinite(found)].sum(), (features, weight, bias)):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_gives_float32_log_probabilities(device, dtype):
    leaves, targets = problem(device, dtype=dtype)
    found = linear_log_probs(*leaves, targets, 2 * K * V)
    assert found.dtype == torch.float32
    exact = plain(*(x.float() for x in leaves), targets)
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0.05)
    gradients = torch.autograd.grad(found.sum(), leaves)
    assert [g.dtype for g in gradients] == [dtype] * 3


def test_under_autocast_products_are_half_and_sums_are_not(device):
    leaves, targets = problem(device, dtype=torch.float32)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = linear_log_probs(*leaves, targets, 2 * K * V)
    exact = plain(*leaves, targets)
    assert found.dtype == torch.float32
    assert (found != exact).any()
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0.05)
    for a, b in zip(torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(exact.sum(), leaves), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.1)
