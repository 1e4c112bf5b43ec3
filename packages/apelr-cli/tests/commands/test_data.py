"""`apelr data` from the outside."""

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml
from click.testing import Result

from apelr_cli.commands.data import data
from apelr_data import SOURCES, Rows

WORDS = "The cat sat on the mat.\nA dog ran to the sea!\n"
Data = Callable[..., Result]


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A config of a small text of eight rows, with a cache folder of its own."""
    lines = "".join(json.dumps({"text": f"{WORDS}{n}."}) + "\n" for n in range(30))
    (tmp_path / "text.jsonl").write_text(lines, encoding="utf-8")
    path = tmp_path / "run.yaml"
    content = {
        "tokenizer": {"type": "char", "min_frequency": 1},
        "model": {"version": "v1_filtered_mixture", "chunk_size": 4},
        "data": {
            "source": "text",
            "path": str(tmp_path / "text.jsonl"),
            "val_fraction": 0.2,
            "token_cache": True,
            "token_cache_dir": str(tmp_path / "cache"),
        },
        "train": {"seq_len": 30, "batch_size": 4, "max_steps": 2},
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture
def run(apelr: Callable[..., Result], config_file: Path) -> Data:
    """Runs `apelr data` on that config."""
    return lambda command, *arguments: apelr("data", command, "--config", config_file, *arguments)


def caches(config_file: Path) -> list[str]:
    folder = config_file.parent / "cache"
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock")) if folder.exists() else []


def test_each_option_of_each_command_has_help() -> None:
    for command in data.commands.values():
        assert command.help
        for parameter in command.params:
            assert isinstance(parameter, click.Option)
            assert parameter.help


def test_list_names_every_source_with_its_facts(apelr: Callable[..., Result]) -> None:
    flat = " ".join(apelr("data", "list").stdout.split())
    listed = [json.loads(line) for line in apelr("data", "list", "--format", "json").stdout.splitlines()]
    assert [entry["source"] for entry in listed] == list(SOURCES)
    for entry, info in zip(listed, SOURCES.values(), strict=True):
        assert f"{info.name} {info.summary} size {info.size} licence {info.licence} splits {info.splits} read" in flat
        for key in ("summary", "size", "licence", "splits", "streaming", "reading", "hub_id", "hub_config"):
            assert entry[key] == getattr(info, key)


def test_prepare_writes_a_cache_and_tells_what_is_in_it(run: Data, config_file: Path) -> None:
    first = run("prepare")
    assert first.exit_code == 0
    assert first.stderr.splitlines()[0] == (
        "fitting the tokenizer on the training text, at most 50,000,000 characters of it"
    )
    assert first.stderr.splitlines()[1].startswith(f"writing the token cache {config_file.parent / 'cache'}")
    lines = first.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["tokenizer", "train", "validation", "cache"]
    assert lines[-1].endswith("MB, written")
    second = run("prepare", "--format", "json", "--quiet")
    assert second.stderr == ""
    found = json.loads(second.stdout)
    assert found["reused"] is True
    tokenizer_file, folder = sorted(caches(config_file), key=lambda name: name.endswith(".json"), reverse=True)
    assert folder == Path(found["cache"]).name
    assert tokenizer_file.endswith(".tokenizer.json")
    assert found["revisions"] == {}
    splits = found["splits"]
    assert sum(split["documents"] for split in splits.values()) == 30
    documents = splits["train"]["documents"]
    assert f"{documents} documents, {splits['train']['tokens']:,} tokens, " in lines[1]
    assert splits["train"]["tokens"] == splits["train"]["text_bytes"] + 2 * documents
    assert found["bytes_on_disk"] == sum(file.stat().st_size for file in Path(found["cache"]).iterdir())


def test_prepare_says_how_to_train_from_it_where_the_config_does_not(run: Data) -> None:
    assert run("prepare", "--set", "data.token_cache=false").stdout.splitlines()[-1] == (
        "to train from it, set data.token_cache true"
    )


def test_prepare_compares_every_checksum(run: Data, config_file: Path) -> None:
    run("prepare")
    (path,) = (config_file.parent / "cache").rglob("validation-ids*")
    path.write_bytes(b"x" * path.stat().st_size)
    result = run("prepare")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"Error: token cache: {path}: its content is not what was written; "
        "write the cache anew with data.reuse_token_cache false, or remove its folder"
    )
    assert run("prepare", "--set", "data.reuse_token_cache=false").exit_code == 0
    assert run("prepare").exit_code == 0


def test_prepare_tells_what_older_caches_take_on_the_disk(run: Data, config_file: Path) -> None:
    assert "caches in" not in run("prepare").stdout
    line = run("prepare", "--set", "data.min_chars=2").stdout.splitlines()[-1]
    folder = config_file.parent / "cache"
    size = sum(file.stat().st_size for file in folder.glob("*/*"))
    assert line == f"disk        2 caches in {folder}: {size / 1e6:,.1f} MB; remove by hand those that no run needs"


def test_what_differs_is_said(run: Data) -> None:
    run("prepare")
    assert "text.min_chars: 1 -> 5" in run("prepare", "--set", "data.min_chars=5").stderr


def test_prepare_reads_no_model_and_imports_no_torch(config_file: Path) -> None:
    arguments = ["data", "prepare", "--config", str(config_file), "--set", "model.nonsense=1"]
    code = "import sys; from apelr_cli.main import main; main(sys.argv[1:], standalone_mode=False)"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_half_written(
    start_apelr: Callable[..., "subprocess.Popen[bytes]"], tmp_path: Path, number: signal.Signals
) -> None:
    keys = ["data.max_train_examples=1000000", f"data.token_cache_dir={tmp_path}", "tokenizer.fit_max_chars=10000"]
    overrides = [part for key in keys for part in ("--set", key)]
    process = start_apelr("data", "prepare", "--config", "quickstart", *overrides)
    while not any(path.name.endswith(".partial") and path.is_dir() for path in tmp_path.iterdir()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 128 + number
    assert errors.decode().splitlines()[-1] == f"stopped by {number.name}; nothing half-written is left"
    left = [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"]
    assert [name.endswith(".tokenizer.json") for name in left] == [True]


@pytest.mark.parametrize("prepared", [True, False])
def test_show_gives_the_first_rows_with_their_borders(run: Data, config_file: Path, prepared: bool) -> None:
    if prepared:
        run("prepare")
    before = caches(config_file)
    result = run("show", "--rows", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[:5] == [
        "row 0: 30 targets, 30 bytes of text",
        "  reads      <bos>",
        "  chunk 0    T|h|e| ",
        "  chunk 1    c|a|t| ",
        "  chunk 2    s|a|t| ",
    ]
    lines = result.stdout.splitlines()
    assert lines[7:10] == ["  chunk 5    a|t|.|\\n", "  chunk 6    A| |d|o", "  chunk 7    g| "]
    assert lines[10] == "row 1: 30 targets, 28 bytes of text, 1 document begins"
    assert "<eos>|<bos>" in lines[16]
    assert caches(config_file) == before


def test_show_as_json_holds_every_target(run: Data) -> None:
    for arguments in ((), ("--set", "data.document_mask=true")):
        lines = run("show", "--rows", 4, "--format", "json", *arguments).stdout.splitlines()
        rows = [json.loads(line) for line in lines]
        assert [row["row"] for row in rows] == [0, 1, 2, 3]
        targets = [target for row in rows for target in row["targets"]]
        text = "".join(target["text"] for target in targets)
        assert re.match(rf"{WORDS}\d+\.<eos><bos>{WORDS}", text)
        for row in rows:
            assert row["text_bytes"] == sum(target["bytes"] for target in row["targets"])
            for before, target in zip([None, *row["targets"]], row["targets"], strict=False):
                begins = before is None or (bool(arguments) and before["border"] == "begin")
                assert target["position"] == (0 if begins else before["position"] + 1)
                assert target["chunk"] == target["position"] // 4
                assert target["border"] == {"<bos>": "begin", "<eos>": "end"}.get(target["text"])


def test_show_knows_each_model_s_chunks(run: Data, config_file: Path) -> None:
    second = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    second["model"]["version"] = "v2_planner_required"
    config_file.write_text(yaml.safe_dump(second), encoding="utf-8")
    assert "  chunk 0    T|h|e\n  chunk 1     |c|a|t\n" in run("show").stdout
    second["model"] = {"version": "transformer_lm"}
    config_file.write_text(yaml.safe_dump(second), encoding="utf-8")
    assert "  targets    T|h|e| |c|a|t| |s|a|t" in run("show").stdout


def test_show_knows_splits_caps_and_short_texts(run: Data) -> None:
    assert run("show", "--split", "validation").stdout != run("show").stdout
    capped = run("show", "--rows", 5, "--set", "data.max_train_tokens=40", "--format", "json").stdout.splitlines()
    assert [len(json.loads(line)["targets"]) for line in capped] == [30, 9]


def test_show_gives_as_many_rows_as_asked_for_whatever_the_stride(run: Data) -> None:
    for split in ("train", "validation"):
        for prepared in (False, True):
            if prepared:
                run("prepare")
            arguments = ("--rows", 5, "--split", split, "--set", "train.stride=3", "--format", "json")
            rows = [json.loads(line) for line in run("show", *arguments).stdout.splitlines()]
            assert [len(row["targets"]) for row in rows] == [30] * 5
            step = 3 if split == "train" else 30
            for before, after in itertools.pairwise(rows):
                assert [each["id"] for each in before["targets"][step:]] == [
                    each["id"] for each in after["targets"][: 30 - step]
                ]


def test_show_makes_rows_one_by_one(run: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    batch = Rows.batch
    monkeypatch.setattr(Rows, "batch", lambda self, numbers: asked.append(list(numbers)) or batch(self, numbers))
    lines = run("show", "--rows", 10**12, "--format", "json").stdout.splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(range(len(lines)))
    assert asked == [[number] for number in range(len(lines))]
    assert len(lines) > 20


@pytest.mark.parametrize("command", ["prepare", "show"])
def test_mistakes_are_one_line(run: Data, apelr: Callable[..., Result], command: str) -> None:
    result = run(command, "--set", "data.path=nowhere.txt")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: data.path: 'nowhere.txt' does not exist; give a file, a folder or a glob\n"
    assert run(command, "--set", "data.pth=x").stderr == "Error: unknown key data.pth; did you mean data.path?\n"
    assert apelr("data", command, "--config", "nothing").exit_code == 1
    assert apelr("data", command).exit_code == 2
