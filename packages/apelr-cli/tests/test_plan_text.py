import io

import pytest

from apelr_cli.loading import load_model
from apelr_cli.plan_choice import choose_policy
from apelr_cli.plan_paint import PlanPaint
from apelr_cli.plan_text import PlanLegend, PlanTextOutput, TextCursor
from apelr_cli.sample_row import SampleRow
from apelr_model import GeneratedToken
from apelr_tokenizers import Tokenizer

BELIEFS = ((0.2, 0.7, 0.1), (0.2, 0.7, 0.1), (0.6, 0.3, 0.1), (0.4, 0.4, 0.2))


def row_of(tokenizer: Tokenizer, text: str, stops: tuple[str, ...] = ()) -> tuple[SampleRow, list[str]]:
    """A sample that is made of the text, token by token, and the pieces that each token passed on."""
    row = SampleRow("a", [tokenizer.bos_id, *tokenizer.encode("a").ids], tokenizer, stops)
    passed = []
    for number, id in enumerate(tokenizer.encode(text).ids):
        passed.append(row.push(GeneratedToken(0, id, -0.5, number // 2, BELIEFS[number % 4], ())))
        if row.done:
            break
    passed.append(row.finish())
    return row, passed


def output(make_checkpoint, count: int = 1, prompt: str = "a") -> tuple[PlanTextOutput, io.StringIO]:
    loaded = load_model(make_checkpoint(), "cpu")
    stream = io.StringIO()
    paint = PlanPaint(3, "never", stream)
    return PlanTextOutput(stream, prompt, count, paint, PlanLegend(loaded, choose_policy(loaded.model, {}))), stream


def test_the_state_before_each_token_is_marked_where_it_changes(make_checkpoint, char: Tokenizer) -> None:
    shown, stream = output(make_checkpoint)
    row, passed = row_of(char, "bcat")
    shown.start()
    for piece in passed:
        shown.add(0, piece, row)
    assert stream.getvalue() == "a[1]bc[0]at", "of two that are as likely it is the first"
    shown.end(0, row)
    lines = stream.getvalue().splitlines()
    assert lines[1] == "2 of 3 plan states, the likeliest before each of 4 tokens:"
    assert lines[2].startswith("  [0]  50.0%")
    assert lines[3].startswith("  [1]  50.0%")
    assert lines[4].startswith("forecast: chunk 1 (position 4): now 0:0.40 1:0.40 2:0.20 | +1 ")
    assert lines[4].count("|") == 3


def test_samples_whose_turn_it_is_not_keep_their_own_states(make_checkpoint, char: Tokenizer) -> None:
    shown, stream = output(make_checkpoint, count=2)
    (first, pieces), (second, others) = row_of(char, "bcat"), row_of(char, "cat")
    shown.start()
    for piece, other in zip(pieces, [*others, ""], strict=True):
        shown.add(1, other, second)
        shown.add(0, piece, first)
    shown.end(1, second)
    shown.end(0, first)
    assert "a[1]bc[0]at\n" in stream.getvalue()
    assert "--- sample 2 of 2 ---\na[1]ca[0]t\n" in stream.getvalue()


def test_control_characters_are_written_out_even_in_a_file(make_checkpoint, bpe: Tokenizer) -> None:
    shown, stream = output(make_checkpoint, prompt="\x1b[2J")
    row, passed = row_of(bpe, "\x1bb")
    shown.start()
    for piece in passed:
        shown.add(0, piece, row)
    assert stream.getvalue() == "\\x1b[2J[1]\\x1bb"


@pytest.mark.parametrize("stops", [(), ("at",), ("t ",)])
def test_a_cursor_gives_each_character_to_the_token_that_completed_it(bpe: Tokenizer, stops: tuple[str, ...]) -> None:
    row, passed = row_of(bpe, "the cat é 猫 at the mat", stops)
    cursor = TextCursor()
    pieces = [piece for text in passed for piece in cursor.take(len(text), row)]
    assert "".join(text for _, text in pieces) == row.text
    expected = [(max(range(3), key=token.belief.__getitem__), text) for token, text in row.tokens]
    states = [state for state, text in expected for _ in text]
    assert [state for state, text in pieces for _ in text] == states[: len(row.text)]


def test_a_sample_without_tokens_has_no_states(make_checkpoint, char: Tokenizer) -> None:
    shown, stream = output(make_checkpoint)
    shown.start()
    shown.end(0, SampleRow("a", [char.bos_id], char, ()))
    assert stream.getvalue() == "a\nno token was generated, so no plan state is shown\n"
