import io
import json

import pytest

from apelr_cli.sample_output import JsonOutput, TextOutput, forecast_line, sample_record
from apelr_cli.sample_row import Forecast, SampleRow
from apelr_model import GeneratedToken
from apelr_tokenizers import Tokenizer


def row(tokenizer: Tokenizer, text: str) -> SampleRow:
    made = SampleRow("a", [tokenizer.bos_id, *tokenizer.encode("a").ids], tokenizer, ())
    for id in tokenizer.encode(text).ids:
        made.push(GeneratedToken(0, id, -0.5, 0, (0.25, 0.75), ((0.5, 0.5),)))
    made.finish()
    return made


def test_one_sample_is_prompt_and_text_and_a_newline(char: Tokenizer) -> None:
    stream = io.StringIO()
    output = TextOutput(stream, "a", 1)
    output.start()
    assert stream.getvalue() == "a"
    output.add(0, "b", row(char, "b"))
    assert stream.getvalue() == "ab"
    output.end(0, row(char, "b"))
    assert stream.getvalue() == "ab\n"


def test_the_first_unfinished_sample_streams_and_the_others_wait(char: Tokenizer) -> None:
    stream = io.StringIO()
    output = TextOutput(stream, "a", 3)
    output.start()
    for index, text in ((0, "b"), (1, "c"), (2, "d")):
        output.add(index, text, row(char, text))
    assert stream.getvalue() == "--- sample 1 of 3 ---\nab"
    output.end(2, row(char, "d"))
    output.add(1, "c", row(char, "c"))
    assert stream.getvalue() == "--- sample 1 of 3 ---\nab"
    output.end(0, row(char, "b"))
    assert stream.getvalue() == "--- sample 1 of 3 ---\nab\n--- sample 2 of 3 ---\nacc"
    output.add(1, "t", row(char, "t"))
    output.end(1, row(char, "cct"))
    assert stream.getvalue().endswith("acct\n--- sample 3 of 3 ---\nad\n")


def test_forecasts_go_to_standard_error(char: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    output = TextOutput(io.StringIO(), "a", 2)
    output.start()
    output.end(0, row(char, "b"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "sample 1, chunk 0 (position 1): now 1:0.75 0:0.25 | +1 0:0.50 1:0.50\n"


def test_forecasts_that_are_events_are_shown_at_once_and_not_again(
    char: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    output = TextOutput(stream, "a", 2)
    output.start()
    later = row(char, "c")
    output.foresee(1, later.forecasts[0])
    line = "sample 2, chunk 0 (position 1): now 1:0.75 0:0.25 | +1 0:0.50 1:0.50\n"
    assert capsys.readouterr().err == line
    output.end(1, later)
    output.end(0, row(char, "b"))
    assert capsys.readouterr().err == line.replace("sample 2", "sample 1")
    assert "now" not in stream.getvalue()


def test_the_forecast_line_names_the_three_most_likely_states() -> None:
    entry = Forecast(4, 12, (0.1, 0.2, 0.3, 0.4), ((0.7, 0.1, 0.1, 0.1), (0.0, 0.0, 0.0, 1.0)))
    expected = "chunk 4 (position 12): now 3:0.40 2:0.30 1:0.20 | +1 0:0.70 1:0.10 2:0.10 | +2 3:1.00 0:0.00 1:0.00"
    assert forecast_line(entry) == expected


def test_an_abandoned_sample_ends_its_line(char: Tokenizer) -> None:
    stream = io.StringIO()
    output = TextOutput(stream, "a", 1)
    output.start()
    output.abandon()
    assert stream.getvalue() == "a\n"


def test_json_lines_come_in_order(char: Tokenizer) -> None:
    stream = io.StringIO()
    output = JsonOutput(stream, "exact filter")
    output.start()
    output.add(1, "c", row(char, "c"))
    output.end(1, row(char, "c"))
    assert stream.getvalue() == ""
    output.end(0, row(char, "b"))
    assert [json.loads(line)["text"] for line in stream.getvalue().splitlines()] == ["b", "c"]
    assert {json.loads(line)["gate"] for line in stream.getvalue().splitlines()} == {"exact filter"}
    output.abandon()
    assert stream.getvalue().count("\n") == 2


def test_the_record_of_a_sample(char: Tokenizer) -> None:
    a, b, c = char.encode("abc").ids
    token = {"log_prob": -0.5, "chunk": 0, "belief": [0.25, 0.75]}
    assert sample_record(row(char, "bc"), "causal policy") == {
        "prompt": "a",
        "text": "bc",
        "ids": [char.bos_id, a, b, c],
        "tokens": [{"id": b, "text": "b", **token}, {"id": c, "text": "c", **token}],
        "lookahead": [{"chunk": 0, "position": 1, "belief": [0.25, 0.75], "forecast": [[0.5, 0.5]]}],
        "gate": "causal policy",
    }
