"""Malformed and hostile files: each is refused in one line by `load_checkpoint` and by the commands, and never runs.

A fault of a checkpoint is put into a good file of today's form, into one of the prototype's form, or into both; a
fault of a tokenizer into the one beside a prototype's file or inside a file of today.
"""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import Result

from apelr_model import CheckpointError, load_checkpoint

OURS, OLD, OLD_V2 = "ours", "prototype", "prototype V2"
BOTH = (OURS, OLD)
EVERY = (OURS, OLD, OLD_V2)
CANARY = Path("canary")
"""Relative to the folder that a test runs in; code in a file would make it."""
REFUSED = "{path} is refused: it holds something other than plain data and tensors: "
DAMAGED = "{path} is not a checkpoint or is damaged: "
INVALID = "{path}: its model_config is not valid: "


class Fault(NamedTuple):
    """What is wrong with a file."""

    name: str
    forms: tuple[str, ...]
    make: Callable[[Path], Any]
    """Puts the fault into the good file at this path."""
    message: str
    """What is said, from its beginning; {path} is the file."""


# How faults are made


def edited(*changes: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Saves the content again after the changes, which see both forms alike: `tensors` and `model_config`."""

    def make(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        for change in changes:
            change(content)
        torch.save(content, path)

    return make


def of_config(**values: Any) -> Callable[[Path], None]:
    return edited(lambda content: content["model_config"].update(values))


def tensors(content: dict[str, Any]) -> dict[str, Any]:
    return content["model" if "format" in content else "model_state_dict"]


def embedding(content: dict[str, Any]) -> str:
    return "executor.token_emb.weight" if "format" in content else "token_emb.weight"


def embedded(change: Callable[[torch.Tensor], Any]) -> Callable[[Path], None]:
    """Puts another token embedding into the file."""
    return edited(
        lambda content: tensors(content).update({embedding(content): change(tensors(content)[embedding(content)])})
    )


def impossible(*names: str, row: int | None = None) -> Callable[[Path], None]:
    """Puts minus infinity into a whole vector, or one row of a matrix, of the tensor that has one of the names."""

    def change(content: dict[str, Any]) -> None:
        tensor = next(tensors(content)[name] for name in names if name in tensors(content))
        (tensor if row is None or tensor.dim() == 1 else tensor[row]).fill_(float("-inf"))

    return edited(change)


def too_large(content: dict[str, Any]) -> None:
    """Weights of a head that are finite, but not their products."""
    names = ("head.out_proj.weight", "out_proj.weight", "expert_heads.0.weight")
    weight = next(tensors(content)[name] for name in names if name in tensors(content))
    weight.copy_(3e38 * weight.sign())


def written(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def cut(keep: Callable[[int], int]) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(path.read_bytes()[: keep(path.stat().st_size)])


def flipped(path: Path) -> None:
    """One bit of the largest tensor."""
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda each: each.file_size)
    whole = bytearray(path.read_bytes())
    whole[record.header_offset + 200] ^= 4
    path.write_bytes(whole)


def records(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        yield from [(name, archive.read(name)) for name in archive.namelist()]


def repacked(change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    """A whole archive with right checksums whose pickle is another."""

    def make(path: Path) -> None:
        kept = list(records(path))
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in kept:
                archive.writestr(name, change(data) if name.endswith("/data.pkl") else data)

    return make


START = b"\x80\x02"
HUGE = b"\x8a\x06" + (10**12).to_bytes(6, "little")


def calling(module: str, name: str, argument: bytes) -> bytes:
    return START + f"c{module}\n{name}\n".encode() + argument + b"\x85R."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


def with_code(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "extra": RunsCode()}, path)


def legacy(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save(content, path, _use_new_zipfile_serialization=False)


def bomb(path: Path) -> None:
    """Gigabytes of zeros in a few megabytes would be the same with a larger number."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/999", bytes(10**7))


