"""Checkpoints: round trips, strictness, damage, hostile content, and failures while writing."""

import contextlib
import errno
import math
import pickle
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import (
    Checkpoint,
    CheckpointError,
    NonFiniteError,
    V1Config,
    V2Config,
    archive,
    build_model,
    checkpoint_checks,
    load_checkpoint,
    save_checkpoint,
    write_checkpoint,
)
from apelr_model import checkpoint as checkpoint_module

SIZES = V1Config(num_plan_states=2, chunk_size=2, token_dim=2, hidden_dim=2, fusion_dim=2)


def make_checkpoint(step=3, seed=0, **changes):
    torch.manual_seed(seed)
    model = build_model(SIZES, 4)
    values = {
        "model_config": SIZES,
        "vocab_size": 4,
        "step": step,
        "model": model.state_dict(),
        "training": {"optimizer": {"state": {}}, "rng": {"cpu": torch.get_rng_state(), "cuda": []}},
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
    return first == second


def content_of(path):
    return torch.load(path, weights_only=True)


@pytest.fixture
def saved(tmp_path):
    return save_checkpoint(tmp_path / "run", make_checkpoint())


@pytest.fixture
def edited(saved, tmp_path):
    """Save the content of a good file again after `change(content)`, under another name."""

    def edit(change):
        content = content_of(saved)
        changed = change(content)
        path = tmp_path / "edited.pt"
        torch.save(content if changed is None else changed, path)
        return path

    return edit


def filled(content, name, where):
    """A good file's content with minus infinity at some places of a tensor."""
    content["model"][name][where] = -math.inf
    return content


def refusal(path):
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


class TestRoundTrip:
    def test_everything_comes_back(self, saved):
        assert identical(vars(load_checkpoint(saved)), vars(make_checkpoint()))

    def test_optional_parts_may_be_absent(self, tmp_path):
        bare = make_checkpoint(training=None, tokenizer=None, tokenizer_fingerprint=None, run_config={})
        assert identical(vars(load_checkpoint(save_checkpoint(tmp_path, bare))), vars(bare))

    def test_versions_of_the_libraries_are_recorded(self, saved):
        versions = load_checkpoint(saved).versions
        assert versions["torch"] == str(torch.__version__)
        assert versions["python"].count(".") == 2

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_the_model_is_built_with_its_parameters_and_type(self, tmp_path, device, dtype):
        model = build_model(SIZES, 4).to(dtype)
        path = save_checkpoint(tmp_path, make_checkpoint(model=model.state_dict()))
        found = load_checkpoint(path).build_model(device)
        assert found.device.type == device.type
        for a, b in zip(found.parameters(), model.parameters(), strict=True):
            assert torch.equal(a.cpu(), b)
            assert a.dtype == dtype

    def test_names_of_the_files(self, tmp_path):
        path = save_checkpoint(tmp_path / "new" / "run", make_checkpoint(step=300))
        assert path == tmp_path / "new" / "run" / "checkpoints" / "step-00000300.pt"
        names = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
        assert names == ["new/run/checkpoint.pt", "new/run/checkpoints/step-00000300.pt"]

    def test_the_newest_of_a_run_folder(self, tmp_path):
        for step in (0, 10, 20):
            save_checkpoint(tmp_path, make_checkpoint(step=step, seed=step))
        assert load_checkpoint(tmp_path).step == load_checkpoint(tmp_path / "checkpoint.pt").step == 20
        for step in (0, 10, 20):
            found = load_checkpoint(tmp_path / "checkpoints" / f"step-{step:08d}.pt")
            assert identical(found.model, make_checkpoint(seed=step).model)

    def test_the_same_step_may_be_saved_again(self, tmp_path):
        save_checkpoint(tmp_path, make_checkpoint(seed=1))
        save_checkpoint(tmp_path, make_checkpoint(seed=2))
        assert identical(load_checkpoint(tmp_path).model, make_checkpoint(seed=2).model)

    def test_a_moved_and_renamed_file_loads(self, saved, tmp_path):
        moved = tmp_path / "elsewhere" / "my model"
        moved.parent.mkdir()
        shutil.move(saved, moved)
        shutil.rmtree(tmp_path / "run")
        assert identical(vars(load_checkpoint(moved)), vars(make_checkpoint()))

    def test_loading_leaves_the_random_state_alone(self, saved):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        load_checkpoint(saved)
        assert torch.equal(torch.get_rng_state(), before)

    def test_only_weights_are_ever_loaded(self, saved, monkeypatch):
        calls = []
        load = torch.load
        monkeypatch.setattr(torch, "load", lambda *a, **k: calls.append(k) or load(*a, **k))
        load_checkpoint(saved)
        assert [call["weights_only"] for call in calls] == [True]

    def test_there_is_no_other_way_of_loading_in_the_package(self):
        for source in Path(checkpoint_module.__file__).parent.glob("*.py"):
            text = source.read_text(encoding="utf-8")
            assert text.count("torch.load(") == text.count("weights_only=True)"), source
            for word in ("pickle.load", "import pickle\n", "eval(", "exec(", "weights_only=False"):
                found = text.replace(".eval(", "").replace("_eval_mode(", "")
                assert word not in found, (source, word)


class TestStrictness:
    def test_nothing_there(self, tmp_path):
        assert refusal(tmp_path / "none.pt") == f"checkpoint not found: {tmp_path / 'none.pt'}"
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(tmp_path)
        newest = f"{tmp_path / 'checkpoint.pt'} (the newest checkpoint of the run)"
        assert str(caught.value) == f"checkpoint not found: {newest}"

    def test_not_a_file(self, tmp_path):
        (tmp_path / "checkpoint.pt").mkdir()
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt is not a regular file$"):
            load_checkpoint(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x04N.", b"PK\x05\x06" + bytes(18)])
    def test_not_an_archive(self, tmp_path, content):
        path = tmp_path / "other.pt"
        path.write_bytes(content)
        assert "is not a checkpoint or is damaged: " in refusal(path)

    @pytest.mark.parametrize("content", [{}, {"format": "other"}, [1, 2], "text", torch.zeros(3), {"model": {}}])
    def test_another_programs_file(self, tmp_path, content):
        path = tmp_path / "other.pt"
        torch.save(content, path)
        message = f"{path} is not an APEL-R checkpoint: it has no key 'format' of value 'apelr-checkpoint'"
        assert refusal(path) == message

    @pytest.mark.parametrize("version", [2, 99])
    def test_a_newer_format(self, edited, version):
        path = edited(lambda content: content.update(format_version=version, something_new=1))
        wanted = f"{path} has checkpoint format {version}, newer than this installation reads (1): update apelr-model"
        assert refusal(path) == wanted

    @pytest.mark.parametrize("version", [0, -1])
    def test_a_format_that_never_was(self, edited, version):
        path = edited(lambda content: content.update(format_version=version))
        assert refusal(path) == f"{path} has checkpoint format {version}, which has never existed"

    def test_an_unknown_model_version(self, edited):
        path = edited(lambda content: content.update(model_version="v9"))
        known = "v2_planner_required, v1_filtered_mixture, transformer_lm, mixture_of_softmaxes"
        assert refusal(path) == f"{path} has model version 'v9'; known versions: {known}"

    @pytest.mark.parametrize("key", [key for key in checkpoint_checks.CONTENT_TYPES if key != "format"])
    def test_every_key_is_needed(self, edited, key):
        path = edited(lambda content: content.pop(key) and None)
        assert refusal(path) == f"{path} lacks the key {key!r}"

    @pytest.mark.parametrize("key", [key for key in checkpoint_checks.CONTENT_TYPES if key != "format"])
    def test_every_key_has_its_type(self, edited, key):
        path = edited(lambda content: content.update({key: 1.5}))
        expected = " or ".join(t.__name__ for t in checkpoint_checks.CONTENT_TYPES[key])
        assert refusal(path) == f"{path}: key {key!r} must be {expected}, got float"

    def test_unknown_keys(self, edited):
        path = edited(lambda content: content.update(zeta=1, alpha=2))
        assert refusal(path) == f"{path} has unknown keys: alpha, zeta"

    def test_tensors_that_are_missing_or_unknown(self, edited):
        path = edited(lambda content: content["model"].__delitem__("head.out_proj.bias"))
        assert refusal(path) == f"{path} lacks the tensors head.out_proj.bias"
        path = edited(lambda content: content["model"].update(extra=torch.zeros(1)))
        assert refusal(path) == f"{path} has unknown tensors extra"
        found = load_checkpoint(path, allow_unexpected=True)
        assert identical(found.model, make_checkpoint().model)
        assert found.notices == (f"{path}: unexpected tensors are left out: extra",)

    def test_tensors_of_another_shape(self, edited):
        path = edited(lambda content: content["model"].update({"head.out_proj.bias": torch.zeros(5)}))
        assert refusal(path) == f"{path}: tensor head.out_proj.bias has shape [5], the config needs [4]"
        path = edited(lambda content: content["model"].update({"head.out_proj.bias": "no"}))
        assert refusal(path) == f"{path}: tensor head.out_proj.bias has shape str, the config needs [4]"

    @pytest.mark.parametrize(
        "tensor", [torch.zeros(4, dtype=torch.int64), torch.zeros(8)[::2], torch.zeros(1).expand(4)]
    )
    def test_tensors_of_another_kind(self, edited, tensor):
        path = edited(lambda content: content["model"].update({"head.out_proj.bias": tensor}))
        wanted = f"{path}: tensor head.out_proj.bias is not a dense tensor of floating-point numbers"
        assert refusal(path) == wanted

    def test_a_config_that_breaks_its_rules_or_has_other_fields(self, edited):
        path = edited(lambda content: content["model_config"].update(chunk_size=0, dropout=3.0))
        wanted = f"{path}: its model_config is not valid: chunk_size must be >= 1, got 0; dropout must be >= 0 and < 1"
        assert refusal(path).startswith(wanted)
        path = edited(lambda content: content["model_config"].update(width=3))
        assert "its model_config is not valid: " in refusal(path)
        assert "width" in refusal(path)

    @pytest.mark.parametrize(
        ("field", "value", "kind"),
        [
            ("hidden_dim", "big", "int"),
            ("chunk_size", 2.5, "int"),
            ("num_layers", True, "int"),
            ("dropout", "0", "float"),
            ("boundary_evidence", 1, "bool"),
            ("version", 1, "'v1_filtered_mixture'"),
        ],
    )
    def test_a_config_field_of_another_type(self, edited, field, value, kind):
        path = edited(lambda content: content["model_config"].update({field: value}))
        wanted = f"{path}: its model_config is not valid: model_config.{field} must be {kind}, got {value!r}"
        assert refusal(path) == wanted

    def test_a_negative_step(self, edited):
        path = edited(lambda content: content.update(step=-5))
        assert refusal(path) == f"{path}: key 'step' must be >= 0, got -5"

    @pytest.mark.parametrize("number", [float("nan"), float("inf")])
    def test_numbers_that_are_not_finite(self, edited, number):
        path = edited(lambda content: content["model"].update({"head.out_proj.bias": torch.full((4,), number)}))
        assert refusal(path) == f"{path}: tensor head.out_proj.bias holds NaN or plus infinity"

    @pytest.mark.parametrize("name", ["head.plan_vocab_bias", "planner.initial_logits", "planner.transition_logits"])
    def test_minus_infinity_is_a_probability_of_zero_but_not_in_a_whole_row(self, edited, name):
        some = edited(lambda content: filled(content, name, (..., 0)))
        assert load_checkpoint(some).model[name].flatten()[0] == -math.inf
        whole = edited(lambda content: filled(content, name, 0 if content["model"][name].dim() == 2 else ...))
        assert refusal(whole) == f"{whole}: tensor {name} has a row of minus infinity alone: it leaves no choice"

    @pytest.mark.parametrize("name", ["executor.token_emb.weight", "planner.context_proj.bias", "head.state_proj.bias"])
    def test_minus_infinity_elsewhere(self, edited, name):
        path = edited(lambda content: filled(content, name, 0))
        reason = "holds minus infinity, which only a planner's logits and a head's biases may"
        assert refusal(path) == f"{path}: tensor {name} {reason}"

    @pytest.mark.parametrize("value", [-1.0, 0.0, 1e-38, 1e38, -math.inf, math.inf, math.nan])
    def test_a_stored_planner_temperature(self, make_model, tmp_path, value):
        model = make_model(kind=V2Config)
        model.planner.temperature.fill_(value)
        checkpoint = Checkpoint(model_config=model.config, vocab_size=11, step=0, model=model.state_dict())
        with pytest.raises(NonFiniteError, match=r"is not written: tensor planner\.temperature "):
            save_checkpoint(tmp_path / "none", checkpoint)
        path = tmp_path / "written.pt"
        torch.save(checkpoint_module.checkpoint_content(checkpoint), path)
        assert refusal(path).startswith(f"{path}: tensor planner.temperature ")


class TestHostile:
    @pytest.mark.parametrize("as_archive", [True, False])
    def test_code_in_a_file_never_runs(self, tmp_path, as_archive):
        canary = tmp_path / "canary"

        class Evil:
            def __reduce__(self):
                return (Path.touch, (canary,))

        path = tmp_path / "evil.pt"
        if as_archive:
            torch.save({"format": "apelr-checkpoint", "format_version": 1, "run_config": Evil()}, path)
        else:
            path.write_bytes(pickle.dumps(Evil()))
        words = "is refused: it holds something other than plain data" if as_archive else "is not a checkpoint or"
        assert words in refusal(path)
        assert not canary.exists()
        torch.load(path, weights_only=False) if as_archive else pickle.loads(path.read_bytes())
        assert canary.exists()  # the file was a real threat

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("hidden_dim", 10**7),
            ("hidden_dim", 10**12),
            ("hidden_dim", 10**30),
            ("num_plan_states", 10**8),
            ("fusion_dim", 10**8),
            ("token_dim", 10**10),
            ("num_layers", 10**9),
        ],
    )
    def test_large_declared_sizes_take_no_memory_and_no_time(self, edited, field, value):
        path = edited(lambda content: content["model_config"].update({field: value}))
        refusal(path)

    @pytest.mark.parametrize("value", [10**12, 10**30, -5, 1])
    def test_declared_vocabulary(self, edited, value):
        refusal(edited(lambda content: content.update(vocab_size=value)))

    @pytest.mark.parametrize("key", ["run_config", "versions", "training", "model_config"])
    @pytest.mark.parametrize("form", ["in itself", "shared", "deep", "wide"])
    def test_plain_data_that_cannot_be_walked_through(self, edited, key, form, monkeypatch):
        assert checkpoint_checks.MOST_VALUES == 1_000_000
        monkeypatch.setattr(checkpoint_checks, "MOST_VALUES", 10_000)  # a million take seconds to write
        value: list = []
        if form == "in itself":
            value.append(value)
        for _ in range({"shared": 40, "deep": 200}.get(form, 0)):
            value = [value, value] if form == "shared" else [value]
        if form == "wide":
            value = [0] * 10_001
        path = edited(lambda content: content[key].update(x=value))
        assert refusal(path) == f"{path}: key {key!r} is nested too deeply or is too large"

    def test_tensors_in_plain_data(self, edited):
        path = edited(lambda content: content["run_config"].update(x=torch.zeros(1)))
        assert refusal(path) == f"{path}: key 'run_config' must hold plain data, got Tensor"

    def test_a_tensor_that_declares_more_than_the_file_holds(self, edited):
        """A view that repeats one number: its shape fits a large config, its storage does not."""

        def change(content):
            content["vocab_size"] = 10**6
            large = build_model(SIZES, 10**6).state_dict()
            content["model"] = {name: torch.zeros(1).expand(tensor.shape) for name, tensor in large.items()}

        path = edited(change)
        assert path.stat().st_size < 100_000
        assert "is not a dense tensor of floating-point numbers" in refusal(path)


