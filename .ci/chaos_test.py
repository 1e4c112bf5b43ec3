"""The storms in small: that they find what they look for, and that a few inputs bring nothing to light."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st

FOLDER = Path(__file__).resolve().parent / "chaos"
sys.path.insert(0, str(FOLDER))

import disk  # noqa: E402
import full_disk  # noqa: E402
import fuzzing  # noqa: E402
import killed_processes  # noqa: E402
import kills  # noqa: E402
import soak  # noqa: E402
from stormed_runs import CONFIGS, FaultyRuns, subjects  # noqa: E402

from apelr_model import CheckpointError  # noqa: E402


@pytest.fixture(scope="module")
def apelr():
    with FaultyRuns() as run:
        yield run


@pytest.fixture(scope="module")
def subject(apelr, tmp_path_factory):
    """The config with the most on it: sampled plans, beliefs carried on, a token cache, workers."""
    name = next(name for name in CONFIGS if name.startswith("V2"))
    (found,) = subjects(apelr, tmp_path_factory.mktemp("chaos"), {name: CONFIGS[name]})
    return found


def test_a_kill_and_a_fault_in_the_token_cache(apelr, subject):
    number = 1 + subject.changes.index(("flush", next(path for _, path in subject.changes if "train-ids" in path)))
    kills.at_change(apelr, subject, number)
    assert disk.at_change(apelr, subject, number, "ENOSPC")


def test_an_end_that_is_not_equal_is_noticed(apelr, subject):
    run = subject.fresh()
    assert apelr(*subject.arguments(run), "--set", "seed=4", watched=subject.watched)["code"] == 0
    assert subject.difference(run).startswith("model, training, metrics.jsonl, validation, planner_eval.json")


def test_a_lost_checkpoint_is_noticed(apelr, subject, tmp_path):
    run = subject.fresh()
    assert apelr(*subject.arguments(run), watched=subject.watched)["code"] == 0
    run = shutil.copytree(run, tmp_path / "run")  # other tests look at the subject's own
    for name in ("checkpoint.pt", f"checkpoints/step-{subject.kept[-1]:08}.pt"):  # in the run they are one file
        (run / name).write_bytes(b"half")
    with pytest.raises(CheckpointError):
        kills.check_whole(run, "here", saved=True)
    with pytest.raises(SystemExit, match="here: a checkpoint is lost or damaged"):
        kills.check_whole(run / "nowhere", "here", saved=True)


def test_one_of_two_processes_is_killed_and_the_end_is_equal_bit_for_bit(tmp_path):
    killed_processes.difference(tmp_path, 8, [(5, 1)])


def test_a_real_full_disk(apelr, subject):
    if os.geteuid():
        pytest.skip("only root may mount a small file system")
    assert full_disk.filled(apelr, subject, full_disk.pages_of(subject) // 2)


def test_a_run_holds_no_more_at_its_end():
    (line,) = soak.soak(100)
    assert line.startswith("100 steps with 50 saves, 49 evaluations, 49 previews: memory ")


@pytest.mark.parametrize("name", ["memory", "files", "threads"])
def test_a_run_that_holds_more_and_more_is_noticed(monkeypatch, name):
    counts = dict.fromkeys(("saves", "evaluations", "previews"), 1)
    looks = [{"memory": 1000, "files": 9, "threads": 3, **counts} for _ in range(soak.SAMPLES)]
    monkeypatch.setattr(soak, "observed", lambda folder, steps: looks)
    (line,) = soak.soak(200)
    assert line.endswith("(+0.00%); files 9, then 9; threads 3, then 3")
    for look in looks[-soak.PART :]:
        look[name] += 1000
    with pytest.raises(SystemExit, match="it holds more at its end than it did"):
        list(soak.soak(200))


def test_what_is_not_one_line_is_noticed():
    right = ["step 1", "Error: x: No space left on device"]
    assert disk.is_one_line(right, "ENOSPC")
    for wrong in ([], right[:1], [*right, "more"], ["Error: y", *right], ["Traceback", *right]):
        assert not disk.is_one_line(wrong, "ENOSPC")
    assert not disk.is_one_line(right, "EIO")


@pytest.mark.parametrize("name", fuzzing.READERS)
def test_a_few_inputs_for_each_reader(name, tmp_path):
    count, _ = fuzzing.feed(fuzzing.READERS[name](tmp_path), 60, 1)
    assert count == 60


def test_an_error_that_is_not_the_reader_s_comes_out(monkeypatch):
    def read(data):
        if data.draw(st.integers(0, 9)) == 7:
            raise KeyError("seven")

    with pytest.raises(KeyError, match="seven"):
        fuzzing.feed(read, 100, 0)
    monkeypatch.setattr(fuzzing, "SECONDS", 0.05)
    with pytest.raises(AssertionError, match=r"an input took more than 0\.05 s"):
        fuzzing.feed(lambda data: [data.draw(st.booleans()), *iter(lambda: 0, 1)], 1, 0)
