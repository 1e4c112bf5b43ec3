from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apelr_cli.errors import ConfigError
from apelr_cli.evaluation_text import EvaluationText, TextRequest, find_text
from apelr_cli.loading import LoadedModel, load_model
from apelr_cli.run_config import RunConfig, to_plain, to_yaml
from apelr_cli.train_config import V2TrainConfig
from apelr_cli.user_input import InputError
from apelr_data import DataConfig
from apelr_model import MixtureOfSoftmaxesConfig
from apelr_tokenizers import Tokenizer

TextOf = Callable[[EvaluationText, Tokenizer], str]

TEXTS = {"train": "the cat sat on the mat. " * 20, "validation": "a cat and a dog. " * 10}


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    for name, text in TEXTS.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    data = DataConfig(source="text", path=str(tmp_path / "train.txt"), val_path=str(tmp_path / "validation.txt"))
    return RunConfig(data=data, train=V2TrainConfig(seq_len=16, batch_size=4))


@pytest.fixture
def loaded(make_checkpoint: Callable[..., Path], config: RunConfig, device: str) -> LoadedModel:
    return load_model(make_checkpoint(changes={"run_config": to_plain(config)}), device)


@pytest.fixture
def text_of(lanes_of: Callable[..., list[list[list[int]]]]) -> TextOf:
    """What the batches hold, rows joined where one goes on from another."""

    def text(found: EvaluationText, tokenizer: Tokenizer) -> str:
        return tokenizer.decode(i for lane in lanes_of(found.batches()) for row in lane for i in row)

    return text


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_is_read_whole_in_the_runs_rows(loaded: LoadedModel, text_of: TextOf, split: Any) -> None:
    found = find_text(loaded, TextRequest(split=split))
    assert (found.name, found.seq_len, found.batch_size) == (f"{split} split of text", 16, 4)
    assert text_of(found, loaded.tokenizer) == TEXTS[split]
    assert found.text_bytes == len(TEXTS[split])
    assert found.unknown == 0
    shapes = [tuple(batch.inputs.shape) for batch in found.batches()]
    assert sum(rows for rows, _ in shapes) == found.rows
    assert all(rows <= 4 and width == 16 for rows, width in shapes)
    assert found.text_bytes == len(TEXTS[split]), "counted afresh with every pass"


@pytest.mark.parametrize(
    ("seq_len", "batch_size", "expected"),
    [(None, None, (16, 4)), (8, None, (8, 4)), (32, None, (32, 2)), (2**62, None, (171, 1)), (32, 9, (32, 9))],
)
def test_longer_rows_are_read_fewer_at_once(
    loaded: LoadedModel, text_of: TextOf, seq_len: int | None, batch_size: int | None, expected: tuple[int, int]
) -> None:
    found = find_text(loaded, TextRequest(seq_len=seq_len, batch_size=batch_size))
    assert (found.seq_len, found.batch_size) == expected
    assert text_of(found, loaded.tokenizer) == TEXTS["validation"]
    assert all(batch.inputs.shape[1] <= 171 for batch in found.batches()), "no wider than the text's targets"


def test_a_file_is_one_document(loaded: LoadedModel, tmp_path: Path) -> None:
    file = tmp_path / "other.txt"
    file.write_text("the dog é ran", encoding="utf-8")
    found = find_text(loaded, TextRequest(file=file))
    (batch,) = found.batches()
    assert int(batch.inputs[0, 0]) == loaded.tokenizer.bos_id
    assert int(batch.targets[0, batch.lengths[0] - 1]) == loaded.tokenizer.eos_id
    assert (found.name, found.text_bytes, found.unknown) == (str(file), len("the dog é ran".encode()), 1)


def test_an_empty_file_is_refused(loaded: LoadedModel, tmp_path: Path) -> None:
    file = tmp_path / "empty.txt"
    file.touch()
    with pytest.raises(InputError, match=r"empty.txt is empty: there is nothing to evaluate$"):
        find_text(loaded, TextRequest(file=file))


def test_overrides_and_another_config_say_what_is_read(loaded: LoadedModel, text_of: TextOf, tmp_path: Path) -> None:
    found = find_text(loaded, TextRequest(overrides=["data.max_val_tokens=7"]))
    assert sum(int(batch.lengths.sum()) for batch in found.batches()) == 6
    path = tmp_path / "mine.yaml"
    path.write_text(f"data: {{source: text, path: {tmp_path}/train.txt}}\ntrain: {{seq_len: 5}}\n", encoding="utf-8")
    found = find_text(loaded, TextRequest(config=path, overrides=["data.val_fraction=0.5"]))
    assert found.seq_len == 5
    assert found.text_bytes == 0
    assert text_of(found, loaded.tokenizer) in TEXTS["train"]
    assert abs(found.text_bytes - len(TEXTS["train"]) / 2) < 50