class TestDamage:
    @settings(max_examples=60)
    @given(st.data())
    def test_a_truncated_file_is_refused(self, tmp_path_factory, data):
        folder = tmp_path_factory.mktemp("truncated")
        whole = save_checkpoint(folder, make_checkpoint(training=None)).read_bytes()
        length = data.draw(st.integers(0, len(whole) - 1))
        path = folder / "part.pt"
        path.write_bytes(whole[:length])
        assert "is not a checkpoint or is damaged: " in refusal(path)

    @settings(max_examples=250)
    @given(st.data())
    def test_a_flipped_byte_is_refused_or_changes_nothing(self, tmp_path_factory, data):
        """Headers included: the directory at the file's end is drawn as often as the records."""
        folder = tmp_path_factory.getbasetemp() / "flipped"
        original = make_checkpoint(training=None)
        if not folder.exists():
            save_checkpoint(folder, original)
        whole = bytearray((folder / "checkpoint.pt").read_bytes())
        directory = whole.index(b"PK\x01\x02")
        position = data.draw(st.one_of(st.integers(0, len(whole) - 1), st.integers(directory, len(whole) - 1)))
        whole[position] ^= data.draw(st.one_of(st.sampled_from([1 << bit for bit in range(8)]), st.integers(1, 255)))
        path = folder / "flipped.pt"
        path.write_bytes(whole)
        with contextlib.suppress(CheckpointError):
            assert identical(vars(load_checkpoint(path)), vars(original))

    @pytest.mark.parametrize(("field", "value"), [(10, 8), (10, 12), (10, 14), (10, 99), (8, 1), (38, 0x10), (24, 99)])
    def test_each_field_of_a_records_header(self, saved, field, value):
        """Compression method, flags, folder bit and size of every record in the archive's directory."""
        whole = saved.read_bytes()
        entry = whole.index(b"PK\x01\x02")
        while whole[entry : entry + 4] == b"PK\x01\x02":
            changed = bytearray(whole)
            changed[entry + field] ^= value
            saved.write_bytes(changed)
            assert "is not a checkpoint or is damaged: " in refusal(saved)
            entry += 46 + sum(struct.unpack_from("<HHH", whole, entry + 28))


