"""How much do texts repeat themselves? Distinct n-grams of a set of samples, and repeated ones within each."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["LONGEST_NGRAM", "TextRepetition", "text_repetition"]

LONGEST_NGRAM = 4
"""n-grams of 1 ... this many tokens are counted."""


class TextRepetition(NamedTuple):
    """Of a set of texts, for n = 1 ... 4; None where no text is as long as n."""

    distinct: tuple[float | None, ...]
    """distinct-n: different n-grams of all texts together / n-grams of all texts, 0 ... 1. 1: none occurs twice."""
    repeated: tuple[float | None, ...]
    """seq-rep-n: 1 - different n-grams of a text / its n-grams, mean over texts, 0 ... 1. 0: no text repeats one."""


def text_repetition(texts: Sequence[Sequence[int]]) -> TextRepetition:
    """Token ids of each text -> distinct-n and seq-rep-n, n = 1 ... 4.

    distinct-n (Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models") falls as
    texts grow in number and length: compare sets of the same size. The paper divides by the number of tokens; here, as
    is usual, by that of n-grams, which lets it reach 1. seq-rep-n is that of Welleck et al. 2020 ("Neural Text
    Generation With Unlikelihood Training"); texts shorter than n have no n-gram and count nowhere.
    """
    distinct: list[float | None] = []
    repeated: list[float | None] = []
    for n in range(1, LONGEST_NGRAM + 1):
        grams = [[tuple(text[i : i + n]) for i in range(len(text) - n + 1)] for text in texts]
        grams = [of_text for of_text in grams if of_text]
        total = sum(len(of_text) for of_text in grams)
        different = len({gram for of_text in grams for gram in of_text})
        shares = [1 - len(set(of_text)) / len(of_text) for of_text in grams]
        distinct.append(different / total if total else None)
        repeated.append(sum(shares) / len(shares) if shares else None)
    return TextRepetition(tuple(distinct), tuple(repeated))
