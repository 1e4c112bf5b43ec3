"""The GRU over whole sequences against PyTorch's own, values and gradients; and when it is used."""

import pytest
import torch
from torch import nn

from apelr_model import plain_forms
from apelr_model.executor import GRUExecutor
from apelr_model.gru_sequence import gru_sequence


def pair(*, layers=2, dropout=0.0, dtype=torch.float64):
    """A GRU, and inputs and a start that want gradients."""
    torch.manual_seed(0)
    gru = nn.GRU(5, 4, layers, batch_first=True, dropout=dropout).to(dtype)
    inputs = torch.randn(3, 7, 5, dtype=dtype, requires_grad=True)
    start = torch.randn(layers, 3, 4, dtype=dtype, requires_grad=True)
    return gru, inputs, start


def results(read, gru, inputs, start):
    """Hidden states, last states, and all gradients of a weighted sum of both."""
    wanted = [inputs, start, *gru.parameters()]
    hidden, last = read(gru, inputs, start)
    weights = torch.linspace(-1, 2, hidden.numel(), dtype=hidden.dtype).view_as(hidden)
    loss = (hidden * weights).sum() + (last**2).sum()
    return [hidden.detach(), last.detach(), *torch.autograd.grad(loss, wanted)]


class TestSequence:
    @pytest.mark.parametrize("layers", [1, 2, 3])
    @pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
    def test_it_is_pytorchs_own(self, layers, dtype, close):
        given = pair(layers=layers, dtype=dtype)
        ours, theirs = results(gru_sequence, *given), results(nn.GRU.__call__, *given)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=close, atol=close)

    def test_gradcheck(self):
        gru, inputs, start = pair(layers=2)
        inputs, start = inputs[:2, :3].detach().requires_grad_(), start[:, :2].detach().requires_grad_()
        torch.autograd.gradcheck(lambda *x: gru_sequence(gru, *x), (inputs, start))

    def test_one_step(self):
        gru, inputs, start = pair()
        inputs = inputs[:, :1].detach().requires_grad_()
        for a, b in zip(
            results(gru_sequence, gru, inputs, start), results(nn.GRU.__call__, gru, inputs, start), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    def test_dropout_is_between_layers_in_training_alone(self):
        """With everything dropped the upper layer sees zeros, in both; out of training nothing is."""
        given = pair(dropout=1.0)
        for a, b in zip(results(gru_sequence, *given), results(nn.GRU.__call__, *given), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        gru, inputs, start = given
        trained = gru_sequence(gru, inputs, start)[0]
        gru.eval()
        plain = nn.GRU(5, 4, 2, batch_first=True).double()
        plain.load_state_dict(gru.state_dict())
        torch.testing.assert_close(gru_sequence(gru, inputs, start)[0], plain(inputs, start)[0])
        assert not torch.allclose(trained, plain(inputs, start)[0])


class TestWhenItIsUsed:
    @pytest.fixture
    def used(self, monkeypatch):
        calls = []

        def spy(*arguments):
            calls.append(1)
            return gru_sequence(*arguments)

        monkeypatch.setattr("apelr_model.executor.gru_sequence", spy)
        return calls

    def test_in_training_on_a_cpu(self, used):
        executor = GRUExecutor(vocab_size=5, token_dim=3, hidden_dim=4, num_layers=1, dropout=0.0)
        ids = torch.tensor([[1, 2, 3]])
        fast, _ = executor(ids, None)
        assert used == [1]
        with plain_forms():
            plain, _ = executor(ids, None)
        with torch.no_grad():
            executor(ids, None)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            executor(ids, None)
        assert used == [1]
        torch.testing.assert_close(fast, plain)
