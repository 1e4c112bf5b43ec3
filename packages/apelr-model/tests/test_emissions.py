"""Sliced emissions: equal to the unsliced computation in values and gradients, and never large."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from apelr_model import FactorizedHeadConfig, V1Config, V1LossWeights, V2Config, V2LossWeights, slices
from apelr_model.emissions import gate_information, mixtures, state_log_probs, target_log_probs
from apelr_model.head_experts import ExpertHead
from apelr_model.objective import loss_terms, total_loss

N, K, V = 23, 3, 11


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation makes, backward ones included."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return made


def limit_slices(monkeypatch, elements):
    monkeypatch.setattr(slices, "SLICE_ELEMENTS", elements)
    monkeypatch.setattr(slices, "SLICE_TOKENS", 1)


@pytest.fixture(params=["v1", "experts"])
def problem(request, make_model, device):
    """A head, hidden states [N, D], targets [N], beliefs [N, K], chunk-start beliefs [N, K] and groups [N]."""
    generator = torch.Generator().manual_seed(0)
    head = make_model(vocab=V, num_plan_states=K).head
    if request.param == "experts":
        torch.manual_seed(0)
        head = ExpertHead(vocab_size=V, num_plan_states=K, hidden_dim=7, dropout=0.0).to(hidden_like(head))
    hidden = torch.randn(N, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, V, (N,), generator=generator)
    beliefs = torch.randn(2, N, K, generator=generator, dtype=torch.float64).log_softmax(-1)
    group = torch.tensor([0] * 4 + [1] + [2] * 9 + [3] * 2 + [4] * 7)
    return head, *(x.to(device) for x in (hidden, targets, beliefs[0], beliefs[1], group))


def hidden_like(head):
    return next(head.parameters())


def gradients(value, head, *inputs):
    """Values and all gradients of a weighted sum, as one list."""
    weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype, device=value.device)
    leaves = [*head.parameters(), *inputs]
    total = (value.flatten() * weights).sum()
    found = torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=True)
    return [value.detach(), *(torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True))]


def assert_all_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("limit", [1, 2 * K * V, 5 * K * V, 2**22])
def test_target_log_probs_equal_the_unsliced_ones(problem, monkeypatch, limit):
    head, hidden, targets, *_ = problem
    limit_slices(monkeypatch, limit)
    hidden.requires_grad_()
    found = target_log_probs(head, hidden, targets)
    plain = head(hidden).log_softmax(-1)[torch.arange(N), :, targets]
    assert_all_close(gradients(found, head, hidden), gradients(plain, head, hidden))


def test_several_targets_for_each_token_are_as_many_single_ones(problem):
    head, hidden, targets, *_ = problem
    several = torch.stack([targets, (targets + 4) % V, targets], dim=1)
    found = target_log_probs(head, hidden, several)
    assert found.shape == (N, 3, K)
    for m in range(3):
        torch.testing.assert_close(found[:, m], target_log_probs(head, hidden, several[:, m]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("limit", [1, 2 * K * V, 5 * K * V, 2**22])
def test_gate_information_is_the_mixtures_entropy_less_the_states_own(problem, monkeypatch, limit):
    head, hidden, _, log_gate, *_ = problem
    limit_slices(monkeypatch, limit)
    leaves = [x.requires_grad_() for x in (hidden, log_gate)]
    found = gate_information(head, hidden, log_gate)
    states = head(hidden).softmax(-1)  # [N, K, V]
    mixed = (log_gate.exp().unsqueeze(-1) * states).sum(1)
    wanted = -(mixed * mixed.log()).sum(-1) - (log_gate.exp() * -(states * states.log()).sum(-1)).sum(-1)
    assert_all_close(gradients(found, head, *leaves), gradients(wanted, head, *leaves))


@pytest.mark.parametrize("limit", [1, 2 * K * V, 5 * K * V, 2**22])
def test_mixtures_equal_a_plain_reference(problem, monkeypatch, limit):
    head, hidden, _, log_belief, log_start, group = problem
    limit_slices(monkeypatch, limit)
    leaves = [x.requires_grad_() for x in (hidden, log_belief, log_start)]
    found = mixtures(head, hidden, log_belief, log_start, group, num_groups=5, vocab_size=V)

    states = head(hidden).softmax(-1)  # [N, K, V]
    mixed = (log_belief.exp().unsqueeze(-1) * states).sum(1)
    started = (log_start.exp().unsqueeze(-1) * states).sum(1)
    wanted = (
        -(mixed * mixed.log()).sum(-1),
        (log_belief.exp() * -(states * states.log()).sum(-1)).sum(-1),
        torch.stack([started[group == g].mean(0) for g in range(5)]),
    )
    for a, b in zip(found, wanted, strict=True):
        assert_all_close(gradients(a, head, *leaves), gradients(b, head, *leaves))


def test_log_probabilities_are_in_at_least_float32(problem):
    head, hidden, targets, *_ = problem
    assert state_log_probs(head, hidden).dtype == torch.float64
    half = head.bfloat16()
    assert state_log_probs(half, hidden.bfloat16()).dtype == torch.float32
    assert target_log_probs(half, hidden.bfloat16(), targets).dtype == torch.float32
    head.double()


def test_dropout_is_the_same_in_forward_and_recomputation(make_model, device):
    """The gradient of a loss with dropout agrees with a finite difference under the same random numbers."""
    head = make_model(vocab=V, num_plan_states=K, dropout=0.5).head.train()
    hidden = torch.randn(N, 7, dtype=torch.float64, device=device, requires_grad=True)
    targets = torch.zeros(N, dtype=torch.long, device=device)

    def loss(values):
        torch.manual_seed(3)
        return target_log_probs(head, values, targets).sum()

    (gradient,) = torch.autograd.grad(loss(hidden), hidden)
    step = torch.randn_like(hidden) * 1e-6
    with torch.no_grad():
        difference = loss(hidden + step) - loss(hidden - step)
    torch.testing.assert_close(difference, 2 * (gradient * step).sum(), rtol=1e-4, atol=0)


ALL_V1 = V1LossWeights(
    entropy_reg_weight=0.1, usage_balance_weight=0.1, chunk_bow_weight=0.1, plan_mi_weight=0.1, chunk_post_kl_weight=0.1
)
ALL_V2 = V2LossWeights(
    usage_balance=0.1, boundary_entropy=0.1, future_contrastive=0.1, plan_js_div=0.1, rep_unlikelihood=0.1, rep_window=4
)


@pytest.mark.parametrize(
    ("kind", "weights", "sizes"),
    [
        (V1Config, ALL_V1, {}),
        (V2Config, ALL_V2, {}),
        *((V2Config, ALL_V2, {"head": FactorizedHeadConfig(rank=rank)}) for rank in (0, 2)),
    ],
    ids=["v1", "v2, dense", "v2, factorized", "v2, factorized of rank 2"],
)
def test_no_tensor_of_the_whole_batchs_logits_is_ever_made(make_model, make_batch, monkeypatch, kind, weights, sizes):
    vocab, states, rows, steps = 97, 5, 6, 20
    model = make_model(kind=kind, vocab=vocab, num_plan_states=states, dtype=torch.float32, **sizes).train()
    batch = make_batch([steps] * rows, vocab=vocab)
    whole = rows * steps * states * vocab
    largest = []
    for limit in (whole // 10, whole):
        limit_slices(monkeypatch, limit)
        with LargestTensor() as recorder:
            total_loss(loss_terms(model, batch, weights), weights, 0).backward()
        largest.append(recorder.largest)
    assert largest[0] <= max(whole // 10, 2 * rows * steps * vocab)
    assert largest[0] < whole / 2
    assert largest[1] == whole  # what the recorder sees without slices, in the same pass


def test_no_slices_are_kept_for_the_backward_pass(make_model, make_batch, monkeypatch):
    """All that the forward pass saves, put together, is smaller than the logits of the whole batch."""
    vocab, states, rows, steps = 97, 5, 6, 20
    model = make_model(vocab=vocab, num_plan_states=states, dtype=torch.float32).train()
    weights = V1LossWeights(chunk_bow_weight=0.1, plan_mi_weight=0.1)
    batch = make_batch([steps] * rows, vocab=vocab)
    whole = rows * steps * states * vocab
    limit_slices(monkeypatch, whole // 10)
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def record(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        total = total_loss(loss_terms(model, batch, weights), weights, 0)
    assert 0 < sum(kept.values()) < whole
    total.backward()
