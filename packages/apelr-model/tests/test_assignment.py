"""The assignment against all permutations, and against scipy."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from apelr_model.assignment import best_assignment


def total(values, found):
    return sum(values[row][column] for row, column in enumerate(found) if column >= 0)


def assert_an_assignment(found, rows, columns):
    used = [column for column in found if column >= 0]
    assert len(found) == rows
    assert len(used) == len(set(used)) == min(rows, columns)
    assert set(used) <= set(range(columns))


@settings(max_examples=150)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**32))
def test_no_permutation_is_better(rows, columns, size, seed):
    """Small whole numbers, so that many assignments tie."""
    values = torch.randint(-size, size + 1, (rows, columns), generator=torch.Generator().manual_seed(seed)).double()
    found, plain = best_assignment(values).tolist(), values.tolist()
    assert_an_assignment(found, rows, columns)
    if rows <= columns:
        best = max(total(plain, way) for way in itertools.permutations(range(columns), rows))
    else:
        turned = values.T.tolist()
        best = max(total(turned, way) for way in itertools.permutations(range(rows), columns))
    assert total(plain, found) == pytest.approx(best)


@pytest.mark.parametrize("shape", [(128, 128), (40, 90), (90, 40), (1, 7), (7, 1)])
def test_scipy_finds_nothing_better(shape):
    draw = torch.Generator().manual_seed(0)
    for values in (torch.rand(shape, generator=draw), torch.randint(0, 20, shape, generator=draw).float()):
        found = best_assignment(values).tolist()
        assert_an_assignment(found, *shape)
        best = values.numpy()[optimize.linear_sum_assignment(values.numpy(), maximize=True)].sum()
        assert total(values.tolist(), found) == pytest.approx(best, rel=1e-5)


def test_a_shuffled_diagonal_is_found():
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    values = torch.eye(50)[order]
    assert torch.equal(best_assignment(values), order)


@pytest.mark.parametrize("values", [torch.zeros(3), torch.zeros(0, 2)])
def test_another_shape_is_refused(values):
    with pytest.raises(ValueError, match=r"values must be \[N, M\], not empty, got \["):
        best_assignment(values)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_values_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="values must be finite"):
        best_assignment(torch.tensor([[0.0, value]]))
