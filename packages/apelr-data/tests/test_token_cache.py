"""The token cache: equal to packing in memory, reused only when all is the same, whole whatever happens."""

import json
import multiprocessing
import os
import re
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_data import (
    DataConfig,
    DataError,
    RowOrder,
    Rows,
    TextReport,
    TokenCache,
    open_corpus,
    pack,
    pack_documents,
    token_cache,
    token_file,
)
from apelr_tokenizers import TokenizerConfig, fit_tokenizer

CHAR = TokenizerConfig(type="char", min_frequency=1)
WORDS = "the plan is to write a small text that has some lines\n" * 30
SPLITS = ("train", "validation")


class Listed:
    """A corpus of the documents in two lists; counts how often it is read."""

    name = "listed"

    def __init__(self, train, validation):
        self._documents = {"train": train, "validation": validation}
        self.readings = 0

    def documents(self, split):
        self.readings += 1
        yield from self._documents[split]

    def report(self, split=None):
        return TextReport(documents=len(self._documents[split]))

    def revisions(self):
        return {"owner/name": "commit"}


class Bench:
    """A cache on a file of text, with what it said."""

    def __init__(self, folder):
        self.file = folder / "text.txt"
        self.file.write_text(WORDS, encoding="utf-8")
        self.root = folder / "cache"
        self.said = []

    def config(self, **changes):
        return DataConfig(**{"source": "text", "path": str(self.file), "token_cache_dir": str(self.root), **changes})

    def prepare(self, *, fit=CHAR, seed=0, tokenizer=None, **changes):
        """The tokenizer and the tokens, found or made."""
        config = self.config(**changes)
        self.said = []
        cache = TokenCache(config, fit, seed=seed, say=self.said.append)
        corpus = open_corpus(config, seed=seed)
        tokenizer = tokenizer or cache.tokenizer(corpus)
        return tokenizer, cache.tokens(tokenizer, corpus)

    def names(self):
        return sorted(path.name for path in self.root.iterdir() if path.suffix != ".lock")


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)
DOCUMENTS = st.lists(TEXT, min_size=1, max_size=8)


@given(DOCUMENTS, DOCUMENTS, st.none() | st.integers(1, 60), st.integers(1, 5), st.integers(4, 64))
@settings(max_examples=40)
def test_a_cache_holds_what_packing_in_memory_gives(byte_tokenizer, tmp_path_factory, train, held, cap, size, shard):
    tokenizer = byte_tokenizer()
    tokenizer.fingerprint = "f"
    config = DataConfig(token_cache_dir=str(tmp_path_factory.mktemp("cache")), max_train_tokens=cap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_file, "SHARD_BYTES", shard)
        patch.setattr(pack, "BATCH_PIECES", size)
        written = TokenCache(config, CHAR, seed=0).tokens(tokenizer, Listed(train, held))
    manifest = json.loads((written.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["revisions"] == {"owner/name": "commit"}
    read = TokenCache(config, CHAR, seed=0).tokens(tokenizer, Listed([], []))
    assert (written.reused, read.reused) == (False, True)
    for cached in (written, read):
        for split, documents in zip(SPLITS, (train, held), strict=True):
            stream = cached.streams[split]
            memory = pack_documents(documents, tokenizer, max_tokens=config.max_tokens(split))
            assert stream.ids[:].tolist() == memory.ids.tolist()
            assert stream.ids.dtype == memory.ids.dtype
            assert stream.byte_counts[:].tolist() == memory.byte_counts.tolist()
            assert stream.byte_counts.dtype == memory.byte_counts.dtype
            for name in ("documents", "text_bytes", "unknown", "pad_id", "bos_id", "sha256"):
                assert getattr(stream, name) == getattr(memory, name)
            assert cached.reports[split] == TextReport(documents=len(documents))


def test_the_second_time_nothing_is_read_fitted_or_written(bench):
    tokenizer, first = bench.prepare()
    assert not first.reused
    assert len(bench.said) == 2
    again, second = bench.prepare()
    assert second.reused
    assert bench.said == []
    assert again.fingerprint == tokenizer.fingerprint
    assert second.reports == first.reports
    assert second.reports["train"].documents == 1
    corpus = Listed([], [])
    cache = TokenCache(bench.config(), CHAR, seed=0)
    cache.tokens(cache.tokenizer(corpus), corpus)
    assert corpus.readings == 0


def test_files_of_one_cache(bench):
    bench.prepare()
    (folder,) = (path for path in bench.root.iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        *(f"{split}-{array}-00000.bin" for split in ("train", "validation") for array in ("byte-counts", "ids")),
    ]
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["key"]["format_version"] == token_cache.FORMAT_VERSION
    assert manifest["key"]["text"]["source"] == "text"
    assert list(manifest["key"]["files"]) == [str(bench.file)]
    assert set(manifest["key"]["tokenizer"]) == {"fingerprint", "vocab_size"}
    train = manifest["splits"]["train"]
    assert train["documents"] == 1
    assert train["tokens"] == sum(shard["length"] for shard in train["ids"])
    assert {shard["type"] for shard in train["ids"]} == {"|u1"}
    assert train["text_bytes"] == train["report"]["utf8_bytes"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"min_chars": 2}, "text.min_chars: 1 -> 2"),
        ({"max_val_tokens": 9}, "text.max_val_tokens: not set -> 9"),
        ({"fit": TokenizerConfig(type="char", min_frequency=40)}, "tokenizer.vocab_size: "),
        ({"fit": TokenizerConfig(type="char", min_frequency=40)}, "tokenizer.fingerprint: "),
    ],
)
def test_other_settings_are_named_and_written_beside(bench, change, named):
    bench.prepare()
    _, changed = bench.prepare(**change)
    assert not changed.reused
    assert re.search(r"; the most similar one, text-\w{16}, stays and differs: ", bench.said[-1])
    assert named in bench.said[-1]
    assert len([name for name in bench.names() if "." not in name]) == 2
    assert bench.prepare()[1].reused
    assert bench.prepare(**change)[1].reused