def overlapping(path: Path) -> None:
    """A directory that lists the largest record a thousand times: each would be read into memory."""
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start, largest = archive.start_dir, max(archive.infolist(), key=lambda each: each.file_size)
    name = largest.filename.encode()
    entry = whole.index(name, start) - 46
    size = 46 + sum(struct.unpack_from("<HHH", whole, entry + 28))
    short = name[:-3] + b"%03d"
    copies = b"".join(whole[entry : entry + size].replace(name, short % i) for i in range(1000))
    end = bytearray(whole[whole.rindex(b"PK\x05\x06") :])
    directory = whole[start : whole.rindex(b"PK\x05\x06")]
    directory = directory[: directory.rfind(b"PK\x06\x06")] if b"PK\x06\x06" in directory else directory
    end[8:10] = end[10:12] = struct.pack("<H", struct.unpack_from("<H", end, 10)[0] + 1000)
    end[12:16] = struct.pack("<I", len(directory + copies))
    path.write_bytes(whole[:start] + directory + copies + bytes(end))


def declared(pickled: bytes) -> bytes:
    """The first storage is said to have 2^40 numbers."""
    at = pickled.index(b"X\x03\x00\x00\x00cpu")
    number = next(i for i in range(at, at + 40) if pickled[i : i + 1] in (b"K", b"M") and pickled[i - 1 : i] != b"X")
    width = {b"K": 2, b"M": 3}[pickled[number : number + 1]]
    return pickled[:number] + b"\x8a\x06" + (2**40).to_bytes(6, "little") + pickled[number + width :]


def in_place_of(path: Path) -> None:
    path.unlink()
    path.mkdir()


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value, value]
    return value


def tokenizer(content: bytes | str) -> Callable[[Path], Any]:
    """Another tokenizer beside a prototype's file that records no sha256, or inside a file of today."""
    as_text = content if isinstance(content, str) else content.decode("utf-8", "surrogateescape")

    def make(path: Path) -> None:
        saved = torch.load(path, weights_only=True)
        if "format" in saved:
            torch.save({**saved, "tokenizer": as_text}, path)
        else:
            torch.save({**saved, "tokenizer_hash": None}, path)
            (path.parent / "tokenizer.json").write_bytes(as_text.encode("utf-8", "surrogateescape"))

    return make


def bpe_with(**changes: Any) -> str:
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    added = [{"id": i, "content": token, "special": True} for i, token in enumerate(special)]
    vocab = {token: i for i, token in enumerate([*special, "a", "b", "ab"])}
    model = {"type": "BPE", "unk_token": "<unk>", "vocab": vocab, "merges": [["a", "b"]], **changes}
    cutting = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps({"version": "1.0", "added_tokens": added, "pre_tokenizer": cutting, "model": model})


def chars(*more: Any) -> str:
    return json.dumps({"itos": ["<pad>", "<bos>", "<eos>", "<unk>", *more]})


def without_hash(content: dict[str, Any]) -> None:
    content.update(tokenizer_hash=None)


def large_tokenizer(path: Path) -> None:
    edited(without_hash)(path)
    with (path.parent / "tokenizer.json").open("wb") as file:
        file.truncate(65 * 2**20)


def tokenizer_pipe(path: Path) -> None:
    (path.parent / "tokenizer.json").unlink()
    os.mkfifo(path.parent / "tokenizer.json")


# The table

