"""Running sums inside runs: PyTorch's cumsum, by slices where runs are short."""

import pytest
import torch

from apelr_model.running_sum import MOST_STEPS, running_sum


@pytest.mark.parametrize("steps", [1, 2, 5, MOST_STEPS, MOST_STEPS + 1])
def test_it_is_cumsum(device, steps):
    values = torch.randn(2, 3, steps, 4, dtype=torch.float64, device=device, requires_grad=True)
    summed = running_sum(values)
    torch.testing.assert_close(summed, values.cumsum(2), rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(summed)
    ours, theirs = (torch.autograd.grad(found, values, weights)[0] for found in (summed, values.cumsum(2)))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_what_goes_in_is_left_as_it_is(device):
    values = torch.ones(1, 1, 3, 1, device=device)
    assert running_sum(values).flatten().tolist() == [1, 2, 3]
    assert values.flatten().tolist() == [1, 1, 1]


def test_minus_infinity_stays(device):
    values = torch.tensor([0.0, -torch.inf, 1.0], device=device).view(1, 1, 3, 1)
    assert running_sum(values).flatten().tolist() == [0, -torch.inf, -torch.inf]
