"""Sharded checkpoints in one process: round trips, every file damaged in every way, hostile manifests, both forms."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from apelr_model import (
    Checkpoint,
    CheckpointError,
    NonFiniteError,
    V1Config,
    World,
    build_model,
    checkpoint_files,
    load_checkpoint,
    load_newest_checkpoint,
    save_checkpoint,
    write_checkpoint,
)
from apelr_model.checkpoint_files import saved_checkpoints
from apelr_model.shard_files import file_record

SIZES = V1Config(num_plan_states=2, chunk_size=2, token_dim=3, hidden_dim=2, fusion_dim=3, tie_embeddings=True)
SHARD = "shard-00001-of-00001.safetensors"


def make_checkpoint(step=3, **changes):
    torch.manual_seed(step)
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.randn(2, 2), "none": torch.empty(0, 4)}
    values = {
        "model_config": SIZES,
        "vocab_size": 5,
        "step": step,
        "model": build_model(SIZES, 5).state_dict(),
        "training": {
            "optimizer": {"state": {0: moments}, "param_groups": [{"betas": (0.9, 0.95), "params": [0, 1]}]},
            "rng": {"cpu": torch.get_rng_state(), "cuda": []},
            "a.b": torch.ones(1),
            "a": {"b": torch.tensor([True, False])},
            "nothing": None,
        },
        "tokenizer": '{"Ünïcode": "\\u2028"}',
        "tokenizer_fingerprint": "ab12",
        "run_config": {"train": {"lr": 1e-3, "stride": None}, "list": [1, True, "x"]},
    }
    return Checkpoint(**{**values, **changes})


def identical(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second) and first.dtype == second.dtype
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(identical(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(identical, first, second))
    return first == second


@pytest.fixture
def saved(tmp_path):
    """The folder of a sharded checkpoint."""
    return save_checkpoint(tmp_path / "run", make_checkpoint(), shards=World())


def test_round_trip(saved):
    for path in (saved, saved.parents[1], saved.parents[1] / "checkpoint.json"):
        loaded = load_checkpoint(path)
        expected = make_checkpoint()
        for name in Checkpoint.__dataclass_fields__:
            assert identical(getattr(loaded, name), getattr(expected, name)), name


def test_it_holds_no_pickle_and_two_kinds_of_files(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["manifest.json", SHARD]
    assert {"model.head.out_proj.weight", "training.optimizer.state.0.exp_avg"} <= load_file(saved / SHARD).keys()
    assert json.loads((saved / "manifest.json").read_text(encoding="utf-8"))["format"] == "apelr-checkpoint-shards"


def test_one_file_is_made_of_it(saved, tmp_path):
    write_checkpoint(tmp_path / "one.pt", load_checkpoint(saved))
    assert identical(load_checkpoint(tmp_path / "one.pt").training, make_checkpoint().training)


def test_a_copy_is_not_changed_with_the_original():
    checkpoint = make_checkpoint()
    copy = checkpoint.copied()
    for tensor in checkpoint.model.values():
        tensor.zero_()
    checkpoint.training["optimizer"]["state"][0]["exp_avg"].zero_()
    assert identical([copy.model, copy.training], [make_checkpoint().model, make_checkpoint().training])
    embedding, output = copy.model["executor.token_emb.weight"], copy.model["head.out_proj.weight"]
    assert embedding.data_ptr() == output.data_ptr(), "tied weights take memory once"


def test_the_temporary_folder_is_never_complete(saved, monkeypatch):
    """A save that fails leaves nothing, and the folder of the same step as it was."""

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    run, before = saved.parents[1], (saved / "manifest.json").read_bytes()
    for module, name in ((checkpoint_files.os, "fsync"), (checkpoint_files, "flush_folder")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(OSError, match="No space left"):
                save_checkpoint(run, make_checkpoint(tokenizer=None), shards=World())
        assert not list(run.rglob("*.tmp"))
        assert load_newest_checkpoint(run).checkpoint.step == 3
    assert before != (saved / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("flush", "name"),
    [
        *((1, f"checkpoints/step-00000004.tmp/{SHARD}"), (2, "checkpoints/step-00000004.tmp/manifest.json")),
        *((3, "checkpoints/step-00000004.tmp"), (4, "checkpoints"), (5, "checkpoint.json")),
    ],
)
def test_a_disk_that_fails_is_named_by_the_file(saved, monkeypatch, flush, name):
    """Of a file that is open the system's error says no name."""
    flushed = []

    def fail(descriptor):
        flushed.append(descriptor)
        if len(flushed) == flush:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    run = saved.parents[1]
    with pytest.raises(OSError, match="Input/output error") as caught:
        save_checkpoint(run, make_checkpoint(4), shards=World())
    assert caught.value.filename == str(run / name)
    assert load_checkpoint(run).step == 3
    assert not list(run.rglob("*.tmp"))