def change_file(bench, monkeypatch):
    bench.file.write_text(WORDS + "more of it\n", encoding="utf-8")
    return rf"files\.{re.escape(str(bench.file))}: .*bytes, changed.* -> .*bytes, changed"


def touch_file(bench, monkeypatch):
    os.utime(bench.file, ns=(5, 5))
    return rf"files\.{re.escape(str(bench.file))}: .* -> .*changed at 5 ns"


def raise_format(bench, monkeypatch):
    monkeypatch.setattr(token_cache, "FORMAT_VERSION", 7)
    return "format_version: 1 -> 7"


@pytest.mark.parametrize("change", [change_file, touch_file, raise_format])
def test_other_text_under_the_same_settings_is_named_and_written_beside(bench, monkeypatch, change):
    _, old = bench.prepare()
    before = bench.names()
    named = change(bench, monkeypatch)
    _, changed = bench.prepare()
    assert not changed.reused
    assert bench.said[-1].startswith(
        f"writing the token cache {changed.folder}; the most similar one, {old.folder.name}, stays and differs: "
    )
    assert re.search(named, bench.said[-1])
    assert set(before) < set(bench.names())
    old.check()
    memory = pack_documents(open_corpus(bench.config(), seed=0).documents("train"), bench.prepare()[0])
    assert changed.streams["train"].ids[:].tolist() == memory.ids.tolist()
    assert bench.prepare()[1].reused


def test_a_relative_path_is_other_text_in_another_folder(tmp_path, monkeypatch):
    texts = {"first": WORDS, "second": WORDS.upper()}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text(text, encoding="utf-8")
        os.utime(tmp_path / name / "text.txt", ns=(7, 7))
    decoded = {}
    for name in texts:
        monkeypatch.chdir(tmp_path / name)
        config = DataConfig(source="text", path="text.txt", token_cache_dir=str(tmp_path / "cache"))
        cache, corpus = TokenCache(config, CHAR, seed=0), open_corpus(config, seed=0)
        assert cache.find_tokenizer() is None
        tokenizer = cache.tokenizer(corpus)
        cached = cache.tokens(tokenizer, corpus)
        assert not cached.reused
        decoded[name] = tokenizer.decode(cached.streams["train"].ids[:])
    assert decoded["first"].upper() == decoded["second"] != decoded["first"]
    config = DataConfig(source="text", path="../second/text.txt", token_cache_dir=str(tmp_path / "cache"))
    assert TokenCache(config, CHAR, seed=0).find_tokenizer().fingerprint == tokenizer.fingerprint


