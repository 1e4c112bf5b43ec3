"""Plain files in parts: nothing is lost, borders are sensible, the end is held out."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data.sources import long_text
from apelr_data.sources.long_text import read_parts, read_split
from apelr_data.splits import cut_tail


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of at most 20 bytes."""
    monkeypatch.setattr(long_text, "PART_BYTES", 20)


def parts_of(path, content):
    path.write_bytes(content)
    return list(read_parts(path))


@given(st.text("ab\n\r é☃\0\ufeff", max_size=300), st.integers(4, 40), st.floats(0.01, 0.99))
def test_parts_and_splits_join_to_the_file(tmp_path_factory, text, size, fraction):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_text, "PART_BYTES", size)
        parts = parts_of(path, text.encode())
        assert "".join(parts) == text
        assert all(0 < len(part.encode()) <= size for part in parts) or parts == [""]
        train, validation = (list(read_split(path, split, fraction)) for split in ("train", "validation"))
    assert "".join(train) + "".join(validation) == text
    if len(text.encode()) <= size:
        assert (*train, *validation) == cut_tail(text, fraction)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("content", "first"),
    [
        (b"0123456789\n\n23\n 567890", b"0123456789\n\n"),
        (b"0123456789\n23\r 567890", b"0123456789\n"),
        (b"0123456789\r23 567890x", b"0123456789\r"),
        (b"0123456789ab 567890xy", b"0123456789ab "),
        (b"01234\n6789abc4567890x", b"01234\n6789abc4567890"),
        ("01234567890123456é☃789".encode(), "01234567890123456é".encode()),
    ],
)
def test_where_a_part_ends(tmp_path, content, first):
    assert parts_of(tmp_path / "a.txt", content)[0].encode() == first


@pytest.mark.usefixtures("small_parts")
def test_bytes_that_are_no_utf_8_are_kept(tmp_path):
    content = b"\xff\x80\x80\x80\x80" * 9
    parts = parts_of(tmp_path / "a.txt", content)
    assert "".join(parts).encode("utf-8", "surrogateescape") == content


@pytest.mark.usefixtures("small_parts")
def test_the_end_of_a_large_file_is_held_out_at_a_line_end(tmp_path):
    text = "".join(f"line {n}\n" for n in range(100))
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(text.encode()))
    validation = "".join(read_split(path, "validation", 0.1))
    assert text.endswith(validation)
    assert validation.startswith("line ")
    assert len(validation) == pytest.approx(0.1 * len(text), abs=16)


def test_a_file_up_to_the_bound_is_one_document(tmp_path, monkeypatch):
    assert parts_of(tmp_path / "a.txt", b"word " * 4) == ["word " * 4]
    assert parts_of(tmp_path / "empty.txt", b"") == [""]
    monkeypatch.setattr(long_text, "PART_BYTES", 19)
    assert parts_of(tmp_path / "a.txt", b"word " * 4) == ["word " * 3, "word "]