NOT_AN_ARCHIVE = [
    Fault("empty", BOTH, written(b""), DAMAGED + "File is not a zip file"),
    Fault("a text", BOTH, written(b"hello, I am a model\n" * 99), DAMAGED + "File is not a zip file"),
    Fault(
        "a folder", BOTH, in_place_of, "checkpoint not found: {path}/checkpoint.pt (the newest checkpoint of the run)"
    ),
    Fault("no file", BOTH, Path.unlink, "checkpoint not found: {path}"),
    Fault("cut off at the last byte", BOTH, cut(lambda size: size - 1), DAMAGED),
    Fault("cut off in the directory", BOTH, cut(lambda size: size - 500), DAMAGED + "File is not a zip file"),
    Fault("cut off in the middle", BOTH, cut(lambda size: size // 2), DAMAGED + "File is not a zip file"),
    Fault("cut off after its first bytes", BOTH, cut(lambda size: 10), DAMAGED + "File is not a zip file"),
    Fault("one bit of a tensor flipped", BOTH, flipped, DAMAGED + "checksum of record "),
    Fault(
        "an archive without a pickle",
        BOTH,
        lambda path: zipfile.ZipFile(path, "w").close(),
        DAMAGED + "the archive is empty",
    ),
    Fault("of the old form without an archive", BOTH, legacy, DAMAGED + "File is not a zip file"),
    Fault("a compressed record", BOTH, repacked(bytes, zipfile.ZIP_DEFLATED), DAMAGED + "header of record "),
    Fault("a zip bomb", BOTH, bomb, DAMAGED),
    Fault("records that share their bytes", BOTH, overlapping, DAMAGED + "its records are larger than the file"),
]
HOSTILE = [
    Fault("a bare pickle that runs code", BOTH, lambda path: path.write_bytes(pickle.dumps(RunsCode())), DAMAGED),
    Fault("code in an extra key", BOTH, with_code, REFUSED + "a reference to 'posix.system'"),
    Fault(
        "code in place of all",
        BOTH,
        repacked(lambda _: calling("os", "system", text(f"touch {CANARY}"))),
        REFUSED + "a reference to 'os.system'",
    ),
    Fault(
        "eval",
        BOTH,
        repacked(lambda _: calling("builtins", "eval", text(f"open({str(CANARY)!r}, 'w')"))),
        REFUSED + "a reference to 'builtins.eval'",
    ),
    Fault("a pickle in a pickle", BOTH, repacked(lambda _: calling("pickle", "loads", text("x"))), REFUSED),
    Fault(
        "a later pickle protocol", BOTH, repacked(lambda _: pickle.dumps({}, 4)), REFUSED + "the pickle opcode PROTO 4"
    ),
    Fault("a terabyte of bytes", BOTH, repacked(lambda _: calling("builtins", "bytearray", HUGE)), REFUSED),
    Fault("a terabyte of numbers", BOTH, repacked(lambda _: calling("torch", "FloatTensor", HUGE)), REFUSED),
    Fault("a storage larger than its record", BOTH, repacked(declared), DAMAGED + "record size ("),
    Fault(
        "a tuple nested a million times",
        BOTH,
        repacked(lambda _: START + b"})" + b"\x85" * 10**6 + b"K\x01s."),
        REFUSED + "a tuple of more than 1000 values",
    ),
    Fault("a pickle that is cut off", BOTH, repacked(lambda data: data[: len(data) // 2]), DAMAGED),
    Fault("a pickle that does not add up", BOTH, repacked(lambda _: START + b"R."), DAMAGED),
    Fault(
        "a list shared 2^40 times in the run's config",
        (OURS,),
        edited(lambda content: content["run_config"].update(x=nested(40))),
        "{path}: key 'run_config' is nested too deeply or is too large",
    ),
    Fault(
        "such a list as a size",
        (OLD, OLD_V2),
        of_config(hidden_dim=nested(40)),
        INVALID + "model_config.hidden_dim must be int, got [[[[",
    ),
]
KEYS = [
    Fault(
        "a list",
        BOTH,
        lambda path: torch.save([1, 2], path),
        "{path} is not an APEL-R checkpoint: it has no key 'format'",
    ),
    Fault(
        "another program's dictionary",
        BOTH,
        lambda path: torch.save({"state_dict": {}}, path),
        "{path} is not an APEL-R checkpoint",
    ),
    Fault(
        "no config", (OURS,), edited(lambda content: content.pop("model_config")), "{path} lacks the key 'model_config'"
    ),
    Fault(
        "no config",
        (OLD, OLD_V2),
        edited(lambda content: content.pop("model_config")),
        "{path} has the form of the prototype's",
    ),
    Fault(
        "a config that is a list",
        EVERY,
        edited(lambda content: content.update(model_config=[])),
        "{path}: key 'model_config' must be dict, got list",
    ),
    Fault(
        "tensors that are a text",
        (OURS,),
        edited(lambda content: content.update(model="x")),
        "{path}: key 'model' must be dict, got str",
    ),
    Fault(
        "tensors that are a text",
        (OLD,),
        edited(lambda content: content.update(model_state_dict="x")),
        "{path}: key 'model_state_dict' must be dict, got str",
    ),
    Fault(
        "an unknown version",
        EVERY,
        edited(lambda content: content.update(model_version="v9")),
        "{path} has model version 'v9'; known versions",
    ),
    Fault(
        "the prototype's transformer",
        (OLD,),
        edited(lambda content: content.update(model_version="transformer_lm")),
        "{path} holds the prototype's transformer_lm",
    ),
    Fault(
        "a newer format",
        (OURS,),
        edited(lambda content: content.update(format_version=99)),
        "{path} has checkpoint format 99, newer than",
    ),
    Fault(
        "a newer schema",
        (OLD,),
        edited(lambda content: content.update(config_schema_version=99)),
        "{path} has config_schema_version 99;",
    ),
    Fault(
        "a negative step",
        (OURS,),
        edited(lambda content: content.update(step=-1)),
        "{path}: key 'step' must be >= 0, got -1",
    ),
    Fault(
        "a negative step",
        (OLD,),
        edited(lambda content: content.update(global_step=-1)),
        "{path}: key 'global_step' must be between 0 and 2^62, got -1",
    ),
    Fault(
        "a step no tensor can count",
        (OURS,),
        edited(lambda content: content.update(step=10**600)),
        "{path}: key 'step' must be at most 2^62",
    ),
    Fault(
        "an optimizer state that is a list",
        (OLD,),
        edited(lambda content: content.update(optimizer_state_dict=[])),
        "{path}: key 'optimizer_state_dict' must be dict or null",
    ),
]
CONFIGS = [
    Fault(
        "a size that is a text",
        EVERY,
        of_config(hidden_dim="7"),
        INVALID + "model_config.hidden_dim must be int, got '7'",
    ),
    Fault(
        "a size with a fraction",
        EVERY,
        of_config(hidden_dim=7.5),
        INVALID + "model_config.hidden_dim must be int, got 7.5",
    ),
    Fault(
        "a size that is true",
        EVERY,
        of_config(num_layers=True),
        INVALID + "model_config.num_layers must be int, got True",
    ),
    Fault("a negative size", EVERY, of_config(chunk_size=-4), INVALID + "chunk_size must be >= 1, got -4"),
    Fault("no plan states", EVERY, of_config(num_plan_states=0, num_experts=None), "{path}"),
    Fault(
        "a size beyond all numbers",
        EVERY,
        of_config(hidden_dim=10**30),
        INVALID + "model_config.hidden_dim must be between -2^62 and 2^62",
    ),
    Fault(
        "chunks no tensor can count",
        EVERY,
        of_config(chunk_size=2**63),
        INVALID + "model_config.chunk_size must be between -2^62 and 2^62",
    ),
    Fault("a size that asks for terabytes", EVERY, of_config(hidden_dim=10**7), "{path}: tensor "),
    Fault(
        "a vocabulary that asks for terabytes",
        (OURS,),
        edited(lambda content: content.update(vocab_size=10**12)),
        "{path}: tensor ",
    ),
    Fault("a vocabulary that asks for terabytes", (OLD, OLD_V2), of_config(vocab_size=10**12), "{path}: tensor "),
    Fault("a billion layers", EVERY, of_config(num_layers=10**9), "{path} holds "),
    Fault(
        "dropout that is no number",
        EVERY,
        of_config(dropout=float("nan")),
        INVALID + "dropout must be >= 0 and < 1, got nan",
    ),
    Fault(
        "a missing size",
        (OLD, OLD_V2),
        edited(lambda content: content["model_config"].pop("chunk_size")),
        "{path} lacks model_config.chunk_size",
    ),
    Fault("an unknown field", (OURS,), of_config(width=3), INVALID + "model_config.width is no key of V1Config"),
    Fault(
        "other numbers of experts and states",
        (OLD_V2,),
        of_config(num_experts=7),
        INVALID + "num_experts must be null or num_plan_states (3), got 7",
    ),
    Fault(
        "a temperature of zero",
        (OLD_V2,),
        of_config(planner_temperature=0.0),
        INVALID + "planner_temperature must be between 1e-28 and 1e+28, got 0.0",
    ),
]
TENSORS = [
    Fault(
        "a tensor of another shape",
        EVERY,
        embedded(lambda t: t[:, :-1].clone()),
        "{path}: tensor {embedding} has shape [{vocab}, 4], the config needs [{vocab}, 5]",
    ),
    Fault(
        "a vocabulary that is not the config's",
        EVERY,
        embedded(lambda t: torch.cat([t, t])),
        "{path}: tensor {embedding} has shape [{vocab2}, 5], the config needs [{vocab}, 5]",
    ),
    Fault(
        "NaN in a weight",
        EVERY,
        embedded(lambda t: t.clone().fill_(float("nan"))),
        "{path}: tensor {embedding} holds NaN or plus infinity",
    ),
    Fault(
        "infinity in a weight",
        EVERY,
        embedded(lambda t: t.clone().fill_(float("inf"))),
        "{path}: tensor {embedding} holds NaN or plus infinity",
    ),
    Fault(
        "minus infinity in a weight",
        EVERY,
        embedded(lambda t: t.clone().fill_(float("-inf"))),
        "{path}: tensor {embedding} holds minus infinity, which only a planner's logits and a head's biases may",
    ),
    Fault(
        "no first plan state that is possible",
        EVERY,
        impossible("planner.initial_logits", "planner_init_logits"),
        "{path}: tensor planner",
    ),
    Fault(
        "no next plan state that is possible",
        EVERY,
        impossible("planner.transition_logits", "planner_transition_logits", row=1),
        "{path}: tensor planner",
    ),
    Fault(
        "no token that is possible",
        EVERY,
        impossible("head.plan_vocab_bias", "plan_vocab_bias", "expert_heads.1.bias", row=1),
        "{path}: tensor ",
    ),
    Fault(
        "whole numbers in a weight",
        EVERY,
        embedded(lambda t: t.long()),
        "{path}: tensor {embedding} is not a dense tensor of floating-point numbers",
    ),
    Fault("numbers of eight bits", EVERY, embedded(lambda t: t.to(torch.float8_e4m3fn)), REFUSED),
    Fault(
        "a view that declares more than it holds",
        EVERY,
        embedded(lambda t: torch.zeros(1).expand(t.shape)),
        "{path}: tensor {embedding} is not a dense tensor of floating-point numbers",
    ),
    Fault(
        "a sparse tensor",
        EVERY,
        embedded(lambda t: t.to_sparse()),
        REFUSED + "a reference to 'torch._utils._rebuild_sparse_tensor'",
    ),
    Fault("a text in place of a tensor", EVERY, embedded(lambda t: "text"), "{path}: tensor {embedding} has shape str"),
    Fault(
        "a missing tensor",
        EVERY,
        edited(lambda content: tensors(content).pop(embedding(content))),
        "{path} lacks the tensors {embedding}",
    ),
    Fault(
        "an unexpected tensor",
        (OURS,),
        edited(lambda content: tensors(content).update(x=torch.zeros(1))),
        "{path} has unknown tensors x",
    ),
    Fault(
        "an unexpected tensor",
        (OLD, OLD_V2),
        edited(lambda content: tensors(content).update(x=torch.zeros(1))),
        "{path} has unexpected tensors x; --allow-unexpected leaves them out",
    ),
    Fault(
        "a name that is no text",
        (OLD,),
        edited(lambda content: tensors(content).update({("a\n", 1): torch.zeros(1)})),
        "{path} has unexpected tensors ('a\\n', 1);",
    ),
    Fault(
        "two names for one tensor",
        (OLD,),
        edited(lambda content: tensors(content).update({"_orig_mod.token_emb.weight": torch.zeros(1)})),
        "{path} holds two tensors named token_emb.weight",
    ),
]
UNREADABLE = "{path}: its tokenizer cannot be read: "
TOKENIZERS = [
    Fault(
        "no tokenizer",
        (OURS,),
        edited(lambda content: content.update(tokenizer=None)),
        "{path} carries no tokenizer: name it with --tokenizer FILE",
    ),
    Fault(
        "no tokenizer",
        (OLD,),
        lambda path: (path.parent / "tokenizer.json").unlink(),
        "{path} carries no tokenizer and none was found (",
    ),
    Fault(
        "a tokenizer of another vocabulary",
        (OLD,),
        tokenizer(chars("a", "b")),
        "{path}: its tokenizer has 6 ids, its model's vocabulary 25",
    ),
    Fault(
        "a tokenizer of another fingerprint",
        (OURS,),
        tokenizer(chars("a", "b")),
        "{path}: its tokenizer has the fingerprint ",
    ),
    Fault(
        "a tokenizer of another sha256",
        (OLD,),
        edited(lambda content: content.update(tokenizer_hash="0" * 64)),
        "{path}: {folder}/tokenizer.json is not the tokenizer file that it recorded",
    ),
    Fault("a tokenizer that is no JSON", BOTH, tokenizer("hello"), UNREADABLE),
    Fault("a tokenizer that is not UTF-8", (OLD,), tokenizer(b'{"itos": ["\xff"]}'), UNREADABLE),
    Fault("a tokenizer that is cut off", BOTH, tokenizer(chars("a", "b")[:-5]), UNREADABLE),
    Fault("a tokenizer that is nested a million times", BOTH, tokenizer("[" * 10**6), UNREADABLE),
    Fault("characters twice", BOTH, tokenizer(chars("a", "a")), UNREADABLE),
    Fault("a character that is a number", BOTH, tokenizer(chars("a", 7)), UNREADABLE),
    Fault("no special tokens", BOTH, tokenizer('{"itos": ["a", "b"]}'), UNREADABLE),
    Fault(
        "an id of 10^9",
        BOTH,
        tokenizer(bpe_with(vocab={"<pad>": 0, "<bos>": 1, "<eos>": 2, "<unk>": 3, "a": 10**9})),
        UNREADABLE,
    ),
    Fault("merges of tokens that are not there", BOTH, tokenizer(bpe_with(merges=[["x", "y"]])), UNREADABLE),
    Fault("a tokenizer that is no BPE", BOTH, tokenizer(bpe_with(type="Unigram")), UNREADABLE),
    Fault("a tokenizer larger than 64 MiB", (OLD,), large_tokenizer, UNREADABLE),
    Fault("a tokenizer that is a pipe", (OLD,), tokenizer_pipe, "{path} carries no tokenizer and none was found ("),
]
OF_CHECKPOINTS = [*NOT_AN_ARCHIVE, *HOSTILE, *KEYS, *CONFIGS, *TENSORS]


def each(faults: list[Fault]) -> pytest.MarkDecorator:
    cases = [pytest.param(fault, form, id=f"{form}: {fault.name}") for fault in faults for form in fault.forms]
    return pytest.mark.parametrize(("fault", "form"), cases)


@pytest.fixture
def good_file(make_checkpoint: Callable[..., Path], make_prototype: Callable[..., Path]) -> Callable[[str], Path]:
    """A file of the named form, without a second name."""

    def make(form: str) -> Path:
        if form == OURS:
            run = make_checkpoint()
            path = run.parent / "ours.pt"
            shutil.copy(run / "checkpoint.pt", path)
            return path
        return make_prototype("v2_planner_required" if form == OLD_V2 else "v1_filtered_mixture")

    return make


@pytest.fixture
def break_file(
    good_file: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Fault, str], tuple[Path, str]]:
    """Makes a file with a fault; its path, and what is to be said of it."""

    def make(fault: Fault, form: str) -> tuple[Path, str]:
        monkeypatch.chdir(tmp_path)
        path = good_file(form)
        vocab = 25 if form != OURS else load_checkpoint(path).vocab_size
        fault.make(path)
        names = {"embedding": "executor.token_emb.weight" if form == OURS else "token_emb.weight"}
        sizes = {"vocab": vocab, "vocab2": 2 * vocab, "folder": path.parent}
        message = fault.message
        for name, value in {"path": path, **names, **sizes}.items():
            message = message.replace(f"{{{name}}}", str(value))
        return path, message

    return make


@pytest.fixture
def check_command(apelr: Callable[..., Result], tmp_path: Path) -> Callable[[Path, str], None]:
    """`apelr score` says what is expected, in one line, and nothing of the file has run."""

    def check(path: Path, message: str) -> None:
        result: Result = apelr("score", "--checkpoint", path, "--text", "the", "--device", "cpu")
        assert (result.exit_code, result.stdout) == (1, "")
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.stderr.startswith(f"Error: {message}")
        assert result.stderr.count("\n") == 1
        assert result.stderr.strip().isprintable()
        assert len(result.stderr) < 1000
        assert not CANARY.exists()

    return check


@each(OF_CHECKPOINTS)
def test_a_checkpoint_is_refused(
    break_file: Callable[[Fault, str], tuple[Path, str]],
    check_command: Callable[[Path, str], None],
    fault: Fault,
    form: str,
) -> None:
    path, message = break_file(fault, form)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(message)
    assert str(caught.value).isprintable()
    check_command(path, message)


@pytest.mark.parametrize("form", EVERY)
def test_weights_that_overflow_give_no_figure(
    apelr: Callable[..., Result], good_file: Callable[[str], Path], tmp_path: Path, form: str
) -> None:
    path, file = good_file(form), tmp_path / "text.txt"
    edited(too_large)(path)
    load_checkpoint(path)
    file.write_text("the cat sat on the mat. " * 4, encoding="utf-8")
    message = "Error: the model's log-probabilities hold NaN; its parameters are damaged"
    for command in (
        ("score", "--text", "the cat"),
        ("score", "--text", "the cat", "--format", "json"),
        ("eval", "--file", file, "--seq-len", 8),
        ("eval", "--file", file, "--seq-len", 8, "--no-diagnostics", "--format", "json"),
    ):
        result: Result = apelr(*command, "--checkpoint", path, "--device", "cpu")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.splitlines()[-1] == message


@each(TOKENIZERS)
def test_a_tokenizer_is_refused(
    break_file: Callable[[Fault, str], tuple[Path, str]],
    check_command: Callable[[Path, str], None],
    fault: Fault,
    form: str,
) -> None:
    path, message = break_file(fault, form)
    load_checkpoint(path)
    check_command(path, message)


@pytest.mark.parametrize("form", EVERY)
def test_the_good_files_are_good(apelr: Callable[..., Result], good_file: Callable[[str], Path], form: str) -> None:
    assert apelr("score", "--checkpoint", good_file(form), "--text", "the", "--device", "cpu").exit_code == 0


def test_the_code_in_these_files_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.load(io.BytesIO(pickle.dumps(RunsCode())))
    assert CANARY.exists()
