"""Rotary positions against the formula in complex numbers."""

import cmath

import pytest
import torch

from apelr_model.rotary import rotary, rotate


@pytest.mark.parametrize("base", [10000.0, 50.0])
def test_pairs_turn_by_position_times_a_falling_frequency(device, base):
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, device=device)
    start = torch.tensor([0, 100], device=device)
    turned = rotate(x, rotary(start, 4, width=6, base=base, dtype=torch.float64))
    for row, begin in enumerate((0, 100)):
        for step in range(4):
            for pair in range(3):
                turn = cmath.exp(1j * (begin + step) * base ** (-2 * pair / 6))
                for head in range(3):
                    before, after = x[row, head, step], turned[row, head, step]
                    wanted = complex(before[pair], before[pair + 3]) * turn
                    assert abs(complex(after[pair], after[pair + 3]) - wanted) < 1e-12


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_scores_depend_on_distances_alone_even_far_into_a_stream(device, dtype, tolerance):
    queries, keys = torch.randn(2, 1, 1, 5, 16, dtype=dtype, device=device)
    scores = []
    for begin in (0, 10, 100_000_000):
        angles = rotary(torch.tensor([begin], device=device), 5, width=16, base=10000.0, dtype=dtype)
        scores.append(rotate(queries, angles) @ rotate(keys, angles).mT)
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(scores[2], scores[0], rtol=0, atol=tolerance)


def test_the_type_of_what_is_turned_is_kept(device):
    x = torch.randn(1, 2, 3, 4, device=device).bfloat16()
    turned = rotate(x, rotary(torch.tensor([7], device=device), 3, width=4, base=100.0, dtype=torch.float32))
    assert turned.dtype == torch.bfloat16
    exact = rotate(x.double(), rotary(torch.tensor([7], device=device), 3, width=4, base=100.0, dtype=torch.float64))
    torch.testing.assert_close(turned.double(), exact, rtol=2**-8, atol=1e-3)


def test_the_gradient_is_the_turn_back(device):
    angles = rotary(torch.tensor([3], device=device), 4, width=6, base=100.0, dtype=torch.float64)
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, device=device, requires_grad=True)
    torch.autograd.gradcheck(lambda x: rotate(x, angles), x)
    turned = rotate(x, angles)
    (back,) = torch.autograd.grad(turned, x, turned)
    torch.testing.assert_close(back, x)
