"""The promises of every executor: causality, pieces and steps, padding, restarts, rows, gradients, precision.

`CASES` has one entry for each kind and for each setting that changes how it computes; an executor of one's own
joins by one more.
"""

import itertools
import runpy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from apelr_model.executor import Executor, GRUExecutor
from apelr_model.executor_config import GRUConfig, TransformerConfig
from apelr_model.executor_factory import build_executor

VOCAB = 9
EXAMPLE = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "own_executor.py"))


class FadingExecutor(Executor):
    """An executor of one's own: a sum of embeddings in which older ids fade."""

    def __init__(self, *, vocab_size, hidden_dim):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.token_emb = nn.Embedding(vocab_size, hidden_dim)

    def initial_carry(self, batch_size):
        return self.token_emb.weight.new_zeros(batch_size, self.hidden_dim)

    def forward(self, ids, carry, lengths=None, restarts=None):
        state = self.initial_carry(len(ids)) if carry is None else carry
        states = []
        for t in range(ids.shape[1]):
            before = state if restarts is None else state.masked_fill(restarts[:, t, None], 0)
            new = 0.7 * before + self.token_emb(ids[:, t])
            state = new if lengths is None else torch.where((lengths > t).unsqueeze(1), new, state)
            states.append(state)
        return torch.stack(states, dim=1), None if carry is None else state

    def select_rows(self, carry, rows):
        return carry.index_select(0, rows)

    def flops_per_token(self, context):
        return 0


CASES = {
    "GRU": {"config": GRUConfig(), "num_layers": 1},
    "GRU of two layers": {"config": GRUConfig(), "num_layers": 2},
    "transformer": {"config": TransformerConfig(num_heads=2)},
    "one layer": {"config": TransformerConfig(num_heads=1, rope_base=100.0), "num_layers": 1},
    "grouped heads": {"config": TransformerConfig(num_heads=4, num_kv_heads=2), "token_dim": 5},
    "one key head": {"config": TransformerConfig(num_heads=4, num_kv_heads=1, mlp_dim=12)},
    "window 1": {"config": TransformerConfig(num_heads=2, window=1)},
    "window 3": {"config": TransformerConfig(num_heads=2, num_kv_heads=1, window=3)},
    "window 4, checkpointed": {"config": TransformerConfig(num_heads=2, window=4, activation_checkpointing=True)},
    "checkpointed": {"config": TransformerConfig(num_heads=2, activation_checkpointing=True)},
    "one's own": {"config": None},
    "the example's convolution": {"config": None, "layers": 2},
    "pretrained": {"config": None},
}
OF_OTHERS = ("one's own", "the example's convolution", "pretrained")


def pretrained_executor():
    """On a Llama of random weights; skipped where transformers is not installed."""
    transformers = pytest.importorskip("transformers", reason="the extra apelr-model[transformers] is not installed")
    from apelr_model.hf import PretrainedExecutor

    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    base = transformers.LlamaModel(transformers.LlamaConfig(vocab_size=VOCAB, **sizes, num_key_value_heads=1))
    return PretrainedExecutor(base, freeze=False)


