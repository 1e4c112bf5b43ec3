import math

from apelr_cli.sentence_beats import count_beats
from apelr_data import BEATS, generate_story, sentence_beat_log_probs, split_sentences


def test_sentences_are_counted_by_their_most_probable_beat() -> None:
    stories = [generate_story(0, "train", index) for index in range(3)]
    found = count_beats([f" {story.text}" for story in stories], complete=[True] * 3)
    wanted = [0] * len(BEATS)
    for story in stories:
        for sentence in split_sentences(story.text):
            log_probs = sentence_beat_log_probs(sentence)
            wanted[log_probs.index(max(log_probs))] += 1
    assert found.beats == tuple(wanted)
    assert found.impossible == 0
    assert sum(wanted) == sum(len(story.spans) for story in stories)


def test_what_no_story_says_counts_apart_and_what_is_cut_off_nowhere() -> None:
    sentence = "It was a warm morning."
    first = next(i for i, value in enumerate(sentence_beat_log_probs(sentence)) if value > -math.inf)
    texts = [f"{sentence} Colourless green ideas sleep furiously. {sentence} It was a", sentence, ""]
    found = count_beats(texts, complete=[False, True, False])
    assert found.impossible == 1
    assert found.beats == tuple(3 if beat == first else 0 for beat in range(len(BEATS)))