def test_a_run_keeps_its_ids_when_its_text_changes_or_its_entry_is_written_anew(bench, monkeypatch):
    monkeypatch.setattr(token_file, "SHARD_BYTES", 64)
    monkeypatch.setattr(token_file, "MOST_MAPPED", 1)
    tokenizer, running = bench.prepare()
    before = running.streams["train"].ids[:].tolist()
    bench.prepare(reuse_token_cache=False)
    assert running.streams["train"].ids[:].tolist() == before
    bench.file.write_text(WORDS.upper(), encoding="utf-8")
    bench.prepare(tokenizer=tokenizer, reuse_token_cache=False)
    assert running.streams["train"].ids[:].tolist() == before


def test_the_noted_commit_of_a_reused_cache_is_said(bench):
    said = []
    cache = TokenCache(bench.config(), CHAR, seed=0, say=said.append)
    corpus = Listed([WORDS], [WORDS])
    for _ in range(2):
        found = cache.tokens(cache.tokenizer(corpus), corpus)
    assert found.revisions == {"owner/name": "commit"}
    assert said[2:] == [f"the token cache {found.folder} holds owner/name at commit commit"]


def test_the_limit_on_the_fitted_text_is_the_smaller_cap(bench):
    bench.prepare(max_train_chars=700)
    assert bench.said[0] == "fitting the tokenizer on the training text, at most 700 characters of it"


def test_text_that_cannot_be_read_is_no_error_of_the_cache(bench):
    class Unreadable(Listed):
        def documents(self, split):
            yield WORDS
            raise OSError(5, "Input/output error")

    cache, good = TokenCache(bench.config(), CHAR, seed=0), Listed([WORDS], [WORDS])
    for use in (cache.tokenizer, lambda corpus: cache.tokens(cache.tokenizer(good), corpus)):
        with pytest.raises(DataError, match=r"^cannot read the text of listed: Input/output error$"):
            use(Unreadable([], []))


@pytest.mark.parametrize("below", [".", "below", "below/further"])
def test_a_cache_folder_that_is_or_lies_below_a_file_names_its_setting(bench, below):
    config = bench.config(token_cache_dir=str(bench.file / below))
    corpus = open_corpus(config, seed=0)
    with pytest.raises(DataError, match=r"^cannot write the token cache .*data\.token_cache_dir$"):
        TokenCache(config, CHAR, seed=0).tokenizer(corpus)


def test_stories_of_another_seed_are_other_text(bench):
    stories = {"source": "storyworld", "path": None, "max_train_examples": 3, "max_val_examples": 2}
    bench.prepare(**stories)
    assert bench.prepare(**stories)[1].reused
    assert not bench.prepare(**stories, seed=1)[1].reused
    assert "text.seed: 0 -> 1" in bench.said[-1]


def test_reuse_can_be_declined(bench):
    bench.prepare()
    _, again = bench.prepare(reuse_token_cache=False)
    assert not again.reused
    assert bench.said == [
        "fitting the tokenizer on the training text, at most 50,000,000 characters of it",
        f"writing the token cache {again.folder}, as data.reuse_token_cache is false",
    ]


def test_a_given_tokenizer_has_its_own_place_unless_it_is_the_fitted_one(bench):
    fitted, first = bench.prepare()
    assert bench.prepare(tokenizer=fitted)[1].reused
    other = fit_tokenizer(TokenizerConfig(type="char", min_frequency=1), ["abc"])
    _, second = bench.prepare(tokenizer=other)
    assert not second.reused
    assert second.folder != first.folder
    assert bench.prepare(tokenizer=other)[1].reused
    assert bench.prepare()[1].reused