def make(name, *, dropout=0.0, seed=0):
    """An executor of width 8 in evaluation mode, of weights so large that every id matters to every later state."""
    sizes = {"vocab_size": VOCAB, "token_dim": 8, "hidden_dim": 8, "num_layers": 2, "dropout": dropout, **CASES[name]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if "layers" in sizes:
            return EXAMPLE["CausalConvolution"](VOCAB, hidden_dim=8, layers=sizes["layers"]).eval()
        if name == "one's own":
            return FadingExecutor(vocab_size=VOCAB, hidden_dim=8).eval()
        executor = pretrained_executor() if name == "pretrained" else build_executor(sizes.pop("config"), **sizes)
        for parameter in executor.parameters():
            nn.init.normal_(parameter, mean=0.0 if parameter.ndim > 1 else 0.7, std=0.4)
    return executor.eval()


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture
def executor(name, device):
    return make(name).double().to(device)


@pytest.fixture
def ids(device):
    return torch.randint(0, VOCAB, (3, 12), generator=torch.Generator().manual_seed(1)).to(device)


def fresh(executor, ids, **options):
    return executor(ids, executor.initial_carry(len(ids)), **options)


def goes_on(executor, carry, rows):
    """What a carry means: the hidden states of further ids. No other code looks into it."""
    device = next(executor.parameters()).device
    further = torch.arange(5, device=device).expand(rows, -1) % VOCAB
    return executor(further, carry)[0]


def assert_same(found, wanted, tolerance=1e-9):
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


def test_each_id_read_has_one_hidden_state(executor, ids):
    hidden, _ = fresh(executor, ids)
    assert hidden.shape == (3, 12, executor.hidden_dim)
    assert hidden.std() > 0.1


def test_a_hidden_state_depends_on_its_past_alone(executor, ids):
    other = ids.clone()
    other[:, 5:] = (other[:, 5:] + 1) % VOCAB
    before, _ = fresh(executor, ids)
    after, _ = fresh(executor, other)
    assert_same(before[:, :5], after[:, :5], 1e-12)
    assert ((before[:, 5:] - after[:, 5:]).abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("at", [0, 4, 11])
def test_the_gradient_of_a_state_reaches_back_as_far_as_stated_and_never_forward(executor, ids, at):
    embedded = []
    handle = executor.token_emb.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    hidden, _ = fresh(executor, torch.arange(12, device=ids.device).unsqueeze(0) % VOCAB)
    handle.remove()
    gradient = torch.cat([g.flatten(0, -2) for g in torch.autograd.grad(hidden[0, at].square().sum(), embedded)])
    size = gradient.abs().amax(-1)[-12:]  # before them an executor may embed what stands for ids not there
    furthest = 0 if executor.reach is None else max(0, at - executor.reach + 1)
    assert (size[:furthest] == 0).all()
    assert (size[at + 1 :] == 0).all()
    assert (size[furthest : at + 1] > 1e-9).all()


@pytest.mark.parametrize("cut", [1, 2, 5, 11])
def test_reading_in_pieces_equals_reading_at_once(executor, ids, cut):
    whole, end = fresh(executor, ids)
    first, carry = fresh(executor, ids[:, :cut])
    second, after = executor(ids[:, cut:], carry)
    assert_same(torch.cat([first, second], dim=1), whole)
    assert_same(goes_on(executor, after, 3), goes_on(executor, end, 3))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("tracked", [False, True], ids=["no_grad", "autograd"])
def test_step_by_step_equals_reading_at_once(name, device, dtype, tolerance, tracked):
    executor = make(name).to(device, dtype)
    ids = torch.randint(0, VOCAB, (2, 40), generator=torch.Generator().manual_seed(3)).to(device)
    with torch.set_grad_enabled(tracked):
        whole, _ = fresh(executor, ids)
        carry, steps = executor.initial_carry(2), []
        for t in range(40):
            hidden, carry = executor(ids[:, t : t + 1], carry)
            steps.append(hidden)
    assert_same(torch.cat(steps, dim=1), whole, tolerance)


@pytest.mark.parametrize("lengths", [(12, 3, 5), (1, 8, 2), (0, 4, 8), (0, 0, 3), (0, 0, 0)])
def test_padding_is_never_read_and_length_0_keeps_the_carry(executor, ids, device, lengths):
    _, carry = fresh(executor, ids.flip(1)[:, :4])
    count = torch.tensor(lengths, device=device)
    for filler in (0, 7):
        padded = ids.clone()
        for row, length in enumerate(lengths):
            padded[row, length:] = filler
        hidden, after = executor(padded, carry, lengths=count)
        assert hidden.shape == (3, 12, 8)
        assert torch.isfinite(hidden).all()
        further = goes_on(executor, after, 3)
        for row, length in enumerate(lengths):
            own = executor.select_rows(carry, torch.tensor([row], device=device))
            alone = torch.empty(1, 0, 8, dtype=torch.float64, device=device)
            if length:
                alone, own = executor(ids[row : row + 1, :length], own)
            assert_same(hidden[row : row + 1, :length], alone)
            assert_same(further[row : row + 1], goes_on(executor, own, 1))


def test_reading_begins_afresh_at_a_restart(executor, ids):
    restarts = torch.zeros_like(ids, dtype=torch.bool)
    restarts[0, 4] = restarts[0, 5] = restarts[1, 0] = restarts[1, 11] = True
    _, carry = fresh(executor, ids.flip(1)[:, :4])
    hidden, after = executor(ids, carry, restarts=restarts)
    started, _ = executor(ids, carry)
    documents = {0: [(4, 5), (5, 12)], 1: [(0, 11), (11, 12)]}
    for row, spans in documents.items():
        for begin, end in spans:
            alone, own = fresh(executor, ids[row : row + 1, begin:end])
            assert_same(hidden[row : row + 1, begin:end], alone)
        assert_same(goes_on(executor, after, 3)[row : row + 1], goes_on(executor, own, 1))
    assert_same(hidden[0, :4], started[0, :4])
    assert_same(hidden[2], started[2])


def test_a_restart_in_the_padding_is_not_there(executor, ids, device):
    restarts = torch.zeros_like(ids, dtype=torch.bool)
    restarts[:, 6] = True
    lengths = torch.tensor([6, 5, 0], device=device)
    _, carry = fresh(executor, ids.flip(1)[:, :4])
    with_restart = executor(ids, carry, lengths=lengths, restarts=restarts)
    without = executor(ids, carry, lengths=lengths)
    assert_same(goes_on(executor, with_restart[1], 3), goes_on(executor, without[1], 3))
    assert_same(with_restart[0][0, :6], without[0][0, :6])


def separately(executor, ids, restarts):
    """The hidden states [n, D] of one row's ids, each of its documents read alone."""
    cuts = sorted({0, len(ids), *(t for t, restart in enumerate(restarts) if restart)})
    device = next(executor.parameters()).device
    parts = [torch.tensor([ids[begin:end]], device=device) for begin, end in itertools.pairwise(cuts)]
    return torch.cat([fresh(executor, part)[0][0] for part in parts])


a_round = st.lists(
    st.lists(st.tuples(st.integers(0, VOCAB - 1), st.sampled_from([False, False, False, True])), max_size=5),
    min_size=3,
    max_size=3,
)
a_choice = st.none() | st.lists(st.integers(0, 2), min_size=3, max_size=3)


@settings(max_examples=25)
@given(rounds=st.lists(st.tuples(a_round, a_choice), min_size=1, max_size=5), tracked=st.booleans())
@pytest.mark.parametrize("name", CASES)
def test_any_sequence_of_padded_pieces_restarts_and_selections_equals_reading_each_document_alone(
    name, device, rounds, tracked
):
    executor = make(name).double().to(device)
    carry, histories = executor.initial_carry(3), [[], [], []]
    with torch.set_grad_enabled(tracked):
        for pieces, chosen in rounds:
            width = max(1, *map(len, pieces))
            padded = [[*piece, *[(0, True)] * (width - len(piece))] for piece in pieces]
            ids, restarts = torch.tensor(padded, device=device).unbind(-1)
            lengths = torch.tensor([len(piece) for piece in pieces], device=device)
            options = {"lengths": lengths} if (lengths < width).any() else {}
            if any(restart for piece in pieces for _, restart in piece):
                options["restarts"] = restarts.bool()
            hidden, carry = executor(ids, carry, **options)
            for row, piece in enumerate(pieces):
                histories[row] = histories[row] + piece
                if piece:
                    wanted = separately(executor, *zip(*histories[row], strict=True))
                    assert_same(hidden[row, : len(piece)], wanted[-len(piece) :])
            if chosen is not None:
                carry = executor.select_rows(carry, torch.tensor(chosen, device=device))
                histories = [histories[row] for row in chosen]


def test_select_rows_keeps_order_and_allows_repeats(executor, ids, device):
    for lengths in (None, torch.tensor([3, 12, 7], device=device)):
        _, carry = fresh(executor, ids, lengths=lengths)
        chosen = executor.select_rows(carry, torch.tensor([2, 0, 2, 1], device=device))
        assert_same(goes_on(executor, chosen, 4), goes_on(executor, carry, 3)[[2, 0, 2, 1]])


def test_one_may_go_on_from_a_carry_again(executor, ids):
    """Beams, trials of several continuations and repeated predictions all start from one carry."""
    with torch.no_grad():
        _, carry = fresh(executor, ids[:, :1])
        for t in range(1, 6):  # by single steps, so that there is room to write in place
            _, carry = executor(ids[:, t : t + 1], carry)
        wanted = goes_on(executor, carry, 3)
        branches = [executor(torch.full_like(ids[:, :1], token), carry)[1] for token in (1, 2, 3)]
        expected = [
            fresh(executor, torch.cat([ids[:, :6], torch.full_like(ids[:, :1], token)], 1))[1] for token in (1, 2, 3)
        ]
        for found, alone in zip(branches, expected, strict=True):
            assert_same(goes_on(executor, found, 3), goes_on(executor, alone, 3))
        assert_same(goes_on(executor, carry, 3), wanted)


@pytest.mark.parametrize("options", ["", "lengths", "restarts"])
def test_without_a_carry_nothing_is_kept_and_the_states_are_the_same(executor, ids, device, options):
    given_options = {
        "": {},
        "lengths": {"lengths": torch.tensor([12, 4, 0], device=device)},
        "restarts": {"restarts": ids == 3},
    }[options]
    hidden, carry = executor(ids, None, **given_options)
    wanted, _ = fresh(executor, ids, **given_options)
    assert carry is None
    assert_same(hidden, wanted)


def test_gradients_reach_every_parameter_and_cross_pieces(executor, ids):
    def gradients(cuts):
        carry, hidden = executor.initial_carry(3), []
        for begin, end in zip([0, *cuts], [*cuts, 12], strict=True):
            part, carry = executor(ids[:, begin:end], carry)
            hidden.append(part)
        executor.zero_grad()
        torch.cat(hidden, dim=1).pow(3).sum().backward()
        return {n: p.grad.clone() for n, p in executor.named_parameters()}

    whole, pieces = gradients([]), gradients([1, 2, 7])
    for key, gradient in whole.items():
        if executor.reach != 1 or "gru" in key:  # a window of 1 gives attention nothing to choose from
            assert gradient.abs().max() > 0, key
        assert_same(pieces[key], gradient, 1e-7)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("GRU", *OF_OTHERS)])
