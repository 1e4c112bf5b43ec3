"""The user's own text as a corpus."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apelr_data import DataConfig, DataError, open_corpus


def read(split, **values):
    return list(open_corpus(DataConfig(source="text", **values), seed=0).documents(split))


def book(lines):
    return "".join(f"Line {number} of the book.\n" for number in range(lines))


def write_rows(folder, texts):
    """The same documents in each format."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    quoted = "".join('"' + text.replace('"', '""') + '"\n' for text in texts)
    (folder / "rows.csv").write_text("text\n" + quoted, encoding="utf-8", newline="")
    pq.write_table(pa.table({"text": texts}), folder / "rows.parquet")


def test_one_book_is_cut_at_a_line_end(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text(book(200), encoding="utf-8")
    (train,) = read("train", path=str(file))
    (validation,) = read("validation", path=str(file))
    assert train + validation == book(200)
    assert train.endswith(".\n")
    assert len(validation) == pytest.approx(0.05 * len(book(200)), rel=0.1)


def test_every_plain_file_of_a_folder_gives_its_end(tmp_path):
    for name in ("b.txt", "a.md"):
        (tmp_path / name).write_text(name + "\n" + book(50), encoding="utf-8")
    train, validation = read("train", path=str(tmp_path)), read("validation", path=str(tmp_path))
    assert [text.split("\n")[0] for text in train] == ["a.md", "b.txt"]
    assert [first + last for first, last in zip(train, validation, strict=True)] == [
        "a.md\n" + book(50),
        "b.txt\n" + book(50),
    ]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_rows_are_held_out_by_their_text_in_any_order_and_format(tmp_path, name):
    texts = [f'Document {number},\nof "two" lines' for number in range(100)]
    held_out = {}
    for order, folder in ((texts, tmp_path / "one"), (texts[::-1], tmp_path / "two")):
        folder.mkdir()
        write_rows(folder, order)
        path = str(folder / name)
        train, validation = (read(split, path=path, val_fraction=0.3) for split in ("train", "validation"))
        assert train == [text for text in order if text in set(train)]
        assert sorted(train + validation) == sorted(texts)
        assert 15 <= len(validation) <= 45
        held_out[folder.name] = sorted(validation)
    assert held_out["one"] == held_out["two"]
    assert held_out["one"] == sorted(read("validation", path=str(tmp_path / "one" / "rows.csv"), val_fraction=0.3))


def test_val_path_leaves_both_sides_whole(tmp_path):
    texts = [f"Document {number}" for number in range(30)]
    write_rows(tmp_path, texts)
    (tmp_path / "val.txt").write_text(book(3), encoding="utf-8")
    values = {"path": str(tmp_path / "rows.jsonl"), "val_path": str(tmp_path / "val.txt")}
    assert read("train", **values) == texts
    assert read("validation", **values) == [book(3)]
    swapped = {"path": values["val_path"], "val_path": values["path"]}
    assert read("train", **swapped) == [book(3)]
    assert read("validation", **swapped) == texts


def test_a_wrong_path_fails_when_the_corpus_is_opened(tmp_path):
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    for values in ({"path": "/no/such"}, {"path": str(tmp_path), "val_path": "/no/such"}):
        with pytest.raises(DataError, match=r"^data\.(val_)?path: '/no/such' does not exist; "):
            open_corpus(DataConfig(source="text", **values), seed=0)


def test_the_text_field(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("".join(f'{{"body": "Document {i}"}}\n' for i in range(30)), encoding="utf-8")
    assert "Document 1" in read("train", path=str(file), text_field="body")
    with pytest.raises(DataError, match=r"has no field 'text'; set data.text_field to one of: body$"):
        read("train", path=str(file))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_of_a_few_rows_one_is_held_out_whatever_their_order(tmp_path, name):
    texts = [f"Document {number}" for number in range(4)]
    held_out = []
    for order, folder in ((texts, tmp_path / "one"), (texts[::-1], tmp_path / "two")):
        folder.mkdir()
        write_rows(folder, order)
        values = {"path": str(folder / name), "val_fraction": 0.001}
        train, validation = read("train", **values), read("validation", **values)
        assert [text for text in order if text not in validation] == train
        held_out += validation
    assert len(held_out) == 2
    assert len(set(held_out)) == 1


def test_no_row_is_held_out_beside_a_file_whose_end_is(tmp_path):
    (tmp_path / "a.txt").write_text(book(40), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n', encoding="utf-8")
    values = {"path": str(tmp_path), "val_fraction": 0.05}
    assert read("train", **values)[1:] == ["one", "two"]
    assert len(read("validation", **values)) == 1


def test_dropped_rows_are_never_the_one_held_out(tmp_path):
    rows = ["a row that is long enough", "another row that is long enough", *["short" + str(i) for i in range(20)]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    values = {"path": str(tmp_path), "val_fraction": 1e-9, "min_chars": 10}
    assert sorted(read("train", **values) + read("validation", **values)) == sorted(rows[:2])
