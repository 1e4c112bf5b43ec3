"""The share of complete sentences in storyworld samples that the grammar can make: `story_sentences.py SAMPLES.jsonl`.

The file holds the output of `apelr sample --format json`. A sample that was not ended by EOS ends in the middle
of a sentence, which is left out.
"""

import json
import sys
from pathlib import Path

from apelr_data import sentence_is_possible
from apelr_data.storyworld import split_sentences


def main(path: Path) -> None:
    sentences = []
    for line in path.read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        found = split_sentences(sample["prompt"] + sample["text"])
        ended = sample["tokens"][-1]["text"] == ""
        sentences += found if ended else found[:-1]
    possible = sum(map(sentence_is_possible, sentences))
    print(f"{possible} of {len(sentences)} complete sentences are possible: {possible / len(sentences):.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
