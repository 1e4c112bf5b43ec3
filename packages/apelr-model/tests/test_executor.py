"""The executor's promises: pieces equal the whole, padding, causality, selection of rows."""

import pytest
import torch

from apelr_model.executor import GRUExecutor


@pytest.fixture(params=[1, 2], ids=["one layer", "two layers"])
def executor(request, device):
    torch.manual_seed(0)
    made = GRUExecutor(vocab_size=9, token_dim=4, hidden_dim=6, num_layers=request.param, dropout=0.3)
    return made.double().to(device).eval()


@pytest.fixture
def ids(device):
    return torch.randint(0, 9, (3, 8), generator=torch.Generator().manual_seed(1)).to(device)


def test_it_is_torchs_gru_over_an_embedding(executor, ids):
    carry = executor.initial_carry(3)
    assert (carry == 0).all()
    hidden, after = executor(ids, carry)
    wanted, wanted_after = executor.gru(torch.nn.functional.embedding(ids, executor.token_emb.weight))
    torch.testing.assert_close(hidden, wanted)
    torch.testing.assert_close(after, wanted_after)
    assert hidden.shape == (3, 8, executor.hidden_dim)


@pytest.mark.parametrize("cut", range(1, 8))
def test_reading_in_pieces_equals_reading_at_once(executor, ids, cut):
    whole, end = executor(ids, executor.initial_carry(3))
    first, carry = executor(ids[:, :cut], executor.initial_carry(3))
    second, after = executor(ids[:, cut:], carry)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(after, end, rtol=0, atol=1e-12)


def test_a_hidden_state_depends_on_its_past_alone(executor, ids):
    other = ids.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 9
    before, _ = executor(ids, executor.initial_carry(3))
    after, _ = executor(other, executor.initial_carry(3))
    torch.testing.assert_close(before[:, :5], after[:, :5], rtol=0, atol=0)
    assert (before[:, 5:] - after[:, 5:]).abs().max() > 1e-3


@pytest.mark.parametrize("lengths", [(8, 3, 5), (1, 8, 2), (0, 4, 8), (0, 0, 3)])
def test_padding_is_never_read_and_length_0_keeps_the_carry(executor, ids, device, lengths):
    carry = torch.randn(executor.gru.num_layers, 3, 6, dtype=torch.float64, device=device)
    results = []
    for filler in (0, 7):
        padded = ids.clone()
        for row, length in enumerate(lengths):
            padded[row, length:] = filler
        results.append(executor(padded, carry, torch.tensor(lengths, device=device)))
    for row, length in enumerate(lengths):
        for hidden, after in results:
            if length == 0:
                torch.testing.assert_close(after[:, row], carry[:, row], rtol=0, atol=0)
                continue
            alone, alone_after = executor(ids[row : row + 1, :length], carry[:, row : row + 1].contiguous())
            torch.testing.assert_close(hidden[row : row + 1, :length], alone, rtol=0, atol=1e-12)
            torch.testing.assert_close(after[:, row], alone_after[:, 0], rtol=0, atol=1e-12)
        assert results[0][0].shape == (3, 8, 6)


def test_select_rows_keeps_order_and_allows_repeats(executor, device):
    carry = torch.randn(executor.gru.num_layers, 3, 6, dtype=torch.float64, device=device)
    chosen = executor.select_rows(carry, torch.tensor([2, 0, 2], device=device))
    torch.testing.assert_close(chosen, carry[:, [2, 0, 2]])


def test_dropout_acts_between_layers_in_training_only(device, ids):
    executor = GRUExecutor(vocab_size=9, token_dim=4, hidden_dim=6, num_layers=2, dropout=0.5).to(device)
    first, _ = executor.train()(ids, executor.initial_carry(3))
    second, _ = executor(ids, executor.initial_carry(3))
    assert (first != second).any()
    third, _ = executor.eval()(ids, executor.initial_carry(3))
    fourth, _ = executor(ids, executor.initial_carry(3))
    assert (third == fourth).all()
