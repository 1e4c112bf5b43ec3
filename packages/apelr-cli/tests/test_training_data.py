"""Text to batches: what a step sees, what an evaluation covers, what makes data the same."""

import gzip
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from apelr_cli.run_config import RunConfig
from apelr_cli.train_config import ControlTrainConfig, V2TrainConfig
from apelr_cli.training_data import TrainingData, prepare_data
from apelr_data import DataConfig
from apelr_model import TransformerLMConfig, V2Config
from apelr_tokenizers import TokenizerConfig

Lanes = Callable[..., list[list[list[int]]]]

WORDS = "the plan is to write a small text that has some lines\n" * 30


def prepared(
    tmp_path: Path, text: str = WORDS, *, batch_size: int = 4, control: bool = False, **data: object
) -> TrainingData:
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    config = RunConfig(
        tokenizer=TokenizerConfig(type="char", min_frequency=1),
        data=DataConfig(source="text", path=str(path), val_fraction=0.2, **data),  # type: ignore[arg-type]
        model=TransformerLMConfig() if control else V2Config(),
        train=(ControlTrainConfig if control else V2TrainConfig)(seq_len=9, batch_size=batch_size),
    )
    return prepare_data(config)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_validation_batches_cover_every_target_once(tmp_path: Path, lanes_of: Lanes, batch_size: int) -> None:
    """In lanes of 16 rows side by side, whatever the batch size: joined they are the text."""
    data = prepared(tmp_path, batch_size=batch_size)
    assert len(data.validation) == 43
    lanes = lanes_of(data.validation_batches(None))
    assert [len(lane) for lane in lanes] == [16, 16, 11]
    assert [target for lane in lanes for row in lane for target in row] == data.validation_stream.ids[1:].tolist()
    assert data.validation_bytes(None) == data.validation_stream.text_bytes


@pytest.mark.parametrize("form", [{"control": True}, {"document_mask": True}])
def test_rows_without_a_belief_to_go_on_with_are_read_as_they_come(
    tmp_path: Path, lanes_of: Lanes, form: dict[str, bool]
) -> None:
    """The controls have no belief, and under a document mask every row begins a document."""
    data = prepared(tmp_path, **form)  # type: ignore[arg-type]
    batches = list(data.validation_batches(None))
    assert [len(batch.lengths) for batch in batches] == [4] * 10 + [3]
    assert all(batch.continues is None for batch in batches)
    rows = [row for (row,) in lanes_of(batches)]
    assert [target for row in rows for target in row] == data.validation_stream.ids[1:].tolist()


@pytest.mark.parametrize(("control", "rows"), [(False, [0, 16, 32, 1, 17, 33]), (True, [0, 1, 2, 3, 4, 5, 6, 7])])
def test_a_limit_takes_the_first_batches(tmp_path: Path, control: bool, rows: list[int]) -> None:
    data = prepared(tmp_path, control=control)
    found = list(data.validation_batches(2))
    assert len(found) == 2
    wanted = data.validation.batch(rows)
    assert torch.cat([batch.inputs for batch in found]).tolist() == wanted.inputs.tolist()
    assert data.validation_bytes(2) == wanted.byte_counts.sum()


def test_a_step_s_rows_depend_on_seed_and_step_alone(tmp_path: Path) -> None:
    data, again = prepared(tmp_path), prepared(tmp_path)
    again.train_batch(3)
    for step in (0, 5, 40):
        (batch, size), (other, other_size) = data.train_batch(step), again.train_batch(step)
        assert all(torch.equal(a, b) for a, b in zip(batch[:3], other[:3], strict=True))
        assert size == other_size


def test_identity_changes_with_the_text(tmp_path: Path) -> None:
    first = prepared(tmp_path).identity()
    assert prepared(tmp_path).identity() == first
    assert prepared(tmp_path, WORDS.replace("small", "smell", 1)).identity() != first


def test_token_caps_hold(tmp_path: Path) -> None:
    data = prepared(tmp_path, max_train_tokens=50, max_val_tokens=20)
    assert len(data.train_stream.ids) == 50
    assert len(data.validation_stream.ids) == 20


def test_compressors_are_left_out_for_large_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepared(tmp_path)
    assert set(data.references()) == {"gzip_9", "xz_9e", "xz_9e_primed"}
    monkeypatch.setattr("apelr_cli.training_data.BASELINE_LIMIT", 10)
    assert data.references() == {}


