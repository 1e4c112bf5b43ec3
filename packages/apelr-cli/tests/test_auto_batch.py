"""`train.batch_size: auto`: what is measured, what is chosen by it, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from apelr_cli import auto_batch
from apelr_cli.auto_batch import BatchSizeError, measure_batch_size
from apelr_cli.live_memory import LiveMemory
from apelr_cli.run_config import RunConfig
from apelr_cli.train_config import V2TrainConfig
from apelr_cli.training_data import prepare_data, to_token_batch
from apelr_data import DataConfig, Rows
from apelr_model import Trainer, V2Config, build_model
from apelr_tokenizers import TokenizerConfig

CPU = torch.device("cpu")
VOCAB = 300
MB = 10**6


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the memory, in MB, that is said to be available."""
    return lambda megabytes: monkeypatch.setattr(auto_batch, "available_memory", lambda _: int(megabytes * MB))


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., RunConfig]:
    path = tmp_path / "text.txt"
    path.write_text("some words that are here to be read by a small model\n" * 400, encoding="utf-8")
    return lambda **train: RunConfig(
        tokenizer=TokenizerConfig(type="char", min_frequency=1),
        data=DataConfig(source="text", path=str(path), val_fraction=0.2),
        model=V2Config(num_plan_states=4, chunk_size=8, token_dim=16, hidden_dim=32, num_layers=1),
        train=V2TrainConfig(**{"seq_len": 32, "batch_size": "auto", **train}),
    )


def rows_of(config: RunConfig) -> Rows:
    return prepare_data(replace(config, train=replace(config.train, batch_size=8))).train


def needed(config: RunConfig, rows: Rows, size: int) -> int:
    """What a step of `size` rows needs, measured on its own: fixed memory, and the peak beside it."""
    model = build_model(config.model, VOCAB)
    trainer = Trainer(model, config.train, config.train.weights)
    batch = to_token_batch(rows.batch(list(range(size))))
    trainer.train_step(batch)
    trainer.optimizer.zero_grad(set_to_none=True)
    moments = [value for state in trainer.optimizer.state.values() for value in state.values()]
    known = [*model.parameters(), *model.buffers(), *moments]
    with LiveMemory(known) as live:
        trainer.train_step(batch)
    return live.peak + sum(tensor.numel() * tensor.element_size() for tensor in known)


@pytest.mark.parametrize("megabytes", [10, 20, 45])
def test_the_size_chosen_fits_and_twice_as_much_would_not(
    config: Callable[..., RunConfig], available: Callable[[float], None], megabytes: int
) -> None:
    available(megabytes)
    run = config()
    rows = rows_of(run)
    found = measure_batch_size(run, VOCAB, rows, CPU)
    limit = auto_batch.SHARE * megabytes * MB
    assert found.rows & (found.rows - 1) == 0, "a power of two"
    assert found.rows < len(rows)
    assert needed(run, rows, found.rows) <= 1.05 * limit
    assert needed(run, rows, 2 * found.rows) > 0.95 * limit
    assert found.needed == pytest.approx(needed(run, rows, found.rows), rel=0.1)
    assert str(found).startswith(f"train.batch_size auto: {found.rows} rows a step in 1 micro-batch(es); a step needs")


def test_micro_batches_share_the_memory(config: Callable[..., RunConfig], available: Callable[[float], None]) -> None:
    """With n micro-batches a step has about n times the rows: at least half of that, since gradients take memory."""
    available(20)
    run = config()
    rows = rows_of(run)
    whole = measure_batch_size(run, VOCAB, rows, CPU).rows
    split = measure_batch_size(config(grad_accum_steps=3), VOCAB, rows, CPU)
    assert split.micro_batches == 3
    assert split.rows % 3 == 0
    assert 3 * whole // 2 <= split.rows <= 3 * whole


def test_no_more_rows_than_the_text_has(config: Callable[..., RunConfig], available: Callable[[float], None]) -> None:
    available(10_000)
    run = config(seq_len=64)
    rows = rows_of(run)
    found = measure_batch_size(run, VOCAB, rows, CPU).rows
    assert found <= len(rows) < 2 * found


def test_a_model_that_does_not_fit_is_one_line(
    config: Callable[..., RunConfig], available: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    available(0.5)
    run = config()
    rows = rows_of(run)
    message = (
        r"^train\.batch_size auto: even one row of 32 targets needs about \d MB, and 0 MB may be used: take a smaller"
    )
    with pytest.raises(BatchSizeError, match=message):
        measure_batch_size(run, VOCAB, rows, CPU)

    def full(*arguments: object, **named: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(auto_batch, "build_model", full)
    with pytest.raises(BatchSizeError, match=r"needs more than there is, and 0 MB may be used"):
        measure_batch_size(run, VOCAB, rows, CPU)


def test_memory_that_nobody_knows_is_refused(config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_batch, "available_memory", lambda _: None)
    run = config()
    with pytest.raises(BatchSizeError, match=r"cannot see how much memory there is on cpu: give a number$"):
        measure_batch_size(run, VOCAB, rows_of(run), CPU)


def test_measuring_draws_no_number_and_keeps_nothing(
    config: Callable[..., RunConfig], available: Callable[[float], None]
) -> None:
    available(15)
    run = config()
    rows = rows_of(run)
    before = torch.get_rng_state()
    first, second = (measure_batch_size(run, VOCAB, rows, CPU).rows for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first == second


def test_auto_is_no_number_anywhere_else(config: Callable[..., RunConfig]) -> None:
    with pytest.raises(
        ValueError, match=r"^train\.batch_size is auto, which only a training run measures: give a number$"
    ):
        prepare_data(config()).train_batch(0)