def test_dropout_acts_in_training_only(name, device, ids):
    executor = make(name, dropout=0.5).to(device)
    first, _ = fresh(executor.train(), ids)
    second, _ = fresh(executor, ids)
    assert (first != second).any()
    third, _ = fresh(executor.eval(), ids)
    fourth, _ = fresh(make(name).to(device), ids)
    assert (third == fourth).all()


def test_bf16_autocast_is_finite_and_near_fp32(name, device, ids):
    executor = make(name).to(device)
    lengths, restarts = torch.tensor([12, 7, 0], device=device), ids == 3
    for options in ({}, {"lengths": lengths, "restarts": restarts}):
        wanted, _ = fresh(executor, ids, **options)
        with torch.autocast(device.type, torch.bfloat16):
            low, carry = fresh(executor, ids, **options)
            steps = goes_on(executor, carry, 3)
        assert torch.isfinite(low).all()
        assert torch.isfinite(steps).all()
        valid = torch.arange(12, device=device) < options.get("lengths", torch.full((3,), 12, device=device))[:, None]
        assert (low.float() - wanted).abs()[valid].mean() < 0.05 * wanted.std()
        low[valid].float().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in executor.parameters())


def test_a_model_in_bf16_reads_and_steps(name, device, ids):
    executor = make(name).to(device, torch.bfloat16)
    with torch.no_grad():
        hidden, carry = fresh(executor, ids)
        assert hidden.dtype == torch.bfloat16
        assert torch.isfinite(goes_on(executor, carry, 3)).all()


