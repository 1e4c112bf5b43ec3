"""Seeded text of any size for measurements: `generated_corpus.py FILE MEGABYTES`, FILE ending in .jsonl or .txt.

Documents of some 300 words; 50,000 words made of syllables, drawn by Zipf's law. A .txt file holds the same documents
with a blank line between two. The same size gives the same file.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SYLLABLES = [first + vowel + last for first in "bdfgklmnprstvz" for vowel in "aeiou" for last in ("", "n", "r", "s")]
NUM_WORDS = 50_000
WORDS_IN_SENTENCE = 12
SENTENCES_IN_DOCUMENT = 25


def made_up_words(rng: np.random.Generator) -> list[str]:
    """Words of one to four syllables, the short ones first."""
    words: dict[str, None] = {}
    while len(words) < NUM_WORDS:
        count = 1 + min(3, len(words) // 200)
        words["".join(rng.choice(SYLLABLES, count))] = None
    return list(words)


def documents(rng: np.random.Generator) -> Iterator[str]:
    """Documents without end."""
    words = np.array(made_up_words(rng), dtype=object)
    chance = 1 / np.arange(1, NUM_WORDS + 1)
    limits = np.cumsum(chance / chance.sum())
    while True:
        numbers = np.searchsorted(limits[:-1], rng.random((SENTENCES_IN_DOCUMENT, WORDS_IN_SENTENCE)))
        yield "\n".join(" ".join(sentence).capitalize() + "." for sentence in words[numbers])


def main(path: Path, size: int) -> None:
    written = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for document in documents(np.random.default_rng(0)):
            file.write(json.dumps({"text": document}) + "\n" if path.suffix == ".jsonl" else document + "\n\n")
            written += len(document)
            if written >= size:
                return


if __name__ == "__main__":
    main(Path(sys.argv[1]), round(float(sys.argv[2]) * 1e6))