def test_progress_counts_what_is_written(bench, monkeypatch):
    monkeypatch.setattr(pack, "BATCH_CHARS", 1)
    monkeypatch.setattr(pack, "PIECE_CHARS", 100)
    told = []
    config = bench.config()
    cache, corpus = TokenCache(config, CHAR, seed=0), open_corpus(config, seed=0)
    cached = cache.tokens(cache.tokenizer(corpus), corpus, lambda *counts: told.append(counts))
    for split in SPLITS:
        counts = [numbers for of, *numbers in told if of == split]
        assert counts == sorted(counts)
        stream = cached.streams[split]
        assert counts[-1] == [stream.documents, len(stream.ids), stream.text_bytes]
    assert len(told) > 5


def spoiled(bench, name):
    """Flip a bit in the file whose name matches, and give its path."""
    (path,) = bench.root.rglob(name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["manifest.json", "*.tokenizer.json", "train-ids*", "validation-byte-counts*"])
def test_a_flipped_byte_is_found_in_every_file_and_mended_by_writing_anew(bench, name):
    _, first = bench.prepare()
    first.check()
    path = spoiled(bench, name)
    with pytest.raises(DataError) as caught:
        bench.prepare()[1].check()
    assert str(caught.value).startswith(f"token cache: {path}: ")
    assert str(caught.value).endswith("; write the cache anew with data.reuse_token_cache false, or remove its folder")
    bench.prepare(reuse_token_cache=False)
    bench.prepare()[1].check()


def test_a_flipped_byte_is_found_before_a_row_is_made_of_it(bench):
    tokenizer, _ = bench.prepare()
    spoiled(bench, "train-ids*")
    rows = Rows(bench.prepare(tokenizer=tokenizer)[1].streams["train"], 8)
    with pytest.raises(DataError, match="its content is not what was written"):
        rows.batch([0])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, DataError("no text")])
def test_a_stopped_writer_leaves_nothing_behind(bench, error):
    tokenizer, _ = bench.prepare(max_val_tokens=9)
    before = bench.names()

    class Stopping(Listed):
        def documents(self, split):
            yield "text"
            raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        TokenCache(bench.config(), CHAR, seed=0).tokens(tokenizer, Stopping([], []))
    assert bench.names() == before


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(bench, monkeypatch):
    tokenizer, _ = bench.prepare(max_val_tokens=9)
    before = bench.names()

    def full(self, values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_file.ShardWriter, "write", full)
    with pytest.raises(DataError, match=r"^cannot write the token cache .*: No space left on device; another folder"):
        bench.prepare(tokenizer=tokenizer)
    assert bench.names() == before


WRITE = """
import sys, time
from pathlib import Path
from apelr_data import DataConfig, TokenCache, open_corpus
from apelr_tokenizers import TokenizerConfig

folder = Path(sys.argv[1])
reuse = len(sys.argv) < 3
files = {"path": str(folder / "text.txt"), "token_cache_dir": str(folder / "cache")}
config = DataConfig(source="text", **files, reuse_token_cache=reuse)

def slow(split, documents, tokens, size):
    (folder / "writing").touch()
    while not (folder / "go on").exists():
        time.sleep(0.01)

fit = TokenizerConfig(type="char", min_frequency=1)
cache = TokenCache(config, fit, seed=0, say=lambda line: print(line, flush=True))
corpus = open_corpus(config, seed=0)
cached = cache.tokens(cache.tokenizer(corpus), corpus, slow)
cached.check()
print("reused", cached.reused)
"""


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("options", [(), ("anew",)])
def test_of_two_processes_at_once_one_writes_and_the_other_waits_and_reads(bench, start_python, options):
    folder = bench.file.parent
    first = start_python(WRITE, str(folder), *options)
    wait_for(folder / "writing", first)
    second = start_python(WRITE, str(folder), *options)
    waits = second.stdout.readline()
    if options:
        assert waits == "fitting the tokenizer on the training text, at most 50,000,000 characters of it\n"
        waits = second.stdout.readline()
    assert waits == "another process is writing this token cache; waiting for it\n"
    (folder / "go on").touch()
    outputs = [process.communicate(timeout=900) for process in (first, second)]
    assert [errors for _, errors in outputs] == ["", ""]
    assert outputs[0][0].splitlines()[-1] == "reused False"
    assert outputs[1][0] == "reused True\n"