def test_what_is_not_finite_is_never_written(saved):
    bad = make_checkpoint(step=4)
    bad.training["optimizer"]["state"][0]["exp_avg"][0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"step-00000004 is not written: training\.optimizer\.state\.0\.exp_avg"):
        save_checkpoint(saved.parents[1], bad, shards=World())
    assert saved_checkpoints(saved.parents[1]) == [(3, saved)]


def test_without_the_library_there_is_one_line_that_says_so(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    line = (
        r"safetensors needs the package safetensors, which is not installed: pip install 'apelr-model\[safetensors\]'$"
    )
    with pytest.raises(CheckpointError, match=line):
        load_checkpoint(saved)
    with pytest.raises(CheckpointError, match=line):
        save_checkpoint(saved.parents[1], make_checkpoint(), shards=World())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def in_its_place(path, make):
    path.unlink()
    make(path)


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": flip,
    "removed": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "a folder": lambda path: in_its_place(path, lambda p: p.mkdir()),
    "a link to itself": lambda path: in_its_place(path, lambda p: p.symlink_to(p.name)),
    "a link to nothing": lambda path: in_its_place(path, lambda p: p.symlink_to("gone")),
    "a device": lambda path: in_its_place(path, lambda p: p.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["manifest.json", SHARD])
def test_a_damaged_file_is_named(saved, name, damage):
    DAMAGES[damage](saved / name)
    if name == "manifest.json" and damage == "flipped":  # in text that only the tokenizer's reader understands
        content = (saved / name).read_bytes()
        (saved / name).write_bytes(content.replace(b'"sha256"', b'"sha25b"'))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pointer_is_skipped_and_said(saved, damage):
    pointer = saved.parents[1] / "checkpoint.json"
    DAMAGES[damage](pointer)
    found = load_newest_checkpoint(saved.parents[1])
    assert found.path == saved
    assert len(found.skipped) == 1
    if damage not in ("removed",):
        assert str(pointer) in found.skipped[0]


@pytest.mark.parametrize("newest", ["../run", "checkpoints/../x", "checkpoints/step-00000003.pt", 3, None, "/dev/zero"])
def test_a_pointer_leads_nowhere_else(saved, newest):
    pointer = saved.parents[1] / "checkpoint.json"
    pointer.write_text(json.dumps({"newest": newest}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"checkpoint\.json"):
        load_checkpoint(saved.parents[1])


def test_what_is_no_part_of_it_is_named(saved):
    (saved / ".metadata").touch()
    with pytest.raises(CheckpointError, match=r"holds what is no part of the checkpoint: \.metadata"):
        load_checkpoint(saved)


WEIGHT = "model.head.state_proj.weight"
CHANGES = {
    "'format'": lambda c: c.update(format="apelr-checkpoint"),
    "newer than this installation reads": lambda c: c.update(format_version=2),
    "which has never existed": lambda c: c.update(format_version=True),
    "'files' and 'tensors' must be objects": lambda c: c.pop("files"),
    "no name of a shard": lambda c: c["files"].update({"../x": c["files"][SHARD]}),
    "must give size and sha256": lambda c: c["files"][SHARD].update(size=-1),
    "its tensors are larger than its files": lambda c: c["tensors"][WEIGHT].update(
        shape=[10**12, 2], parts=[[0, 0, 10**12]]
    ),
    "does not say where": lambda c: c["tensors"][WEIGHT].update(parts=[[0, 0, 1]]),
    "does not say where model.x": lambda c: c["tensors"].update(
        {"model.x": {"dtype": "F32", "shape": [0, 10**30], "parts": []}}
    ),
    "does not say where model.head.state_proj.weight": lambda c: c["tensors"][WEIGHT].update(dtype="C64"),
    "where model.head.state_proj.weight is": lambda c: c["tensors"][WEIGHT].update(parts=[[0, 0, 1], [1, 1, 2]]),
    "tensor model.head.state_proj.weight is not that": lambda c: c["tensors"][WEIGHT].update(dtype="F16"),
    "of the manifest: model.head.state_proj.weight": lambda c: c["tensors"].pop(WEIGHT),
    "key 'training' is not what a save writes": lambda c: c.update(training={"tensor": "model.x"}),
    "'training' is not what": lambda c: c.update(training={"items": [[[], 1]]}),
    "key 'step' must be int": lambda c: c.update(step="3"),
    "has unknown keys: more": lambda c: c.update(more=1),
    "its model_config is not valid": lambda c: c["model_config"].update(chunk_size=0),
    "the config needs": lambda c: c["model_config"].update(hidden_dim=4),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_manifest_that_says_something_else_is_refused(saved, message):
    path = saved / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    CHANGES[message](content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved)
    assert message in str(caught.value)
    assert str(saved) in str(caught.value)


def test_a_manifest_of_millions_of_small_things_is_refused_before_it_is_taken_apart(saved):
    """They would take more than 1 GiB."""
    (saved / "manifest.json").write_text('{"x": [%s0]}' % ('{"":0},' * 2_000_000), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"manifest\.json holds more than 2000000 lists and objects"):
        load_checkpoint(saved)


def test_a_shard_with_a_right_digest_but_other_tensors_is_refused(saved):
    tensors = load_file(saved / SHARD)
    path = saved / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for change in ({WEIGHT: torch.zeros(2, 3)}, {"extra": torch.zeros(1)}):
        save_file({**tensors, **change}, saved / SHARD)
        content["files"][SHARD] = file_record(saved / SHARD)._asdict()
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(CheckpointError, match=SHARD):
            load_checkpoint(saved)


def test_the_form_of_the_newest_counts_whatever_there_was(saved):
    run = saved.parents[1]
    save_checkpoint(run, make_checkpoint(step=5))
    assert (load_checkpoint(run).step, (run / "checkpoint.json").exists()) == (5, False)
    save_checkpoint(run, make_checkpoint(step=4), shards=World())
    assert (load_checkpoint(run).step, (run / "checkpoint.pt").exists()) == (4, False)
    save_checkpoint(run, make_checkpoint(step=4, tokenizer=None))
    save_checkpoint(run, make_checkpoint(step=5, tokenizer=None), shards=World())
    names = [path.name for _, path in saved_checkpoints(run)]
    assert names == ["step-00000003", "step-00000004.pt", "step-00000005"], "one form of each step"
    assert load_checkpoint(run).tokenizer is None


def test_old_folders_go_and_the_best_stays(tmp_path):
    for step in range(5):
        save_checkpoint(tmp_path, make_checkpoint(step=step), keep=2, validation_nll={1: 0.5}, shards=World())
    assert [step for step, _ in saved_checkpoints(tmp_path)] == [1, 3, 4]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_damaged_newest_folder_gives_way_to_the_next(saved):
    run = saved.parents[1]
    newest = save_checkpoint(run, make_checkpoint(step=4), shards=World())
    flip(newest / SHARD)
    found = load_newest_checkpoint(run)
    assert (found.checkpoint.step, found.path) == (3, saved)
    assert found.skipped == (f"{newest / SHARD} is damaged: its size or sha256 is not that of the manifest",)


def test_killed_between_the_two_names_of_a_step_that_is_saved_again(saved):
    """The old folder waits as .old: it is found, and gone after the next save of the step."""
    run = saved.parents[1]
    saved.rename(saved.with_name("step-00000003.old"))
    shutil.copytree(saved.with_name("step-00000003.old"), saved.with_name("step-00000003.tmp"))
    found = load_newest_checkpoint(run)
    assert found.path == saved.with_name("step-00000003.old")
    save_checkpoint(run, replace(make_checkpoint(), tokenizer=None), shards=World())
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000003"]
    assert load_checkpoint(run).tokenizer is None