class NthFailure:
    """Calls through, but fails at the n-th call."""

    def __init__(self, inner, at, error):
        self.inner, self.at, self.error, self.calls = inner, at, error, 0

    def __call__(self, *arguments, **named):
        self.calls += 1
        if self.calls == self.at:
            raise self.error
        return self.inner(*arguments, **named)


FULL = OSError(errno.ENOSPC, "No space left on device")


def half_written(content, file):
    file.write(b"PK\x03\x04 half a checkpoint")
    raise FULL


class TestFailureWhileWriting:
    def assert_intact(self, folder, steps):
        """Every file under its own name is complete, the newest is one of them, and nothing else is left."""
        for step in steps:
            found = load_checkpoint(folder / "checkpoints" / f"step-{step:08d}.pt")
            assert identical(found.model, make_checkpoint(seed=step).model)
        assert load_checkpoint(folder).step in steps
        names = {p.name for p in folder.rglob("*") if p.is_file()}
        assert names == {"checkpoint.pt", *(f"step-{step:08d}.pt" for step in steps)}

    @pytest.mark.parametrize(
        ("where", "owner", "name", "at", "survivors"),
        [
            ("writing", checkpoint_module.torch, "save", 1, (1,)),
            ("flush of the file", checkpoint_module.os, "fsync", 1, (1,)),
            ("verification", checkpoint_module, "verify_archive", 1, (1,)),
            ("first rename", Path, "replace", 1, (1,)),
            ("flush of checkpoints/", checkpoint_module, "flush_folder", 1, (1, 2)),
            ("second name", checkpoint_module, "link_or_copy", 1, (1, 2)),
            ("second rename", Path, "replace", 2, (1, 2)),
            ("flush of the run folder", checkpoint_module, "flush_folder", 2, (1, 2)),
        ],
    )
    def test_earlier_checkpoints_stay_and_no_temporary_file(
        self, tmp_path, monkeypatch, where, owner, name, at, survivors
    ):
        save_checkpoint(tmp_path, make_checkpoint(step=1, seed=1))
        real = getattr(owner, name)
        failing = NthFailure(real, at, FULL)
        with monkeypatch.context() as patch:
            # A plain function, so that it also binds as a method of Path.
            patch.setattr(owner, name, lambda *a, **k: failing(*a, **k))
            with pytest.raises(OSError, match="No space left on device"):
                save_checkpoint(tmp_path, make_checkpoint(step=2, seed=2))
        assert failing.calls == at
        self.assert_intact(tmp_path, survivors)
        save_checkpoint(tmp_path, make_checkpoint(step=3, seed=3))
        self.assert_intact(tmp_path, (*survivors, 3))
        assert load_checkpoint(tmp_path).step == 3

    def test_half_a_file(self, tmp_path, monkeypatch):
        save_checkpoint(tmp_path, make_checkpoint(step=1, seed=1))
        monkeypatch.setattr(torch, "save", half_written)
        with pytest.raises(OSError, match="No space left on device"):
            save_checkpoint(tmp_path, make_checkpoint(step=2, seed=2))
        monkeypatch.undo()
        self.assert_intact(tmp_path, (1,))

    def test_the_disk_is_full_while_copying_without_hard_links(self, tmp_path, monkeypatch):
        save_checkpoint(tmp_path, make_checkpoint(step=1, seed=1))

        def copy(reader, writer):
            writer.write(reader.read(10))
            raise FULL

        monkeypatch.delattr(archive.os, "link")
        monkeypatch.setattr(archive.shutil, "copyfileobj", copy)
        with pytest.raises(OSError, match="No space left on device"):
            save_checkpoint(tmp_path, make_checkpoint(step=2, seed=2))
        monkeypatch.undo()
        self.assert_intact(tmp_path, (1, 2))
        assert load_checkpoint(tmp_path).step == 1

    def test_what_the_disk_garbles_gets_no_name(self, tmp_path, monkeypatch):
        save_checkpoint(tmp_path, make_checkpoint(step=1, seed=1))
        monkeypatch.setattr(torch, "save", lambda content, file: file.write(b"garbled"))
        with pytest.raises(CheckpointError, match=r"step-00000002\.pt was not written: what reached the disk is dam"):
            save_checkpoint(tmp_path, make_checkpoint(step=2, seed=2))
        monkeypatch.undo()
        self.assert_intact(tmp_path, (1,))

    def test_an_interruption_is_cleaned_up_too(self, tmp_path, monkeypatch):
        save_checkpoint(tmp_path, make_checkpoint(step=1, seed=1))
        monkeypatch.setattr(checkpoint_module.os, "fsync", NthFailure(None, 1, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, make_checkpoint(step=2, seed=2))
        monkeypatch.undo()
        self.assert_intact(tmp_path, (1,))

    def test_what_a_killed_save_left_is_not_written_through(self, tmp_path, monkeypatch):
        """Killed between link and rename, the temporary name IS the complete file: writing to it would damage both."""
        path = save_checkpoint(tmp_path, make_checkpoint(step=2, seed=2))
        archive.link_or_copy(path, path.with_suffix(".pt.tmp"))
        monkeypatch.setattr(torch, "save", half_written)
        with pytest.raises(OSError, match="No space left on device"):
            save_checkpoint(tmp_path, make_checkpoint(step=2, seed=5))
        monkeypatch.undo()
        self.assert_intact(tmp_path, (2,))

    @pytest.mark.parametrize("missing", ["link", "O_DIRECTORY"])
    def test_systems_without_links_or_folder_flushes_can_save(self, tmp_path, monkeypatch, missing):
        monkeypatch.delattr(archive.os, missing)
        for step in (1, 2):
            save_checkpoint(tmp_path, make_checkpoint(step=step, seed=step))
        self.assert_intact(tmp_path, (1, 2))
        assert load_checkpoint(tmp_path).step == 2

    def test_names_appear_only_after_the_content_is_on_disk(self, tmp_path, monkeypatch):
        """Order of the steps: write, flush, verify, rename, folder flush, second name, rename, folder flush."""
        log = []

        def record(owner, name):
            real = getattr(owner, name)
            monkeypatch.setattr(owner, name, lambda *a, **k: log.append(name) or real(*a, **k))

        for owner, name in (
            (torch, "save"),
            (Path, "replace"),
            (checkpoint_module, "verify_archive"),
            (checkpoint_module, "flush_folder"),
            (checkpoint_module, "link_or_copy"),
        ):
            record(owner, name)
        real_fsync = archive.os.fsync
        monkeypatch.setattr(archive.os, "fsync", lambda descriptor: log.append("fsync") or real_fsync(descriptor))
        save_checkpoint(tmp_path, make_checkpoint())
        renamed_and_flushed = ["replace", "flush_folder", "fsync"]
        start = ["save", "fsync", "verify_archive"]
        assert log == [*start, *renamed_and_flushed, "link_or_copy", *renamed_and_flushed]


def test_a_checkpoint_is_frozen():
    with pytest.raises(AttributeError):
        make_checkpoint().step = 4
    assert replace(make_checkpoint(), step=4).step == 4


def test_an_error_of_the_disk_comes_out_of_torch_as_what_it_is(tmp_path, monkeypatch):
    """`torch.save` ends its archive after any error, and then complains of that instead."""

    class Full:
        def __init__(self, file):
            self.file, self.left = file, 3000

        def write(self, content):
            self.left -= len(content)
            if self.left < 0:
                raise FULL
            return self.file.write(content)

        def __getattr__(self, name):
            return getattr(self.file, name)

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, file: save(content, Full(file)))
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(tmp_path, make_checkpoint())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class TestNothingThatIsNotFiniteIsSaved:
    """What could not be read again, or not trained on from, takes no good file's place."""

    def assert_refused(self, folder, checkpoint, what):
        save_checkpoint(folder, make_checkpoint(step=1, seed=1))
        with pytest.raises(NonFiniteError) as caught:
            save_checkpoint(folder, checkpoint)
        assert str(caught.value) == f"{folder / 'checkpoints' / 'step-00000003.pt'} is not written: {what}"
        with pytest.raises(NonFiniteError, match="is not written: "):
            write_checkpoint(folder / "other.pt", checkpoint)
        assert load_checkpoint(folder).step == 1
        assert len([path for path in folder.rglob("*") if path.is_file()]) == 2

    @pytest.mark.parametrize("number", [math.nan, math.inf])
    def test_in_the_model(self, tmp_path, number):
        checkpoint = make_checkpoint()
        checkpoint.model["head.out_proj.bias"][1] = number
        self.assert_refused(tmp_path, checkpoint, "tensor head.out_proj.bias holds NaN or plus infinity")

    def test_minus_infinity_where_it_means_nothing(self, tmp_path):
        checkpoint = make_checkpoint()
        checkpoint.model["executor.token_emb.weight"][1] = -math.inf
        what = "holds minus infinity, which only a planner's logits and a head's biases may"
        self.assert_refused(tmp_path, checkpoint, f"tensor executor.token_emb.weight {what}")

    @pytest.mark.parametrize("number", [math.nan, math.inf])
    def test_in_the_state_of_training(self, tmp_path, number):
        moments = {"exp_avg": torch.zeros(3), "exp_avg_sq": torch.tensor([1.0, number])}
        checkpoint = make_checkpoint(training={"optimizer": {"state": {4: moments}}, "rng": {"cuda": []}})
        what = "training.optimizer.state.4.exp_avg_sq holds NaN or plus infinity"
        self.assert_refused(tmp_path, checkpoint, what)

    def test_beliefs_may_be_impossible(self, tmp_path):
        carried = {"log_belief": torch.tensor([[0.0, -math.inf]])}
        save_checkpoint(tmp_path, make_checkpoint(training={"carried": carried}))
        assert identical(load_checkpoint(tmp_path).training, {"carried": carried})
