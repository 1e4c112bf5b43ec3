"""What each plan state says: sums over slices of tokens, and the tokens that a state raises."""

import pytest
import torch

from apelr_model import slices
from apelr_model.head_experts import ExpertHead
from apelr_model.state_words import VocabularySums, raised_tokens, vocabulary_sums


@pytest.mark.parametrize("tokens_a_slice", [1, 3, 100])
def test_sums_are_those_of_the_whole_distributions(device, monkeypatch, tokens_a_slice):
    monkeypatch.setattr(slices, "SLICE_ELEMENTS", 1)
    monkeypatch.setattr(slices, "SLICE_TOKENS", tokens_a_slice)
    torch.manual_seed(0)
    head = ExpertHead(vocab_size=9, num_plan_states=3, hidden_dim=4, dropout=0.0).to(device).double()
    hidden = torch.randn(7, 4, dtype=torch.float64, device=device)
    log_gate = torch.randn(7, 3, dtype=torch.float64, device=device).log_softmax(-1)
    found = vocabulary_sums(head, hidden, log_gate)
    probs = head(hidden).softmax(-1)
    torch.testing.assert_close(found.states, probs.sum(0), rtol=0, atol=1e-12)
    wanted = torch.einsum("nk,nkv->v", log_gate.exp(), probs)
    torch.testing.assert_close(found.mixture, wanted, rtol=0, atol=1e-12)
    assert not found.states.requires_grad


def test_tokens_come_by_lift_and_only_where_they_are_raised():
    mixture = torch.tensor([0.4, 0.2, 0.2, 0.19, 0.01], dtype=torch.float64)
    state = torch.tensor([0.3, 0.3, 0.25, 0.05, 0.1], dtype=torch.float64)
    sums = VocabularySums(torch.stack([mixture, 10 * state]), 10 * mixture)
    found = raised_tokens(sums, 1, 5)
    # Token 4 has the highest lift, but is rarer than one in V.
    assert [token.id for token in found] == [1, 2]
    assert [token.lift for token in found] == pytest.approx([1.5, 1.25])
    assert [token.id for token in raised_tokens(sums, 1, 1)] == [1]
    assert raised_tokens(sums, 0, 5) == ()
