import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from apelr_cli.commands.score import score
from apelr_cli.scoring_output import LOSSY
from apelr_tokenizers import Tokenizer

Run = Callable[..., Result]
Make = Callable[..., Path]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def apelr(apelr: Run, device: str) -> Run:
    """The command on the device under test; an explicit --device after it counts."""
    return lambda command, *arguments, **settings: apelr(command, "--device", device, *arguments, **settings)


def test_a_text_is_scored_from_the_start_of_a_document(
    apelr: Run, make_checkpoint: Make, bpe: Tokenizer, tmp_path: Path
) -> None:
    run, text = make_checkpoint(bpe), "the cat sät on the 中 mat"
    result = apelr("score", "--checkpoint", run, "--text", text, "--format", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    ids = bpe.encode(text).ids
    assert [token["id"] for token in found["tokens"]] == ids
    assert [token["chunk"] for token in found["tokens"]] == [t // 3 for t in range(len(ids))]
    assert found["nll"] == pytest.approx(-math.fsum(token["log_prob"] for token in found["tokens"]))
    assert found["bits_per_byte"] == pytest.approx(found["nll"] / math.log(2) / len(text.encode()))

    file = tmp_path / "text.txt"
    file.write_bytes(text.encode())
    assert apelr("score", "--checkpoint", run, "--file", file, "--format", "json").stdout == result.stdout

    ids_file = tmp_path / "ids.json"
    ids_file.write_text(json.dumps([bpe.bos_id, *ids]), encoding="utf-8")
    by_ids = apelr("score", "--checkpoint", run, "--ids-file", ids_file, "--format", "json")
    assert json.loads(by_ids.stdout) == {**found, "bits_per_byte": None}
    assert by_ids.stderr == ""


def test_the_belief_runs_through_a_long_text(apelr: Run, make_checkpoint: Make, tmp_path: Path) -> None:
    run, text = make_checkpoint(), "the cat sat on the mat. " * 500
    file = tmp_path / "long.txt"
    file.write_text(text, encoding="utf-8")
    found = json.loads(apelr("score", "--checkpoint", run, "--file", file, "--format", "json").stdout)
    assert len(found["tokens"]) == 12_000
    assert found["tokens"][-1]["chunk"] == 3_999
    assert math.isfinite(found["nll"])
    short = json.loads(apelr("score", "--checkpoint", run, "--text", text[:2100], "--format", "json").stdout)
    for whole, part in list(zip(found["tokens"], short["tokens"], strict=False))[1000::50]:
        assert whole["log_prob"] == pytest.approx(part["log_prob"], rel=0, abs=1e-4)
        assert whole["belief"] == pytest.approx(part["belief"], rel=0, abs=1e-4)


def test_the_text_form_is_a_summary_and_a_table(apelr: Run, make_checkpoint: Make, bpe: Tokenizer) -> None:
    result = apelr("score", "--checkpoint", make_checkpoint(bpe), "--text", "the cat")
    summary, table = result.stdout.split("\n\n")
    names = ["targets", "nll", "nats per token", "perplexity", "bits per byte", "tokenizer"]
    assert [line[:16].rstrip() for line in summary.splitlines()] == names
    assert "(7 bytes)" in summary
    assert "lossless" in summary
    assert len(table.splitlines()) == 1 + len(bpe.encode("the cat").ids)


def test_a_lossy_tokenizer_is_flagged_wherever_bits_per_byte_is_shown(
    apelr: Run, make_checkpoint: Make, char: Tokenizer, tmp_path: Path
) -> None:
    run = make_checkpoint()
    assert f"tokenizer       {LOSSY}\n" in apelr("score", "--checkpoint", run, "--text", "the").stdout
    as_json = apelr("score", "--checkpoint", run, "--text", "the", "--format", "json")
    assert as_json.stderr == f"Warning: {LOSSY}\n"
    assert list(json.loads(as_json.stdout)) == ["tokens", "nll", "bits_per_byte", "gate"]
    ids_file = tmp_path / "ids.json"
    ids_file.write_text("[1, 5]", encoding="utf-8")
    assert apelr("score", "--checkpoint", run, "--ids-file", ids_file, "--format", "json").stderr == ""


@pytest.mark.parametrize(("kind", "key"), [("smoothed", "posterior"), ("viterbi", "plan")])
def test_the_plan_given_the_whole_text(apelr: Run, make_checkpoint: Make, kind: str, key: str) -> None:
    run, text = make_checkpoint(), "the cat sat on the mat"
    plain = json.loads(apelr("score", "--checkpoint", run, "--text", text, "--format", "json").stdout)
    filtered = apelr("score", "--checkpoint", run, "--text", text, "--format", "json", "--plan", "filtered")
    assert json.loads(filtered.stdout) == plain
    found = json.loads(apelr("score", "--checkpoint", run, "--text", text, "--format", "json", "--plan", kind).stdout)
    assert (found["nll"], found["bits_per_byte"]) == (plain["nll"], plain["bits_per_byte"])
    assert all(list(token) == ["id", "log_prob", "chunk", key] for token in found["tokens"])
    chunks = {token["chunk"]: token[key] for token in found["tokens"]}
    assert all(token[key] == chunks[token["chunk"]] for token in found["tokens"])  # one plan a chunk
    if kind == "smoothed":
        assert list(found) == ["tokens", "nll", "bits_per_byte", "plan_entropy", "gate"]
        assert 0 < found["plan_entropy"] <= len(chunks) * math.log(3)
        assert all(math.fsum(posterior) == pytest.approx(1) for posterior in chunks.values())
    else:
        assert list(found) == ["tokens", "nll", "bits_per_byte", "plan_path", "plan_log_prob", "gate"]
        assert found["plan_path"] == list(chunks.values())
        assert found["plan_log_prob"] < 0


@pytest.mark.parametrize("kind", ["smoothed", "viterbi"])
@pytest.mark.parametrize("forced", [("--force-state", "1"), ("--planner-mode", "uniform")])
def test_the_plan_given_the_whole_text_is_not_shown_as_if_nothing_were_forced(
    apelr: Run, make_checkpoint: Make, kind: str, forced: tuple[str, str]
) -> None:
    command = ("score", "--checkpoint", make_checkpoint(), "--text", "the cat", *forced, "--plan")
    refused = apelr(*command, kind)
    named = "--force-state" if forced[0] == "--force-state" else "--planner-mode uniform"
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.splitlines()[-1].startswith(f"Error: --plan {kind} and {named} exclude each other: ")
    assert apelr(*command, "filtered").exit_code == 0


def test_the_whole_of_a_long_text_is_smoothed(apelr: Run, make_checkpoint: Make, tmp_path: Path) -> None:
    run, file = make_checkpoint(), tmp_path / "long.txt"
    file.write_text("the cat sat on the mat. " * 150, encoding="utf-8")  # more than is read at once
    command = ("score", "--checkpoint", run, "--file", file, "--format", "json", "--plan")
    smoothed, best = (json.loads(apelr(*command, kind).stdout) for kind in ("smoothed", "viterbi"))
    assert len(smoothed["tokens"]) == 3600
    assert len(best["plan_path"]) == 1200
    assert math.isfinite(smoothed["plan_entropy"])
    assert math.isfinite(best["plan_log_prob"])


def test_unknown_characters_are_warned_of_and_keep_their_bytes(apelr: Run, make_checkpoint: Make) -> None:
    result = apelr("score", "--checkpoint", make_checkpoint(), "--text", "a 中", "--format", "json")
    assert "Warning: 1 character is unknown to the tokenizer and read as <unk>: '中' (1)\n" in result.stderr
    found = json.loads(result.stdout)
    assert found["bits_per_byte"] == pytest.approx(found["nll"] / math.log(2) / 5)


@pytest.mark.parametrize(
    "arguments",
    [(), ("--text", "a", "--file", __file__), ("--text", "", "--ids-file", __file__)],
)
def test_exactly_one_input_is_needed(apelr: Run, make_checkpoint: Make, arguments: tuple[str, ...]) -> None:
    result = apelr("score", "--checkpoint", make_checkpoint(), *arguments)
    assert result.exit_code == 2
    assert "give exactly one of --text, --file and --ids-file" in result.stderr


def one_error_line(result: Result) -> str:
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("Error: ").rstrip("\n")


def test_an_empty_text_is_an_error(apelr: Run, make_checkpoint: Make) -> None:
    result = apelr("score", "--checkpoint", make_checkpoint(), "--text", "")
    assert one_error_line(result) == "the text is empty: there is nothing to score"


def test_a_file_that_is_not_utf8_is_an_error(apelr: Run, make_checkpoint: Make, tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(b"caf\xe9")
    result = apelr("score", "--checkpoint", make_checkpoint(), "--file", file)
    assert one_error_line(result) == f"{file} is not UTF-8: byte 0xe9 at offset 3; save it as UTF-8"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ('["a", 1]', "must hold integers, got a string at index 0"),
        ("[1, 5, 99999]", "got 99999 at index 2"),
        ("[1]", "must hold at least 2 ids (one to read, one to predict), got 1"),
    ],
)
def test_a_bad_ids_file_is_an_error(
    apelr: Run, make_checkpoint: Make, tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "ids.json"
    file.write_text(content, encoding="utf-8")
    line = one_error_line(apelr("score", "--checkpoint", make_checkpoint(), "--ids-file", file))
    assert line.startswith(str(file))
    assert line.endswith(message)


def test_an_impossible_target_is_an_error(apelr: Run, make_checkpoint: Make, char: Tokenizer) -> None:
    s = char.encode("s").ids[0]
    result = apelr("score", "--checkpoint", make_checkpoint(never=[s]), "--text", "cat sat", "--format", "json")
    assert one_error_line(result) == (f"target 4 (id {s}) has probability zero under the model: its NLL is infinite")


def test_a_missing_checkpoint_is_an_error(apelr: Run, tmp_path: Path) -> None:
    result = apelr("score", "--checkpoint", tmp_path / "gone.pt", "--text", "a")
    assert one_error_line(result) == f"checkpoint not found: {tmp_path / 'gone.pt'}"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_reader_that_goes_away_ends_it_quietly(
    start_apelr: Start, make_checkpoint: Make, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "long.txt"
    file.write_text("the cat sat on the mat. " * 200, encoding="utf-8")
    process = start_apelr("score", "--checkpoint", make_checkpoint(), "--file", file, "--format", form)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert b"Traceback" not in (errors := process.stderr.read())
    assert b"Broken" not in errors
    assert process.wait(timeout=900) == 1


def test_the_options_are_those_of_the_interface() -> None:
    names = {flag for option in score.params for flag in option.opts}
    assert names == {
        *("--checkpoint", "--tokenizer", "--allow-unexpected", "--text", "--file", "--ids-file", "--plan", "--device"),
        *("--format", "--force-state", "--freeze-after", "--planner-mode", "--planner-temperature"),
        *("--no-token-filtering", "--lookahead-horizon", "--lookahead-feedback-scale"),
    }
