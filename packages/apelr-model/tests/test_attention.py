"""What queries see, when no mask is needed, and grouped queries against repeated keys."""

import itertools

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from apelr_model.attention import Sight, attend, first_seen, sight


@pytest.mark.parametrize("window", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("limits", ["none", "first", "restarts", "both"])
def test_a_query_sees_its_window_since_its_restart(device, window, past, steps, limits):
    if window is not None:
        past = min(past, window - 1)  # the cache hands over no more
    first = torch.tensor([past, min(1, past)], device=device) if limits in ("first", "both") else None
    restarts = torch.zeros(2, steps, dtype=torch.bool, device=device)
    restarts[1, steps // 2] = True
    earliest = first_seen(past, first, restarts if limits in ("restarts", "both") else None)
    seen = sight(past, steps, earliest=earliest, window=window, device=device)
    for row, query, key in itertools.product(range(2), range(steps), range(past + steps)):
        position = past + query
        begin = 0 if first is None else int(first[row])
        if limits in ("restarts", "both") and row == 1 and query >= steps // 2:
            begin = past + steps // 2
        wanted = begin <= key <= position and (window is None or key > position - window)
        if seen.mask is None:
            found = key <= position or not seen.is_causal
        else:
            found = bool(seen.mask.expand(2, 1, steps, past + steps)[row, 0, query, key])
        assert found == wanted, (row, query, key)


def test_whole_sequences_and_single_steps_need_no_mask(device):
    assert sight(0, 8, earliest=None, window=None, device=device) == Sight(None, is_causal=True)
    assert sight(0, 8, earliest=None, window=8, device=device) == Sight(None, is_causal=True)
    assert sight(7, 1, earliest=None, window=None, device=device) == Sight(None, is_causal=False)
    assert sight(7, 1, earliest=None, window=8, device=device) == Sight(None, is_causal=False)
    assert sight(0, 8, earliest=None, window=7, device=device).mask is not None
    assert sight(7, 2, earliest=None, window=None, device=device).mask is not None


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_queries_of_a_group_share_its_keys(device, heads, groups, steps, masked):
    queries = torch.randn(2, heads, steps, 6, dtype=torch.float64, device=device)
    keys, values = torch.randn(2, 2, groups, 5, 6, dtype=torch.float64, device=device)
    mask = (torch.rand(2, 1, steps, 5, device=device) < 0.5) | (torch.arange(5, device=device) == 0)
    mask = mask if masked else None
    found = attend(queries, keys, values, Sight(mask, is_causal=False), dropout=0.0)
    assert found.shape == queries.shape
    for head in range(heads):
        shared = slice(head * groups // heads, head * groups // heads + 1)
        alone = scaled_dot_product_attention(
            queries[:, head : head + 1], keys[:, shared], values[:, shared], attn_mask=mask
        )
        torch.testing.assert_close(found[:, head : head + 1], alone, rtol=0, atol=1e-12)
