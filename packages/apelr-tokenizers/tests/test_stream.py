import pytest

from apelr_tokenizers import StreamDecoder, TokenizerError

PIECES = [b"", b"a", b"\xe2", b"\x80", b"\xa6", b"\xff", "é".encode()]


def test_bytes_are_held_back_until_the_character_is_complete() -> None:
    decoder = StreamDecoder(PIECES)
    assert [decoder.push(i) for i in (1, 2, 3, 4, 6)] == ["a", "", "", "…", "é"]
    assert decoder.finish() == ""


def test_special_ids_give_nothing_and_break_nothing() -> None:
    decoder = StreamDecoder(PIECES)
    assert [decoder.push(i) for i in (2, 0, 3, 0, 4)] == ["", "", "", "", "…"]


def test_invalid_bytes_become_replacement_characters_as_soon_as_they_are_certain() -> None:
    decoder = StreamDecoder(PIECES)
    assert [decoder.push(i) for i in (5, 2, 1)] == ["\ufffd", "", "\ufffda"]


def test_finish_gives_what_is_held_back_and_starts_afresh() -> None:
    decoder = StreamDecoder(PIECES)
    decoder.push(2)
    assert decoder.finish() == "\ufffd"
    assert decoder.finish() == ""
    assert decoder.push(4) == "\ufffd"


@pytest.mark.parametrize("bad", [-1, 7])
def test_a_bad_id_is_refused(bad: int) -> None:
    with pytest.raises(TokenizerError, match=rf"^id must be in 0 \.\. 6, got {bad}$"):
        StreamDecoder(PIECES).push(bad)
