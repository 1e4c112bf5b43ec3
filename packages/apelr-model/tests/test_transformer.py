"""The transformer against loops written from its formulas; its memory, its checkpointing, its fresh weights."""

import cmath
import math
import weakref

import pytest
import torch

from apelr_model import attention
from apelr_model.executor_config import TransformerConfig
from apelr_model.transformer import TransformerExecutor

VOCAB = 9


def make(device, *, dtype=torch.float64, std=0.4, token_dim=8, hidden_dim=8, num_layers=2, dropout=0.0, **config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        executor = TransformerExecutor(
            TransformerConfig(**{"num_heads": 2, **config}),
            vocab_size=VOCAB,
            token_dim=token_dim,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            dropout=dropout,
        )
        if std:
            for parameter in executor.parameters():
                torch.nn.init.normal_(parameter, mean=0.0 if parameter.ndim > 1 else 0.7, std=std)
    return executor.to(device, dtype).eval()


def random_ids(device, rows, steps):
    return torch.randint(0, VOCAB, (rows, steps), generator=torch.Generator().manual_seed(1)).to(device)


def plain(executor, ids):
    """The formulas, one number at a time, without torch: hidden states of a list of ids."""
    config, weights = executor.config, {n: p.tolist() for n, p in executor.named_parameters()}
    heads, groups = config.num_heads, config.num_kv_heads or config.num_heads
    width = executor.hidden_dim // heads

    def product(matrix, x):
        return [math.fsum(w * v for w, v in zip(row, x, strict=True)) for row in matrix]

    def norm(x, weight):
        size = math.sqrt(math.fsum(v * v for v in x) / len(x) + 1e-6)
        return [v / size * w for v, w in zip(x, weight, strict=True)]

    def turned(x, position):
        half = width // 2
        pairs = [
            complex(x[i], x[i + half]) * cmath.exp(1j * position * config.rope_base ** (-2 * i / width))
            for i in range(half)
        ]
        return [p.real for p in pairs] + [p.imag for p in pairs]

    def attended(states, name):
        rows = [product(weights[f"{name}.qkv.weight"], x) for x in states]
        parts = [[row[i : i + width] for i in range(0, len(row), width)] for row in rows]
        results = []
        for t in range(len(states)):
            mixed = []
            for head in range(heads):
                group = head // (heads // groups)
                query = turned(parts[t][head], t)
                begin = 0 if config.window is None else max(0, t - config.window + 1)
                keys = [turned(parts[s][heads + group], s) for s in range(begin, t + 1)]
                scores = [math.fsum(a * b for a, b in zip(query, k, strict=True)) / math.sqrt(width) for k in keys]
                shares = [math.exp(score) for score in scores]
                values = [parts[s][heads + groups + group] for s in range(begin, t + 1)]
                mixed += [
                    math.fsum(p * v[i] for p, v in zip(shares, values, strict=True)) / math.fsum(shares)
                    for i in range(width)
                ]
            results.append(product(weights[f"{name}.out.weight"], mixed))
        return results

    states = [weights["token_emb.weight"][i] for i in ids]
    if executor.token_proj is not None:
        states = [product(weights["token_proj.weight"], x) for x in states]
    for layer in range(len(executor.layers)):
        name = f"layers.{layer}"
        normed = [norm(x, weights[f"{name}.attention_norm.weight"]) for x in states]
        added = attended(normed, f"{name}.attention")
        states = [[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(states, added, strict=True)]
        for t, x in enumerate(states):
            both = product(weights[f"{name}.mlp.gate_up.weight"], norm(x, weights[f"{name}.mlp_norm.weight"]))
            gate, up = both[: len(both) // 2], both[len(both) // 2 :]
            inner = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)]
            states[t] = [a + b for a, b in zip(x, product(weights[f"{name}.mlp.down.weight"], inner), strict=True)]
    return [norm(x, weights["norm.weight"]) for x in states]


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"num_heads": 4, "num_kv_heads": 2, "token_dim": 5, "mlp_dim": 6},
        {"num_kv_heads": 1, "window": 3, "rope_base": 30.0},
    ],
    ids=["heads alike", "grouped heads, own token width", "window"],
)
def test_it_computes_its_formulas(device, sizes):
    executor = make(device, **sizes)
    ids = random_ids(device, 1, 10)
    hidden, _ = executor(ids, executor.initial_carry(1))
    wanted = torch.tensor([plain(executor, ids[0].tolist())], dtype=torch.float64, device=device)
    torch.testing.assert_close(hidden, wanted, rtol=0, atol=1e-10)


def test_whole_sequences_padded_ones_and_steps_are_read_without_a_mask(device, monkeypatch):
    executor, calls = make(device), []
    real = attention.scaled_dot_product_attention

    def spy(*tensors, **options):
        calls.append((options["attn_mask"] is None, options["is_causal"]))
        return real(*tensors, **options)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", spy)
    ids = random_ids(device, 2, 6)
    _, carry = executor(ids, executor.initial_carry(2))
    executor(ids, executor.initial_carry(2), lengths=torch.tensor([6, 2], device=device))
    executor(ids, None)
    assert set(calls) == {(True, True)}
    windowed = make(device, window=4)
    _, windowed_carry = windowed(ids, windowed.initial_carry(2))
    calls.clear()
    for t in range(3):
        _, carry = executor(ids[:, t : t + 1], carry)
        _, windowed_carry = windowed(ids[:, t : t + 1], windowed_carry)
    assert set(calls) == {(True, False)}


