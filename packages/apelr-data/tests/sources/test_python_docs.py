"""The running Python's documentation as a corpus."""

import ast
import sysconfig
from pathlib import Path

import pytest

from apelr_data import DataConfig, DataError, open_corpus
from apelr_data.sources.python_docs import python_documents

CONFIG = DataConfig(source="python_docs")


@pytest.fixture(scope="module")
def splits():
    corpus = open_corpus(CONFIG, seed=0)
    return {split: list(corpus.documents(split)) for split in ("train", "validation")}


def test_it_is_about_two_megabytes_of_text_and_a_twentieth_is_held_out(splits):
    sizes = {split: sum(len(text.encode()) for text in texts) for split, texts in splits.items()}
    assert 1_200_000 < sum(sizes.values()) < 4_000_000
    assert 0.02 < sizes["validation"] / sum(sizes.values()) < 0.1
    assert len(splits["validation"]) == pytest.approx(0.05 * len(splits["train"]), rel=0.3)


def test_no_text_comes_twice(splits):
    texts = splits["train"] + splits["validation"]
    assert len(set(texts)) == len(texts)


def test_topics_and_docstrings_are_there_and_tests_are_not(splits):
    texts = set(splits["train"] + splits["validation"])
    assert any('The "assert" statement' in text for text in texts)
    assert any(text.startswith("Return a list of the words") or "JSON" in text for text in texts)
    library = Path(sysconfig.get_paths()["stdlib"])
    assert ast.get_docstring(ast.parse((library / "json" / "__init__.py").read_bytes())) in texts


def make_library(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_what_is_read_and_in_which_order(tmp_path):
    library = make_library(
        tmp_path,
        {
            "pydoc_data/topics.py": "topics = {'b': 'Topic b.', 'a': 'Topic a.'}",
            "z.py": '"Module z."\nclass C:\n    "Class C."\n'
            '    async def f(self):\n        """Method f.\n\n        More."""',
            "a.py": 'def f():\n    "Function f."\n"no docstring"\nraise SystemExit("imported")',
            "deep.py": "try:\n    x = lambda: 'no'\nexcept E:\n    def f():\n        'In except.'\n"
            "else:\n    if x:\n        pass\n    else:\n        class D: 'In else.'\n"
            "finally:\n    with x:\n        def g(): 'In with.'\n"
            "match x:\n    case 1:\n        def h(): 'In case.'\n",
            "pkg/m.py": '"Module m."\ndef again():\n    "Class C."',
            "pkg/latin.py": '# coding: latin-1\n"Latin ä."'.encode("latin-1"),
            "broken.py": "def (",
            "null.py": b'"x\0"',
            "escape.py": '"An odd \\d escape."',
            **{
                f"{name}/t.py": f'"In {name}."'
                for name in ("test", "pkg/tests", "site-packages/other", "dist-packages", "idlelib", "config-3.11-x")
            },
        },
    )
    assert python_documents(library) == (
        "Topic a.",
        "Topic b.",
        "Function f.",
        "In except.",
        "In else.",
        "In with.",
        "In case.",
        "An odd \\d escape.",
        "Latin ä.",
        "Module m.",
        "Class C.",
        "Module z.",
        "Method f.\n\nMore.",
    )


def test_a_library_without_topics_still_gives_docstrings(tmp_path):
    assert python_documents(make_library(tmp_path, {"a.py": '"Module a."'})) == ("Module a.",)


def test_a_python_without_its_library_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(DataError) as caught:
        list(open_corpus(CONFIG, seed=0).documents("train"))
    assert str(caught.value) == (
        f"data.source python_docs finds no Python files in {str(tmp_path)!r}; use storyworld or text instead"
    )
