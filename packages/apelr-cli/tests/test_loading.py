from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from apelr_cli.loading import load_model
from apelr_model import CheckpointError
from apelr_tokenizers import Tokenizer


def test_a_run_folder_and_its_file_load_alike(make_checkpoint: Callable[..., Path], char: Tokenizer) -> None:
    folder = make_checkpoint()
    of_folder, of_file = load_model(folder, "cpu"), load_model(folder / "checkpoints" / "step-00000000.pt", "cpu")
    assert of_folder.tokenizer.fingerprint == of_file.tokenizer.fingerprint == char.fingerprint
    for name, tensor in of_folder.model.state_dict().items():
        assert torch.equal(tensor, of_file.model.state_dict()[name])


def test_double_precision_stays_double(make_checkpoint: Callable[..., Path]) -> None:
    loaded = load_model(make_checkpoint(dtype=torch.float64), "cpu")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float64}


def test_a_missing_checkpoint_names_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^checkpoint not found: .*gone\.pt$"):
        load_model(tmp_path / "gone.pt", "cpu")


def test_a_missing_device_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match=r"^device must be .*got cuda$"):
        load_model(tmp_path / "gone.pt", "cuda")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": None}, "carries no tokenizer: name it with --tokenizer FILE"),
        ({"tokenizer": "{}"}, "its tokenizer cannot be read: not a tokenizer file"),
        ({"tokenizer_fingerprint": "abc"}, "but the model was trained with abc"),
        ({"tokenizer_fingerprint": None}, "but the model was trained with None"),
    ],
)
def test_a_tokenizer_that_is_not_the_models_is_refused(
    make_checkpoint: Callable[..., Path], changes: dict[str, object], message: str
) -> None:
    folder = make_checkpoint(changes=changes)
    with pytest.raises(CheckpointError) as error:
        load_model(folder, "cpu")
    assert str(error.value).startswith(str(folder))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tokenizer_of_another_size_is_refused(
    make_checkpoint: Callable[..., Path], char: Tokenizer, bpe: Tokenizer
) -> None:
    other = {"tokenizer": bpe.to_text(), "tokenizer_fingerprint": bpe.fingerprint}
    with pytest.raises(CheckpointError, match=f"its tokenizer has {bpe.vocab_size} ids, .* {char.vocab_size}$"):
        load_model(make_checkpoint(changes=other), "cpu")