@pytest.mark.parametrize("name", [name for name in CASES if "GRU" not in name and name not in OF_OTHERS])
def test_counted_flops_are_those_that_torch_counts(name, ids):
    executor = make(name)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        executor(ids, None)
    # Torch counts every column for every query, seen or not.
    unbounded = executor.flops_per_token(12) + 4 * len(executor.layers) * 8 * (
        12 - min(12, executor.config.window or 12)
    )
    assert counter.get_total_flops() == ids.numel() * unbounded


def test_flops_of_a_window_stop_growing_with_the_context():
    windowed, full = make("window 3"), make("transformer")
    assert windowed.flops_per_token(3) == windowed.flops_per_token(1000)
    assert full.flops_per_token(1000) - full.flops_per_token(10) == 2 * 2 * 2 * 8 * 990


def test_flops_of_a_transformer_are_the_documented_sums():
    config = TransformerConfig(num_heads=4, num_kv_heads=2, mlp_dim=10, window=5)
    executor = build_executor(config, vocab_size=5, token_dim=6, hidden_dim=16, num_layers=3, dropout=0.0)
    layer = 2 * 16 * (2 * 16 + 2 * 16 * 2 // 4 + 3 * 10)
    for context in (1, 4, 5, 9):
        assert executor.flops_per_token(context) == 3 * (layer + 4 * 16 * min(context, 5)) + 2 * 6 * 16


@pytest.mark.parametrize("name", [name for name in CASES if name not in OF_OTHERS])
@pytest.mark.parametrize("targets", [1, 2, 7])
def test_the_mean_of_a_row_is_that_of_its_tokens(name, targets):
    executor = make(name)
    each = [executor.flops_per_token(t) for t in range(1, targets + 1)]
    assert executor.mean_flops_per_token(targets) == pytest.approx(sum(each) / targets, rel=1e-12)


def test_without_a_window_a_row_costs_what_its_mean_context_does():
    full = make("transformer")
    assert full.mean_flops_per_token(7) == full.flops_per_token((7 + 1) // 2)


def test_flops_of_a_gru_are_its_six_products_a_layer():
    executor = GRUExecutor(vocab_size=5, token_dim=3, hidden_dim=7, num_layers=2, dropout=0.0)
    gates = 3 * 7
    assert executor.flops_per_token(1) == executor.flops_per_token(99) == 2 * gates * (3 + 7) + 2 * gates * (7 + 7)
    assert executor.flops_per_token(1) == 2 * sum(
        p.numel() for n, p in executor.gru.named_parameters() if "weight" in n
    )


@pytest.mark.parametrize("layers", [1, 2])
def test_the_gru_is_torchs_over_an_embedding(device, ids, layers):
    executor = (
        GRUExecutor(vocab_size=VOCAB, token_dim=4, hidden_dim=6, num_layers=layers, dropout=0.3).to(device).eval()
    )
    carry = executor.initial_carry(3)
    assert (carry == 0).all()
    hidden, after = executor(ids, carry)
    wanted, wanted_after = executor.gru(torch.nn.functional.embedding(ids, executor.token_emb.weight))
    torch.testing.assert_close(hidden, wanted)
    torch.testing.assert_close(after, wanted_after)


def test_a_gru_sees_everything_and_a_window_bounds_the_reach():
    assert make("GRU").reach is None
    assert make("transformer").reach is None
    assert make("window 1").reach == 1
    assert make("window 3").reach == 2 * (3 - 1) + 1
