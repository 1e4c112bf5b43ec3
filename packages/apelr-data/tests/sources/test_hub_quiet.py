"""Progress bars and warnings of the hub's libraries stay off standard error, and are as they were afterwards."""

import pytest

SCRIPT = """
import logging, sys
import datasets
from huggingface_hub import utils
from apelr_data.sources.hub_quiet import quiet, quietly

def noise():
    for name in ("datasets.load", "huggingface_hub.file_download"):
        logging.getLogger(name).warning("%s warns", name)
    for _ in datasets.utils.tqdm([1], desc="a bar of datasets"):
        pass
    for _ in utils.tqdm([1], desc="a bar of the hub", name="huggingface_hub.http_get"):
        pass
    sys.stderr.flush()

def state():
    levels = [logging.getLogger(name).level for name in ("datasets", "huggingface_hub")]
    return levels, datasets.are_progress_bars_disabled(), utils.are_progress_bars_disabled("huggingface_hub.http_get")

PREPARE
before = state()
if sys.argv[1:] != ["plain"]:
    def pieces():
        noise()
        yield 1
        noise()
        raise OSError
    for plain in (quietly(pieces()), quietly(iter([1]))):
        try:
            for piece in plain:
                assert state() == before
        except OSError:
            pass
        assert state() == before
    with quiet():
        noise()
else:
    noise()
assert state() == before
"""
SOUNDS = ("datasets.load warns", "huggingface_hub.file_download warns", "a bar of datasets", "a bar of the hub")


def noise_of(start_python, *arguments, prepare=""):
    process = start_python(SCRIPT.replace("PREPARE", prepare), *arguments)
    _, noise = process.communicate(timeout=900)
    assert process.returncode == 0, noise
    return noise


def test_nothing_is_heard_and_everything_is_restored(start_python):
    plain = noise_of(start_python, "plain")
    assert all(sound in plain for sound in SOUNDS)
    assert noise_of(start_python) == ""


@pytest.mark.parametrize(
    ("prepare", "heard"),
    [
        ("logging.getLogger('datasets').setLevel(logging.INFO)", {"datasets.load warns"}),
        ("datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS = False", {"a bar of datasets"}),
    ],
)
def test_what_someone_asked_for_stays(start_python, prepare, heard):
    noise = noise_of(start_python, prepare=prepare)
    assert {sound for sound in SOUNDS if sound in noise} == heard


def test_bars_that_are_off_stay_off(start_python):
    assert "bar of" not in noise_of(start_python, "plain", prepare="datasets.disable_progress_bars()").replace(
        "a bar of the hub", ""
    )
    assert noise_of(start_python, prepare="datasets.disable_progress_bars()") == ""
