"""The policy for odd text, each rule with its count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import TextReport, clean_text
from apelr_data.text_policy import decode_utf8

ODD = st.text(st.one_of(st.sampled_from("\0\ufeff\r\n \u2028a\udc80\udcff\ud800\udfff"), st.characters()))


def counts(raw, **options):
    """The counts that are not zero, sizes left out."""
    report = clean_text(raw, **options).report
    sizes = ("documents", "characters", "utf8_bytes")
    return {name: n for name, n in vars(report).items() if n and name not in sizes}


@pytest.mark.parametrize(
    ("raw", "text", "expected"),
    [
        ("plain\ntext", "plain\ntext", {}),
        (b"plain \xc3\xa4", "plain ä", {}),
        (b"a\xff\xc3b", "a\ufffd\ufffdb", {"invalid_bytes": 2}),
        (b"a\xef\xbf\xbdb", "a\ufffdb", {}),
        (b"\xed\xa0\x80x", "\ufffd\ufffd\ufffdx", {"invalid_bytes": 3}),
        ("a\udcffb", "a\ufffdb", {"invalid_bytes": 1}),
        ("a\ud800b\udfff", "a\ufffdb\ufffd", {"lone_surrogates": 2}),
        ("\ufeffa\ufeffb", "a\ufeffb", {"byte_order_marks": 1}),
        (b"\xef\xbb\xbfa", "a", {"byte_order_marks": 1}),
        ("a\0b\0", "ab", {"nul_characters": 2}),
        ("a\r\nb\rc\r\r\nd", "a\nb\nc\n\nd", {"carriage_returns": 4}),
        ("  kept  ", "  kept  ", {}),
        ("\x1bodd\x07 controls\u2028", "\x1bodd\x07 controls\u2028", {}),
    ],
)
def test_each_rule(raw, text, expected):
    cleaned = clean_text(raw)
    assert cleaned.text == text
    assert cleaned.kept
    assert counts(raw) == expected
    assert cleaned.report.documents == 1
    assert cleaned.report.characters == len(text)
    assert cleaned.report.utf8_bytes == len(text.encode())


@pytest.mark.parametrize("raw", ["", " \n\t", "\u3000", "\0", "\ufeff", b"", b"\r\n"])
def test_empty_and_white_space_documents_are_dropped(raw):
    for min_chars in (0, 1, 100):
        cleaned = clean_text(raw, min_chars=min_chars)
        assert not cleaned.kept
        assert cleaned.report.dropped_empty == 1
        assert cleaned.report.dropped_short == 0
        assert (cleaned.report.documents, cleaned.report.characters, cleaned.report.utf8_bytes) == (0, 0, 0)


def test_short_documents_are_dropped_by_their_length_after_cleaning():
    assert counts("abc", min_chars=4) == {"dropped_short": 1}
    assert counts("abc", min_chars=3) == {}
    assert counts("abc\0", min_chars=4) == {"dropped_short": 1, "nul_characters": 1}


def test_a_line_of_ten_megabytes_passes_unchanged():
    line = "word " * 2_000_000
    cleaned = clean_text(line)
    assert cleaned.text == line
    assert cleaned.report.utf8_bytes == 10_000_000


@given(ODD)
def test_cleaning_twice_is_cleaning_once(raw):
    once = clean_text(raw)
    twice = clean_text(once.text)
    assert twice.text == once.text
    assert counts(once.text) == ({} if once.kept else {"dropped_empty": 1})


@given(ODD)
def test_cleaned_text_is_encodable_and_free_of_what_the_policy_removes(raw):
    text = clean_text(raw).text
    text.encode("utf-8")
    assert "\0" not in text
    assert "\r" not in text
    assert not text.startswith("\ufeff")


@given(st.binary())
def test_any_bytes_can_be_read(raw):
    cleaned = clean_text(raw)
    assert cleaned == clean_text(decode_utf8(raw))
    valid = len(raw.decode("utf-8", "ignore").encode())
    assert cleaned.report.invalid_bytes == len(raw) - valid


def test_reports_add_up():
    total = clean_text("a\0").report + clean_text("\r\nb").report + TextReport()
    assert total == TextReport(documents=2, characters=3, utf8_bytes=3, nul_characters=1, carriage_returns=1)
