"""Slices of tokens: all of them, once, and of bounded size."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from apelr_model.slices import SLICE_ELEMENTS, SLICE_TOKENS, recomputed, slice_limit, slice_rows


@given(st.integers(0, 50), st.integers(1, 20), st.integers(1, 60))
def test_slices_cover_everything_once_and_hold_no_more_than_the_limit(tokens, elements, limit):
    parts = list(slice_rows(tokens, elements, limit))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(tokens))
    assert all((part.stop - part.start) * elements <= limit or part.stop - part.start == 1 for part in parts)


@given(st.integers(1, 2**24))
def test_a_slice_of_a_wide_head_still_holds_enough_tokens(elements):
    limit = slice_limit(elements)
    assert limit >= SLICE_ELEMENTS
    assert limit // elements >= SLICE_TOKENS
    assert limit == SLICE_ELEMENTS or limit == SLICE_TOKENS * elements


def test_a_recomputed_value_keeps_its_inputs_alone():
    values = torch.rand(5, dtype=torch.float64, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        found = recomputed(lambda x: x.exp().sin().exp().sum(), values)
    assert all(x is values or x.data_ptr() == values.data_ptr() for x in kept if isinstance(x, torch.Tensor) and len(x))
    (gradient,) = torch.autograd.grad(found, values)
    (wanted,) = torch.autograd.grad(values.exp().sin().exp().sum(), values)
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=0)
    with torch.no_grad():
        assert recomputed(torch.sum, values) == values.sum()
