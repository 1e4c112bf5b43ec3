"""The hand-written gradient of the target log-probabilities: against torch's own, in every precision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from apelr_model.linear_log_probs import _in_place, linear_log_probs


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation makes, backward ones included."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return made


N, K, F, V, M = 9, 3, 4, 7, 5
FORMS = ["shared", "experts"]


def problem(device, *, form="shared", targets=None, dtype=torch.float64, seed=0, spread=1.0):
    """features [N, K, F] and weight [V, F], or [N, F] and [K * V, F]; bias [K, V]; targets [N] or [N, M]."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((N, K, F), (V, F), (K, V)) if form == "shared" else ((N, F), (K * V, F), (K, V))
    tensors = [spread * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    ids = torch.randint(0, V, (N,) if targets is None else (N, targets), generator=generator).to(device)
    return [x.to(device=device, dtype=dtype).requires_grad_() for x in tensors], ids


def plain(features, weight, bias, targets):
    """Every state's logits on their own, as many target columns as there are."""
    states = []
    for k in range(K):
        own = (features[:, k], weight) if features.ndim == 3 else (features, weight[k * V : (k + 1) * V])
        states.append((own[0] @ own[1].T + bias[k]).log_softmax(-1))
    columns = targets.view(N, -1).unbind(1)
    rows = torch.arange(N, device=targets.device)
    found = torch.stack([torch.stack([state[rows, ids] for state in states], -1) for ids in columns], 1)
    return found if targets.ndim == 2 else found[:, 0]


@pytest.mark.parametrize("columns", [None, 1, M])
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=15)
@given(st.integers(1, 2 * N * K * V), st.floats(0.1, 30), st.integers(0, 2**32))
def test_values_and_gradients_are_torchs_own(device, form, columns, limit, spread, seed):
    leaves, targets = problem(device, form=form, targets=columns, seed=seed, spread=math.sqrt(spread))
    found, wanted = linear_log_probs(*leaves, targets, limit), plain(*leaves, targets)
    assert found.shape == ((N, K) if columns is None else (N, columns, K))
    weights = torch.linspace(-1, 2, found.numel(), dtype=torch.float64, device=device).view_as(found)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), leaves),
        torch.autograd.grad((wanted * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("columns", [None, M])
@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(device, form, columns):
    leaves, targets = problem(device, form=form, targets=columns)
    assert torch.autograd.gradcheck(lambda *x: linear_log_probs(*x, targets, 2 * K * V), leaves)


def test_a_target_named_twice_counts_twice(device):
    leaves, targets = problem(device, targets=1)
    twice = linear_log_probs(*leaves, targets.expand(-1, 2), K * V)
    once = linear_log_probs(*leaves, targets, K * V)
    for a, b in zip(torch.autograd.grad(twice.sum(), leaves), torch.autograd.grad(once.sum(), leaves), strict=True):
        torch.testing.assert_close(a, 2 * b)


@pytest.mark.parametrize("form", FORMS)
def test_no_more_logits_than_the_limit_are_ever_made(device, form):
    """The largest tensor that the forward and backward passes make is a slice, or an input's gradient."""
    leaves, targets = problem(device, form=form, targets=2)
    with LargestTensor() as recorder:
        linear_log_probs(*leaves, targets, 2 * K * V).sum().backward()
    assert recorder.largest <= max(2 * K * V, *(leaf.numel() for leaf in leaves))
    assert recorder.largest < N * K * V


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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_gives_float32_log_probabilities(device, form, dtype):
    leaves, targets = problem(device, form=form, dtype=dtype)
    found = linear_log_probs(*leaves, targets, 2 * K * V)
    assert found.dtype == torch.float32
    exact = plain(*(x.float() for x in leaves), targets)
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0.05)
    gradients = torch.autograd.grad(found.sum(), leaves)
    assert [g.dtype for g in gradients] == [dtype] * 3


@pytest.mark.parametrize("form", FORMS)
def test_under_autocast_products_are_half_and_sums_are_not(device, form):
    leaves, targets = problem(device, form=form, dtype=torch.float32)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = linear_log_probs(*leaves, targets, 2 * K * V)
    exact = plain(*leaves, targets)
    assert found.dtype == torch.float32
    assert (found != exact).any()
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0.05)
    for a, b in zip(torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(exact.sum(), leaves), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("form", FORMS)
def test_in_float32_values_and_gradients_are_those_of_float64(device, form):
    leaves, targets = problem(device, form=form, targets=M, dtype=torch.float32, spread=2.0)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    found, wanted = linear_log_probs(*leaves, targets, 2 * K * V), plain(*exact, targets)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    for a, b in zip(torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(wanted.sum(), exact), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("function", [torch.softmax, torch.log_softmax])
@pytest.mark.parametrize("vocabulary", [1, 5, 1000, 32768])
def test_softmax_in_its_own_place_is_softmax(device, function, vocabulary):
    logits = 5 * torch.randn(7, 3, vocabulary, device=device)
    if vocabulary > 1:
        logits[0, 0, 0] = -torch.inf
    wanted = function(logits, -1)
    assert torch.equal(_in_place(function, logits), wanted)