def test_a_killed_writer_leaves_no_cache_and_the_next_one_cleans_up(bench, start_python):
    folder = bench.file.parent
    process = start_python(WRITE, str(folder))
    wait_for(folder / "writing", process)
    process.kill()
    process.wait()
    assert any(name.endswith(".partial") for name in bench.names())
    cache = TokenCache(bench.config(), CHAR, seed=0)
    assert cache.find_tokens(cache.find_tokenizer()) is None
    _, cached = bench.prepare()
    cached.check()
    assert not cached.reused
    assert not any(name.endswith(".partial") for name in bench.names())


def test_memory_does_not_grow_with_the_corpus(byte_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "BATCH_CHARS", 1 << 14)
    monkeypatch.setattr(token_file, "SHARD_BYTES", 1 << 16)
    tokenizer = byte_tokenizer()
    tokenizer.fingerprint = "f"

    class Generated(Listed):
        def documents(self, split):
            for number in range(self._documents[split]):
                yield f"{number} " * 500

        def report(self, split):
            return TextReport()

    def peak(documents):
        config = DataConfig(token_cache_dir=str(tmp_path / str(documents)))
        tracemalloc.start()
        cached = TokenCache(config, CHAR, seed=0).tokens(tokenizer, Generated(documents, 2))
        rows = Rows(cached.streams["train"], 32)
        order = RowOrder(len(rows), 0)
        for step in range(20):
            rows.batch(order.indices(step * 4, 4))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return len(cached.streams["train"].ids), found

    peak(20)
    (few, small), (many, large) = peak(100), peak(800)
    assert many > 7.5 * few > 1_000_000
    assert large < 1.2 * small + 8 * (many // 32)  # the order of all rows takes a number each
    assert large < 2 * many  # ids and byte counts would take as much


def test_workers_and_a_resumed_run_see_the_rows_of_one_process(bench):
    _, cached = bench.prepare()
    rows = Rows(cached.streams["train"], 9, document_mask=True)
    order, size, steps = RowOrder(len(rows), 5), 4, 12
    alone = [rows.batch(order.indices(step * size, size)) for step in range(steps)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        asked = [[order.indices(step * size, size) for step in range(worker, steps, 2)] for worker in range(2)]
        shares = [list(pool.map(rows.batch, mine)) for mine in asked]
    _, again = bench.prepare()
    again_rows = Rows(again.streams["train"], 9, document_mask=True)
    for step in range(steps):
        resumed = again_rows.batch(RowOrder(len(again_rows), 5).indices(step * size, size))
        for other in (shares[step % 2][step // 2], resumed):
            for name in ("inputs", "targets", "lengths", "byte_counts", "positions"):
                assert np.array_equal(getattr(other, name), getattr(alone[step], name))


def test_ids_of_a_cache_that_is_replaced_meanwhile_are_never_mixed(bench, monkeypatch):
    monkeypatch.setattr(token_file, "SHARD_BYTES", 64)
    monkeypatch.setattr(token_file, "MOST_MAPPED", 2)
    tokenizer, cached = bench.prepare()
    ids = cached.streams["train"].ids
    first = ids[:192].tolist()
    status = bench.file.stat()
    bench.file.write_text(WORDS[::-1], encoding="utf-8")
    os.utime(bench.file, ns=(status.st_atime_ns, status.st_mtime_ns))  # a change that size and time do not tell
    _, other = bench.prepare(tokenizer=tokenizer, reuse_token_cache=False)
    assert other.folder == cached.folder
    assert ids[64:192].tolist() == first[64:]  # these files are open
    with pytest.raises(DataError, match=r"train-ids-00000\.bin: another file has taken its place; "):
        ids[:64]
    with pytest.raises(DataError, match=r"train-ids-00003\.bin: its content is not what was written; "):
        ids[192:256]


def test_what_is_no_cache_in_the_folder_does_no_harm(bench):
    (bench.root / "text-0000").mkdir(parents=True)
    (bench.root / "text-1111").mkdir()
    (bench.root / "text-1111" / "manifest.json").write_text("?", encoding="utf-8")
    (bench.root / "text-2222").write_text("", encoding="utf-8")
    _, cached = bench.prepare()
    assert bench.said[-1] == f"writing the token cache {cached.folder}"
    assert cached.folder.is_dir()
