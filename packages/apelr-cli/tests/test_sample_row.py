from apelr_cli.sample_row import Forecast, SampleRow
from apelr_model import GeneratedToken, PlanForecast
from apelr_tokenizers import Tokenizer


def token(id: int, *, chunk: int = 0, ahead: tuple[tuple[float, ...], ...] = ()) -> GeneratedToken:
    return GeneratedToken(row=0, id=id, log_prob=-1.0, chunk=chunk, belief=(0.25, 0.75), lookahead=ahead)


def new_row(tokenizer: Tokenizer, stops: tuple[str, ...] = ()) -> SampleRow:
    return SampleRow("a", [tokenizer.bos_id, *tokenizer.encode("a").ids], tokenizer, stops)


def byte_ids(tokenizer: Tokenizer, content: bytes) -> list[int]:
    """One id for each byte, whatever merges the tokenizer knows."""
    by_byte = {tokenizer.encode(chr(c)).ids[0]: bytes([c]) for c in range(128)}
    ids = {piece: id for id, piece in by_byte.items()}
    for character in "é中":
        ids.update(zip((bytes([b]) for b in character.encode()), tokenizer.encode(character).ids, strict=True))
    return [ids[bytes([b])] for b in content]


def test_half_characters_wait_and_texts_add_up(bpe: Tokenizer) -> None:
    row = new_row(bpe)
    pieces = [row.push(token(id)) for id in byte_ids(bpe, "é中!".encode())]
    assert pieces == ["", "é", "", "", "中", "!"]
    assert [text for _, text in row.tokens] == pieces
    assert row.finish() == ""
    assert row.text == "é中!"


def test_an_unfinished_character_belongs_to_the_last_token_with_text(bpe: Tokenizer) -> None:
    row = new_row(bpe)
    ids = [*byte_ids(bpe, "b中".encode()[:3]), bpe.eos_id]
    for id in ids:
        row.push(token(id))
    assert row.done
    assert row.text == bpe.decode(ids) == "b\ufffd"
    assert [text for _, text in row.tokens] == ["b", "", "\ufffd", ""]


def test_the_text_ends_before_a_stop_string_and_the_tokens_hold_it(char: Tokenizer) -> None:
    row = new_row(char, stops=("at", "dog"))
    for id in char.encode("a cat").ids:
        assert not row.done
        row.push(token(id))
    assert row.done
    assert row.text == "a c"
    assert "".join(text for _, text in row.tokens) == "a cat"
    assert row.ids == [char.bos_id, *char.encode("aa cat").ids]


def test_what_might_have_been_a_stop_string_comes_at_the_end(char: Tokenizer) -> None:
    row = new_row(char, stops=("cat",))
    passed = [row.push(token(id)) for id in char.encode("a ca").ids]
    assert passed == ["a", " ", "", ""]
    assert row.finish() == "ca"
    assert row.finish() == ""
    assert row.text == "a ca"


def test_the_prompt_is_not_searched_for_stop_strings(char: Tokenizer) -> None:
    row = new_row(char, stops=("ac",))
    row.push(token(char.encode("c").ids[0]))
    assert not row.done


def test_end_of_text_ends_the_row_and_is_kept(char: Tokenizer) -> None:
    row = new_row(char)
    row.push(token(char.eos_id))
    assert row.done
    assert row.ids[-1] == char.eos_id
    assert row.text == row.tokens[0].text == ""


def test_forecasts_are_kept_for_the_first_token_and_each_chunk_start(char: Tokenizer) -> None:
    row = new_row(char)
    ahead = ((0.5, 0.5),)
    for chunk in (2, 2, 3, 3, 3, 4):
        row.push(token(char.encode("a").ids[0], chunk=chunk, ahead=ahead))
    assert row.forecasts == [Forecast(c, t, (0.25, 0.75), ahead) for c, t in ((2, 1), (3, 3), (4, 6))]


def test_no_forecasts_unless_asked_for(char: Tokenizer) -> None:
    row = new_row(char)
    row.push(token(char.encode("a").ids[0]))
    assert row.forecasts == []


def test_forecasts_that_come_later_are_those_that_come_with_the_tokens(char: Tokenizer) -> None:
    together, later = new_row(char), new_row(char)
    ids, chunks = char.encode("a cat").ids, [0, 0, 1, 1, 2]
    shown = []
    for index, (id, chunk) in enumerate(zip(ids, chunks, strict=True)):
        ahead = ((index / 10, 1 - index / 10),)
        together.push(token(id, chunk=chunk, ahead=ahead))
        later.push(token(id, chunk=chunk))
        assert not later.is_foreseen
        if index:
            before = index - 1
            event = PlanForecast(0, 1 + before, chunks[before], ((before / 10, 1 - before / 10),))
            shown.append(later.foresee(event))
            assert not later.is_foreseen
    shown.append(later.foresee(PlanForecast(0, 5, 2, ((0.4, 0.6),))))
    assert later.is_foreseen
    assert later.forecasts == together.forecasts == [entry for entry in shown if entry is not None]
    assert [entry is not None for entry in shown] == [True, False, True, False, True]