def test_references_are_of_the_very_text_that_is_evaluated(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    text = "".join(data.text.corpus.documents("validation")).encode()
    assert data.references()["gzip_9"] == pytest.approx(8 * len(gzip.compress(text, 9, mtime=0)) / len(text))
    assert prepared(tmp_path, max_val_tokens=20).references() == {}


def test_where_the_ids_lie_changes_no_batch_and_no_identity(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    cached = prepared(tmp_path, token_cache=True, token_cache_dir=str(tmp_path / "cache"))
    assert cached.identity() == data.identity()
    assert cached.text_report() == data.text_report()
    for step in (0, 40):
        (batch, size), (other, other_size) = data.train_batch(step), cached.train_batch(step)
        assert all(torch.equal(a, b) for a, b in zip(batch[:3], other[:3], strict=True))
        assert size == other_size
    assert cached.references() == data.references()


def test_positions_come_with_the_document_mask_alone(tmp_path: Path) -> None:
    assert prepared(tmp_path).train_batch(0)[0].positions is None
    data = prepared(tmp_path, document_mask=True)
    for batch in (data.train_batch(0)[0], next(data.validation_batches(1))):
        assert batch.positions is not None
        assert batch.positions.shape == batch.inputs.shape


def test_text_that_has_gone_leaves_a_run_without_references(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    (tmp_path / "text.txt").unlink()
    assert data.references() == {}


def test_text_is_read_only_as_far_as_its_ids_reach() -> None:
    stories = DataConfig(max_train_examples=40, max_val_examples=2, max_train_tokens=300)
    tokenizer = TokenizerConfig(type="char", min_frequency=1)
    data = prepare_data(RunConfig(tokenizer=tokenizer, data=stories))
    documents = list(data.text.corpus.documents("train"))
    whole = "".join(documents).encode()
    read = data._text("train")
    assert whole.startswith(read)
    assert data.train_stream.text_bytes <= len(read) < data.train_stream.text_bytes + len(documents[0]) * 3 < len(whole)


def contiguous(tmp_path: Path, **train: object) -> RunConfig:
    path = tmp_path / "text.txt"
    path.write_text(WORDS, encoding="utf-8")
    return RunConfig(
        model=V2Config(chunk_size=4),
        tokenizer=TokenizerConfig(type="char", min_frequency=1),
        data=DataConfig(source="text", path=str(path), val_fraction=0.2, order="contiguous", lane_rows=5),
        train=V2TrainConfig(seq_len=8, batch_size=3, **train),  # type: ignore[arg-type]
    )


def test_contiguous_rows_go_on_where_the_last_step_s_ended(tmp_path: Path) -> None:
    data = prepare_data(contiguous(tmp_path, carry_belief=True))
    steps = [data.train_batch(step)[0] for step in range(2 * len(data.train))]
    assert not steps[0].continues.any()  # type: ignore[union-attr]
    begun = 0
    for before, after in pairwise(steps):
        for row in range(3):
            if after.continues[row]:  # type: ignore[index]
                assert after.inputs[row, 0] == before.targets[row, before.lengths[row] - 1]
            else:
                begun += 1
    assert begun < 3 * len(steps) / 4  # most rows go on: four of five, save at the text's end
    plain = prepare_data(contiguous(tmp_path))
    assert plain.train_batch(5)[0].continues is None
    assert torch.equal(plain.train_batch(5)[0].inputs, steps[5].inputs)


@pytest.mark.parametrize("carry_belief", [False, True])
def test_validation_rows_go_on_whatever_training_does(tmp_path: Path, lanes_of: Lanes, carry_belief: bool) -> None:
    data = prepare_data(contiguous(tmp_path, carry_belief=carry_belief))
    batches = list(data.validation_batches(None))
    assert [len(lane) for lane in lanes_of(batches)] == [16, 16, 16]
    assert [bool(batch.continues.any()) for batch in batches] == [False] + [True] * 15  # type: ignore[union-attr]
    for before, after in pairwise(batches):
        last = before.targets[torch.arange(len(before.lengths)), before.lengths - 1]
        assert torch.equal(after.inputs[:, 0], last[: len(after.lengths)])


@pytest.mark.parametrize(
    ("data", "train"),
    [
        ({}, {"carry_belief": True}),
        ({"order": "contiguous"}, {"carry_belief": True, "stride": 4}),
        ({"order": "contiguous"}, {"carry_belief": True, "seq_len": 10}),
        ({"order": "contiguous", "document_mask": True}, {"carry_belief": True}),
    ],
)
def test_beliefs_are_carried_over_whole_chunks_of_rows_in_order(data: dict[str, Any], train: dict[str, Any]) -> None:
    line = "^train.carry_belief must be false unless data.order is contiguous, .*, got true$"
    with pytest.raises(ValueError, match=line):
        RunConfig(model=V2Config(chunk_size=4), data=DataConfig(**data), train=V2TrainConfig(**{"seq_len": 8, **train}))
