"""Committed checkpoints of every format version and of the prototype give what they gave when they were made.

golden/make_golden.py makes one for a new format; those of old ones stay as they are.
"""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from apelr_model import CheckpointError, load_checkpoint
from apelr_model.checkpoint_checks import FORMAT_VERSION
from apelr_model.plain_config import MODEL_VERSIONS
from apelr_model.shard_manifest import SHARDS_VERSION

FOLDER = Path(__file__).with_name("golden")
GOLDEN = json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def make_golden():
    spec = importlib.util.spec_from_file_location("make_golden", FOLDER / "make_golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_folder_holds_one_for_each_format_and_model_version():
    files, folders = ({path.name for path in FOLDER.glob(pattern)} for pattern in ("*.pt", "shards-*"))
    assert files | folders == set(GOLDEN)
    assert folders == {f"shards-{n}" for n in range(1, SHARDS_VERSION + 1)}
    found = set()
    for name in files - {"prototype-v1.pt", "prototype-v2.pt"}:
        content = torch.load(FOLDER / name, weights_only=True)
        assert name.startswith(f"format-{content['format_version']}-")
        found.add((content["format_version"], content["model_version"]))
    assert found == {(n, version) for n in range(1, FORMAT_VERSION + 1) for version in MODEL_VERSIONS}
    assert max((FOLDER / name).stat().st_size for name in files) < 50_000


@pytest.mark.parametrize("name", GOLDEN)
def test_it_gives_the_figures_it_gave(make_golden, name, device):
    expected, found = GOLDEN[name], make_golden.figures(FOLDER / name, device)
    assert found.keys() == expected.keys()
    assert found["step"] == expected["step"]
    assert found["log_prob"] == pytest.approx(expected["log_prob"], abs=1e-9, rel=0)
    for key in found.keys() - {"step", "log_prob"}:  # a step in float32
        assert found[key] == pytest.approx(expected[key], abs=1e-4, rel=1e-4), key


def test_files_of_today_go_on_with_beliefs_splits_and_random_numbers():
    training = load_checkpoint(FOLDER / "format-1-v2_dense.pt").training
    assert training["carried"] is not None
    assert training["splits"] is not None
    assert training["rng"]["cpu"].dtype == torch.uint8
    assert training["optimizer"]["state"]


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith(f"format-{FORMAT_VERSION}-")])
def test_a_newer_format_is_refused_in_one_line_that_names_both(name, tmp_path):
    content = torch.load(FOLDER / name, weights_only=True)
    path = tmp_path / "newer.pt"
    torch.save({**content, "format_version": FORMAT_VERSION + 1}, path)
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(path)
    assert str(refused.value) == (
        f"{path} has checkpoint format {FORMAT_VERSION + 1}, newer than this installation reads ({FORMAT_VERSION}): "
        "update apelr-model"
    )


def test_files_can_be_made_anew(make_golden, tmp_path):
    for name, write in make_golden.WRITERS.items():
        write(tmp_path / name)
        assert make_golden.figures(tmp_path / name).keys() == GOLDEN[name].keys()