def test_rows_know_their_documents_where_the_run_did(loaded: LoadedModel) -> None:
    assert next(find_text(loaded, TextRequest()).batches()).positions is None
    masked = find_text(loaded, TextRequest(overrides=["data.document_mask=true"]))
    assert all(batch.positions is not None and batch.continues is None for batch in masked.batches())
    assert masked.row_numbers() == list(range(masked.rows))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_rows_go_on_in_lanes_that_no_batch_size_changes(
    loaded: LoadedModel, lanes_of: Callable[..., list[list[list[int]]]], batch_size: int
) -> None:
    found = find_text(loaded, TextRequest(split="train", seq_len=12, batch_size=batch_size))
    batches = list(found.batches())
    assert [len(lane) for lane in lanes_of(batches)] == [16, 16, 9]
    stream = [row for lane in lanes_of(batches) for row in lane]
    read = [row[:n].tolist() for batch in batches for row, n in zip(batch.targets, batch.lengths, strict=True)]
    assert read == [stream[number] for number in found.row_numbers()]


def test_rows_of_a_control_are_read_as_they_come(make_checkpoint: Callable[..., Path], config: RunConfig) -> None:
    model = MixtureOfSoftmaxesConfig(num_plan_states=3, token_dim=5, hidden_dim=7)
    control = load_model(make_checkpoint(config=model, changes={"run_config": to_plain(config)}), "cpu")
    found = find_text(control, TextRequest())
    assert all(batch.continues is None for batch in found.batches())
    assert found.row_numbers() == list(range(found.rows))


@pytest.mark.parametrize("cached", [True, False])
def test_the_token_cache_gives_the_same(loaded: LoadedModel, text_of: TextOf, tmp_path: Path, cached: bool) -> None:
    overrides = [f"data.token_cache={cached}", f"data.token_cache_dir={tmp_path}/cache"] if cached else []
    said: list[str] = []
    found = find_text(loaded, TextRequest(overrides=overrides), say=said.append)
    assert text_of(found, loaded.tokenizer) == TEXTS["validation"]
    assert bool(said) is cached


def test_a_checkpoint_does_not_say_where_to_write(
    make_checkpoint: Callable[..., Path], text_of: TextOf, config: RunConfig, tmp_path: Path
) -> None:
    """The cache of its run is left alone unless the caller asks for one."""
    folder = tmp_path / "cache"
    cached = replace(config.data, token_cache=True, token_cache_dir=str(folder), reuse_token_cache=False)
    plain = to_plain(replace(config, data=cached))
    stranger = load_model(make_checkpoint(changes={"run_config": plain}), "cpu")
    found = find_text(stranger, TextRequest())
    assert text_of(found, stranger.tokenizer) == TEXTS["validation"]
    assert not folder.exists()
    own = tmp_path / "own"
    find_text(stranger, TextRequest(overrides=["data.token_cache=true", f"data.token_cache_dir={own}"]))
    assert own.is_dir()
    assert not folder.exists()
    path = tmp_path / "mine.yaml"
    path.write_text(to_yaml(replace(config, data=cached)), encoding="utf-8")
    find_text(stranger, TextRequest(config=path))
    assert folder.is_dir()


def test_only_what_decides_the_text_can_be_set(loaded: LoadedModel) -> None:
    with pytest.raises(ConfigError) as error:
        find_text(loaded, TextRequest(overrides=["train.seq_len=3", "model.dropout=0.5", "seed=1"]))
    keys = ("train.seq_len=3", "model.dropout=0.5")
    assert str(error.value).splitlines() == [
        f"--set {key}: only keys of data, and seed, can be set here" for key in keys
    ]


def test_a_checkpoint_that_does_not_say_what_it_was_trained_on(
    make_checkpoint: Callable[..., Path], text_of: TextOf, tmp_path: Path, config: RunConfig
) -> None:
    loaded = load_model(make_checkpoint(), "cpu")
    with pytest.raises(ConfigError, match="does not say what text it was trained on: give --file FILE"):
        find_text(loaded, TextRequest())
    overrides = ["data.source=text", f"data.path={config.data.path}", f"data.val_path={config.data.val_path}"]
    assert text_of(find_text(loaded, TextRequest(overrides=overrides)), loaded.tokenizer) == TEXTS["validation"]
    assert find_text(loaded, TextRequest(file=tmp_path / "train.txt")).rows > 1


def test_passages_are_documents_from_their_beginnings(loaded: LoadedModel, tmp_path: Path) -> None:
    documents = "".join(f'{{"text": "a cat {word}."}}\n' for word in ("and a dog", "sat", "ran"))
    (tmp_path / "stories.jsonl").write_text(documents, encoding="utf-8")
    text = find_text(loaded, TextRequest(overrides=[f"data.val_path={tmp_path / 'stories.jsonl'}"]))
    decode, bos = loaded.tokenizer.decode, loaded.tokenizer.bos_id
    found = text.passages(2, 100)
    assert [decode(each.ids) for each in found] == ["a cat and a dog.", "a cat sat."]
    assert [each.ids[0] for each in found] == [bos, bos]
    assert found[1].start == len(found[0].ids)
    assert [len(each.ids) for each in text.passages(2, 4)] == [5, 5]


def test_a_single_document_is_read_in_pieces(loaded: LoadedModel) -> None:
    text = find_text(loaded, TextRequest())
    found = text.passages(4, 10)
    whole = TEXTS["validation"]
    assert [each.place for each in found[:2]] == ["a document's beginning", f"from token {found[1].start} on"]
    assert len(found) == 4
    assert all(len(each.ids) == 11 for each in found)
    assert loaded.tokenizer.decode(found[1].ids) == whole[found[1].start - 1 :][:11]