def test_without_a_window_the_cache_grows_by_the_stated_bytes_a_token(device):
    executor = make(device, num_heads=4, num_kv_heads=2, dtype=torch.float32)
    per_token = 2 * 2 * 2 * 2 * 4  # keys and values, layers, heads, width, bytes
    assert executor.cache_bytes_per_token == per_token
    assert executor.double().cache_bytes_per_token == 2 * per_token
    executor.float()
    with torch.no_grad():
        _, carry = executor(random_ids(device, 3, 50), executor.initial_carry(3))
        assert carry.num_bytes() == 3 * 50 * per_token
        for read in range(51, 260):
            _, carry = executor(random_ids(device, 3, 1), carry)
            assert 3 * read * per_token <= carry.num_bytes() <= 2 * 3 * read * per_token


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("window", [1, 2, 7])
def test_with_a_window_the_cache_never_holds_more_than_the_window(device, window, padded, tracked):
    executor = make(device, window=window)
    with torch.set_grad_enabled(tracked):
        carry = executor.initial_carry(3)
        for steps in (40, 1, 1, 3, 20, 1, 1, 1, 1, 1, 1, 1, 1, 30):
            lengths = torch.tensor([steps, steps - 1, 0], device=device) if padded else None
            _, carry = executor(random_ids(device, 3, steps), carry, lengths=lengths)
            assert carry.num_bytes() <= 3 * window * executor.cache_bytes_per_token


@pytest.mark.parametrize("kept", [False, True])
def test_without_a_carry_a_layers_keys_are_gone_when_the_next_layer_reads(device, kept):
    executor, alive = make(device), []
    first, second = executor.layers
    first.attention.register_forward_hook(lambda module, inputs, output: alive.append(weakref.ref(output[1])))
    second.register_forward_pre_hook(lambda module, inputs: alive.append(alive.pop()() is not None))
    with torch.no_grad():
        executor(random_ids(device, 2, 5), executor.initial_carry(2) if kept else None)
    assert alive == [kept]


def test_restarts_free_what_no_row_sees_any_more(device):
    executor = make(device)
    carry = executor.initial_carry(2)
    for _ in range(20):
        ids = random_ids(device, 2, 10)
        restarts = torch.zeros_like(ids, dtype=torch.bool)
        restarts[:, 5] = True
        with torch.no_grad():
            _, carry = executor(ids, carry, restarts=restarts)
    assert carry.columns == 15  # since the last restart but one: the newest is dropped to when more is read


def test_a_single_step_moves_its_own_column_alone(device):
    """What a step writes is one column; the room of the others is the same memory as before."""
    executor = make(device)
    with torch.no_grad():
        _, carry = executor(random_ids(device, 2, 64), executor.initial_carry(2))
        places = []
        for _ in range(64):
            _, carry = executor(random_ids(device, 2, 1), carry)
            places.append(carry.buffers[0].keys.data_ptr())
    assert len(set(places)) == 1


@pytest.mark.parametrize("window", [None, 4])
def test_far_beyond_any_length_it_reads_on_and_only_distances_matter(device, window):
    executor = make(device, window=window, dtype=torch.float32)
    ids = random_ids(device, 1, 30)
    with torch.no_grad():
        near, _ = executor(ids, executor.initial_carry(1))
        start = executor.initial_carry(1)
        object.__setattr__(start, "position", start.position + 10_000_000)
        far, carry = executor(ids[:, :20], start)
        rest, _ = executor(ids[:, 20:], carry)
    torch.testing.assert_close(torch.cat([far, rest], 1), near, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("window", [None, 3])
def test_checkpointing_changes_memory_and_not_gradients(device, dropout, window):
    ids = random_ids(device, 4, 16)
    results = []
    for checkpointed in (False, True):
        executor = make(device, dropout=dropout, window=window, activation_checkpointing=checkpointed).train()
        saved = []

        def pack(tensor, saved=saved):
            saved.append(tensor.numel())
            return tensor

        torch.manual_seed(5)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            first, carry = executor(ids[:, :9], executor.initial_carry(4))
            second, _ = executor(ids[:, 9:], carry)
        held = sum(saved)
        torch.cat([first, second], dim=1).pow(3).sum().backward()
        results.append((held, {n: p.grad for n, p in executor.named_parameters()}))
    (held, wanted), (held_checkpointed, found) = results
    assert held_checkpointed < 0.5 * held
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10)


def test_fresh_weights_are_small_and_smaller_where_they_add_to_the_stream(device):
    executor = make(device, std=None, hidden_dim=256, token_dim=192, num_layers=3, num_heads=4)
    for name, parameter in executor.named_parameters():
        if parameter.ndim == 1:
            assert (parameter == 1).all()
            continue
        writes = name.endswith(("out.weight", "down.weight"))
        wanted = 192**-0.5 if name == "token_proj.weight" else 0.02 / math.sqrt(6) if writes else 0.02
        assert parameter.std().item() == pytest.approx(wanted, rel=0.06), name


def test_every_layer_starts_near_the_identity_of_attention_to_all(device):
    """A fresh model's states are of size 1 and its gradients are alive at any depth."""
    executor = make(device, std=None, hidden_dim=64, token_dim=64, num_layers=8)
    hidden, _ = executor(random_ids(device, 2, 20), None)
    assert hidden.square().mean().item() == pytest.approx(1, rel=0.01)
    hidden.pow(3).sum().backward()
    sizes = [layer.mlp.down.weight.grad.norm() for layer in executor.layers]
    assert max(sizes) < 10 * min(sizes)


def test_a_projection_keeps_the_scale_of_fresh_embeddings():
    executor = TransformerExecutor(
        TransformerConfig(), vocab_size=500, token_dim=96, hidden_dim=128, num_layers=1, dropout=0.0
    )
    embedded = executor.token_emb.weight
    assert float(executor.token_proj(embedded).std()) == pytest.approx(float(embedded.std()), rel=0.05)
