"""The newest complete checkpoint of a folder, and what is said of those that are not."""

import shutil

import pytest

from apelr_model import Checkpoint, CheckpointError, V1Config, build_model, load_newest_checkpoint, save_checkpoint
from apelr_model.checkpoint_files import step_path

SIZES = V1Config(num_plan_states=2, chunk_size=2, token_dim=2, hidden_dim=2, fusion_dim=2)


@pytest.fixture
def run(tmp_path):
    """A folder with checkpoints of steps 1, 2 and 3."""
    model = build_model(SIZES, 4).state_dict()
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, Checkpoint(model_config=SIZES, vocab_size=4, step=step, model=model))
    return tmp_path


def spoil(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])  # the same file under both of its names


def separate(run):
    """checkpoint.pt as a file of its own, as where a file system has no links."""
    copy = run / "copy"
    shutil.copyfile(run / "checkpoint.pt", copy)
    copy.replace(run / "checkpoint.pt")


def test_nothing_there(tmp_path):
    assert load_newest_checkpoint(tmp_path) is None
    assert load_newest_checkpoint(tmp_path / "nowhere") is None


def test_the_newest_is_the_one_saved_last(run):
    found = load_newest_checkpoint(run)
    assert (found.checkpoint.step, found.path, found.skipped) == (3, run / "checkpoint.pt", ())


def test_a_damaged_one_is_skipped_and_named_once(run):
    spoil(run / "checkpoint.pt")
    found = load_newest_checkpoint(run)
    assert (found.checkpoint.step, found.path) == (2, step_path(run, 2))
    (line,) = found.skipped
    assert line.startswith(f"{run / 'checkpoint.pt'} is not a checkpoint or is damaged: ")


def test_two_damaged_ones(run):
    separate(run)
    for path in (run / "checkpoint.pt", step_path(run, 3)):
        spoil(path)
    found = load_newest_checkpoint(run)
    assert found.checkpoint.step == 2
    assert [line.split(" ")[0] for line in found.skipped] == [str(run / "checkpoint.pt"), str(step_path(run, 3))]


def test_without_checkpoint_pt_the_last_step_is_the_newest(run):
    """Killed between the two renames of the first save, or the file was removed."""
    (run / "checkpoint.pt").unlink()
    found = load_newest_checkpoint(run)
    assert found.checkpoint.step == 3
    assert found.skipped == (f"checkpoint not found: {run / 'checkpoint.pt'}",)


@pytest.mark.parametrize("kind", ["folder", "loop"])
def test_what_is_no_file(run, kind):
    (run / "checkpoint.pt").unlink()
    (run / "checkpoint.pt").mkdir() if kind == "folder" else (run / "checkpoint.pt").symlink_to("checkpoint.pt")
    found = load_newest_checkpoint(run)
    assert found.checkpoint.step == 3
    assert str(run / "checkpoint.pt") in found.skipped[0]


def test_none_is_whole(run):
    for step in (1, 2, 3):
        spoil(step_path(run, step))
    with pytest.raises(CheckpointError) as caught:
        load_newest_checkpoint(run)
    message = str(caught.value)
    assert message.startswith(f"{run} holds no complete checkpoint: {run / 'checkpoint.pt'} is not a checkpoint or is ")
    assert all(str(path) in message for path in (step_path(run, 1), step_path(run, 2)))
    assert "\n" not in message
