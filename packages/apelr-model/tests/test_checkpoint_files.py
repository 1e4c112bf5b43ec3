"""Which checkpoints stay: the newest and the best, and nothing is removed before the new one is complete."""

import pytest

from apelr_model import Checkpoint, V1Config, build_model, load_checkpoint, save_checkpoint
from apelr_model import checkpoint as checkpoint_module
from apelr_model.checkpoint_files import remove_old_checkpoints, saved_checkpoints, step_path

SIZES = V1Config(num_plan_states=2, chunk_size=2, token_dim=2, hidden_dim=2, fusion_dim=2)


@pytest.fixture
def save(tmp_path):
    model = build_model(SIZES, 4).state_dict()

    def save_step(step, **retention):
        return save_checkpoint(
            tmp_path, Checkpoint(model_config=SIZES, vocab_size=4, step=step, model=model), **retention
        )

    return save_step


def steps(folder):
    return [step for step, _ in saved_checkpoints(folder)]


def test_all_stay_unless_told_otherwise(tmp_path, save):
    for step in range(5):
        save(step)
    assert steps(tmp_path) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("keep", [2, 3])
def test_the_newest_stay(tmp_path, save, keep):
    for step in range(0, 60, 10):
        save(step, keep=keep)
        assert len(steps(tmp_path)) == min(keep, step // 10 + 1)
    assert steps(tmp_path) == [0, 10, 20, 30, 40, 50][-keep:]
    assert load_checkpoint(tmp_path).step == 50


def test_the_best_by_validation_stays_until_there_is_a_better_one(tmp_path, save):
    nll = {1: 3.0, 2: 1.0, 4: 2.0}
    for step in range(6):
        save(step, keep=2, validation_nll=nll)
    assert steps(tmp_path) == [2, 4, 5]
    save(6, keep=2, validation_nll={**nll, 5: 0.5})
    assert steps(tmp_path) == [5, 6]
    save(7, keep=2, validation_nll={**nll, 5: 0.5})
    save(8, keep=2, validation_nll={**nll, 5: 0.5})
    assert steps(tmp_path) == [5, 7, 8]


def test_of_equals_the_earlier_is_the_best(tmp_path, save):
    for step in range(5):
        save(step, keep=2, validation_nll={0: 1.0, 1: 1.0})
    assert steps(tmp_path) == [0, 3, 4]


def test_a_step_that_was_evaluated_but_not_saved_is_no_best(tmp_path, save):
    for step in range(5):
        save(step, keep=2, validation_nll={7: 0.1, 1: 2.0})
    assert steps(tmp_path) == [1, 3, 4]


def test_later_steps_count_neither_way(tmp_path, save):
    """A run that was taken up from an earlier checkpoint comes to them again, and replaces them."""
    for step in (1, 2, 8, 9):
        save(step)
    save(3, keep=2)
    assert steps(tmp_path) == [2, 3, 8, 9]


@pytest.mark.parametrize("keep", [2, None])
def test_what_an_interrupted_removal_has_left_goes_however_many_stay(tmp_path, save, keep):
    save(1)
    left = tmp_path / "checkpoints" / "step-00000000.gone.tmp"
    left.mkdir()
    (left / "shard-00001-of-00001.safetensors").touch()
    remove_old_checkpoints(tmp_path, 1, keep, {})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001.pt"]


def test_what_is_no_checkpoint_of_the_run_is_left_alone(tmp_path, save):
    save(0)
    (tmp_path / "checkpoints" / "step-1.pt").touch()
    (tmp_path / "checkpoints" / "notes.txt").touch()
    step_path(tmp_path, 1).mkdir()
    for step in (2, 3):
        save(step, keep=2)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"step-1.pt", "notes.txt", "step-00000001.pt", "step-00000002.pt", "step-00000003.pt"}


def test_fewer_than_two_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 2 checkpoints must be kept, got 1"):
        remove_old_checkpoints(tmp_path, 3, 1, {})


def test_a_save_that_fails_removes_nothing(tmp_path, save, monkeypatch):
    for step in (1, 2):
        save(step)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    for name in ("verify_archive", "link_or_copy"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint_module, name, fail)
            with pytest.raises(OSError, match="No space left"):
                save(3, keep=2)
        assert {1, 2} <= set(steps(tmp_path))


def test_a_step_beyond_eight_digits(tmp_path, save):
    path = save(123_456_789)
    assert saved_checkpoints(tmp_path) == [(123_456_789, path)]
