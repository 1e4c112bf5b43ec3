"""Divergence between plan states against loops over tokens, pairs and words."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from apelr_model import slices
from apelr_model.head_experts import ExpertHead
from apelr_model.head_v1 import V1Head
from apelr_model.plan_divergence import mean_of_pairs, pairwise_js_sums, plan_js_div

N, K, V, D = 13, 4, 9, 6


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation makes, backward ones included."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return made


def make(kind="experts", states=K, vocab=V, dtype=torch.float64, scale=3.0):
    torch.manual_seed(0)
    if kind == "v1":
        head = V1Head(vocab_size=vocab, num_plan_states=states, hidden_dim=D, fusion_dim=5, dropout=0.0)
    else:
        head = ExpertHead(vocab_size=vocab, num_plan_states=states, hidden_dim=D, dropout=0.0)
    head = head.to(dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(scale)
    return head, torch.randn(N, D, dtype=dtype, requires_grad=True)


def limit_slices(monkeypatch, elements):
    monkeypatch.setattr(slices, "SLICE_ELEMENTS", elements)
    monkeypatch.setattr(slices, "SLICE_TOKENS", 1)


def plain_js(p, q):
    """1/2 KL(p || m) + 1/2 KL(q || m) with m = (p + q) / 2."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        m = (a + b) / 2
        total += 0.5 * (a * math.log(a / m) if a else 0.0) + 0.5 * (b * math.log(b / m) if b else 0.0)
    return total


def with_autograd(head, hidden):
    """mean over pairs of H(m) - (H(p) + H(q)) / 2, [N], by torch's own gradient."""

    def entropy(p):
        return -(p * p.log()).sum(-1)

    probs = head(hidden).softmax(-1)
    states = range(probs.shape[1])
    pairs = [(probs[:, i], probs[:, j]) for i in states for j in states if i < j]
    return sum(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2 for p, q in pairs) / len(pairs)


@pytest.mark.parametrize("limit", [1, 3 * K * V, 2**22])
def test_values_are_those_of_the_formula(monkeypatch, limit):
    limit_slices(monkeypatch, limit)
    head, hidden = make()
    probs = head(hidden).softmax(-1).tolist()
    table = torch.tensor([[[plain_js(token[i], token[j]) for j in range(K)] for i in range(K)] for token in probs])
    pairs = [(i, j) for i in range(K) for j in range(i + 1, K)]
    found = plan_js_div(head, hidden)
    wanted = torch.stack([table[:, i, j] for i, j in pairs]).mean(0).double()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    sums = pairwise_js_sums(head, hidden)
    assert sums.dtype == torch.float64
    torch.testing.assert_close(sums, table.double().sum(0), rtol=0, atol=1e-5)
    assert torch.equal(sums, sums.T)
    assert (sums.diagonal() == 0).all()
    torch.testing.assert_close(mean_of_pairs(sums / N), found.mean())


@pytest.mark.parametrize("limit", [1, 3 * K * V, 2**22])
@pytest.mark.parametrize("kind", ["v1", "experts"])
def test_gradients_are_torchs_own(monkeypatch, kind, limit):
    limit_slices(monkeypatch, limit)
    head, hidden = make(kind)
    leaves = [*head.parameters(), hidden]
    weights = torch.linspace(-1, 2, N, dtype=torch.float64)
    found, wanted = plan_js_div(head, hidden), with_autograd(head, hidden)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), leaves),
        torch.autograd.grad((wanted * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_gradcheck():
    head, hidden = make()
    assert torch.autograd.gradcheck(lambda x: plan_js_div(head, x), hidden)


def test_equal_states_are_at_0_and_disjoint_ones_at_log_2():
    head, hidden = make(states=2, vocab=4)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    assert plan_js_div(head, hidden).tolist() == pytest.approx([0.0] * N, abs=1e-12)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([[900.0, 900, 0, 0], [0, 0, 900, 900]]))
    found = plan_js_div(head, hidden)
    assert found.tolist() == pytest.approx([math.log(2)] * N)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(found.sum(), [*head.parameters(), hidden]))


def test_words_that_states_exclude_count_nothing_and_leave_gradients_finite():
    head, hidden = make(states=3)
    with torch.no_grad():
        head.bias[:2, 0] = -math.inf
        head.bias[2, 1] = -math.inf
    probs = head(hidden).softmax(-1).tolist()
    wanted = [sum(plain_js(p[i], p[j]) for i, j in ((0, 1), (0, 2), (1, 2))) / 3 for p in probs]
    found = plan_js_div(head, hidden)
    assert found.tolist() == pytest.approx(wanted)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(found.sum(), [head.weight, hidden]))


def test_small_divergences_are_right_in_float32():
    head, hidden = make(dtype=torch.float64, scale=0.02)
    exact = plan_js_div(head, hidden)
    assert exact.max() < 1e-3
    found = plan_js_div(head.float(), hidden.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-2, atol=2e-7)


def test_one_state_has_no_pairs():
    head, hidden = make(states=1)
    found = plan_js_div(head, hidden)
    assert found.tolist() == [0.0] * N
    found.sum().backward()
    assert pairwise_js_sums(head, hidden).tolist() == [[0.0]]
    assert mean_of_pairs(torch.zeros(1, 1)).item() == 0


def test_ascending_it_moves_states_apart():
    head, hidden = make()
    before = plan_js_div(head, hidden).mean()
    (gradient,) = torch.autograd.grad(before, head.weight)
    with torch.no_grad():
        head.weight += 0.1 * gradient
    assert plan_js_div(head, hidden).mean() > before


def test_no_tensor_of_all_tokens_logits_or_of_all_pairs_is_ever_made(monkeypatch):
    head, hidden = make(vocab=200)
    limit_slices(monkeypatch, 3 * K * 200)
    with LargestTensor() as recorder:
        plan_js_div(head, hidden).sum().backward()
        pairwise_js_sums(head, hidden)
    assert recorder.largest <= max(3 * K * 200, head.weight.numel())


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_vocabulary(monkeypatch):
    kept = []
    for vocab in (50, 200):
        head, hidden = make(vocab=vocab)
        limit_slices(monkeypatch, 3 * K * vocab)
        own = {p.untyped_storage().data_ptr() for p in head.parameters()}
        sizes = {}

        def record(tensor, own=own, sizes=sizes):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
            total = plan_js_div(head, hidden).sum()
        total.backward()
        kept.append(sum(sizes.values()))
    assert 0 < kept[0] == kept[1]
