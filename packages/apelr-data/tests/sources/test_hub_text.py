"""Repairs of wikitext and wiki40b."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data.sources.hub_text import articles, is_article_heading, without_wiki40b_markers


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        (" = Title = \n", True),
        (" = E = mc2 = \n", True),
        (" = = Section = = \n", False),
        (" = = = Part = = = ", False),
        (" = 1 / 2", False),
        (" = \n", False),
        (" = = \n", False),
        ("text = text =", False),
        ("", False),
    ],
)
def test_headings_of_level_one(line, heading):
    assert is_article_heading(line) == heading


def test_a_formula_inside_a_paragraph_does_not_begin_an_article():
    lines = [" = Title = \n", "", " so that \n", " = x = \n", " holds \n"]
    assert list(articles(lines)) == [" = Title = \n\n so that \n = x = \n holds \n"]


def test_lines_before_the_first_heading_are_kept_and_blank_ones_alone_are_nothing():
    assert list(articles(["", " stray \n", "", " = Title = \n", ""])) == [" stray \n", " = Title = \n"]
    assert list(articles(["", "\n", ""])) == []


@given(st.lists(st.sampled_from(["", " = Title = ", " = = Part = = ", " body . "])))
def test_no_line_is_lost(lines):
    joined = "".join(articles(line and line + "\n" for line in lines))
    assert [line for line in joined.split("\n") if line] == [line for line in lines if line]


MARKED = "\n_START_ARTICLE_\nTïtle\n_START_SECTION_\nPart\n_START_PARAGRAPH_\nOne._NEWLINE_Two."


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (MARKED, "Tïtle\n\nPart\n\nOne.\nTwo."),
        (str(MARKED.encode()), "Tïtle\n\nPart\n\nOne.\nTwo."),
        (repr(b"it's \xff"), "it's \udcff"),
        ("b'unfinished", "b'unfinished"),
        ("b'one' + b'two'", "b'one' + b'two'"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_wiki40b(text, clean):
    assert without_wiki40b_markers(text) == clean
