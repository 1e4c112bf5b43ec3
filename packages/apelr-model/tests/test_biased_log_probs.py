"""The shared normalisers against plain log-softmax: values, gradients, slices, extreme biases, low precision."""

import pytest
import torch

from apelr_model.biased_log_probs import LARGEST_BIAS, biased_log_probs

N, D, V, K = 7, 5, 11, 3


def plain(features, weight, bias, plan_bias, targets):
    log_probs = ((features @ weight.T + bias).unsqueeze(1) + plan_bias).log_softmax(-1)  # [N, K, V]
    chosen = log_probs.gather(-1, targets.view(len(targets), 1, -1).expand(-1, len(plan_bias), -1)).transpose(1, 2)
    return chosen.squeeze(1) if targets.ndim == 1 else chosen


@pytest.fixture
def leaves(device):
    generator = torch.Generator().manual_seed(0)
    shapes = [(N, D), (V, D), (V,), (K, V)]
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [each.to(device).requires_grad_() for each in made]


@pytest.mark.parametrize("shape", [(N,), (N, 2)])
@pytest.mark.parametrize("limit", [1, 3 * V, 1000 * V])
def test_values_and_gradients_are_those_of_log_softmax(leaves, shape, limit):
    targets = torch.randint(V, shape, device=leaves[0].device)
    found, wanted = biased_log_probs(*leaves, targets, limit), plain(*leaves, targets)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    weights = torch.randn_like(wanted)
    gradients = [torch.autograd.grad((x * weights).sum(), leaves) for x in (found, wanted)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)


def test_gradcheck(leaves):
    targets = torch.randint(V, (N,), device=leaves[0].device)
    assert torch.autograd.gradcheck(lambda *x: biased_log_probs(*x, targets, 2 * V), leaves)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_float32_is_exact_at_the_largest_biases(device, scale):
    """The most likely word of the shared logits may be the least likely one of a state, by e^-40."""
    generator = torch.Generator().manual_seed(1)
    features = scale * torch.randn(50, D, generator=generator)
    weight, bias = torch.randn(V, D, generator=generator), torch.randn(V, generator=generator)
    plan_bias = LARGEST_BIAS * torch.randn(K, V, generator=generator).sign()
    targets = torch.randint(V, (50,), generator=generator)
    leaves = [each.to(device) for each in (features, weight, bias, plan_bias)]
    exact = plain(*(each.double() for each in leaves), targets.to(device))
    found = biased_log_probs(*leaves, targets.to(device), 10 * V)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-4)


def test_autocast_keeps_sums_in_float32(device):
    generator = torch.Generator().manual_seed(2)
    leaves = [torch.randn(shape, generator=generator).to(device).requires_grad_() for shape in [(N, D), (V, D), (V,)]]
    plan_bias = torch.randn(K, V, generator=generator).to(device).requires_grad_()
    targets = torch.randint(V, (N,), generator=generator).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = biased_log_probs(*leaves, plan_bias, targets, 2 * V)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(*leaves, plan_bias, targets), rtol=0, atol=0.1)
    found.sum().backward()
    assert all(each.grad.dtype == torch.float32 for each in [*leaves, plan_bias])


def test_nothing_of_the_size_of_all_states_words_is_made():
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        many = [torch.randn(shape, requires_grad=True) for shape in [(300, 4), (50, 4), (50,), (40, 50)]]
        biased_log_probs(*many, torch.zeros(300, dtype=torch.long), 1000).sum().backward()
    assert max(sizes) <= 300 * 40 < 300 * 40 * 50
