"""Requests of the harness in ids: where a continuation begins, which settings a task asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_cli.harness.requests import encode_documents, encode_pairs, encode_texts, read_generation
from apelr_model import SamplingSettings

TEXTS = st.text(st.sampled_from("the cat on,.\n \u00e9"), max_size=12)


def split(tokenizer, context, continuation):
    """(ids without BOS, ids of the continuation) of one pair."""
    (found,) = encode_pairs(tokenizer, [(context, continuation)])
    assert found.context[0] == tokenizer.bos_id
    return list(found.context[1:]), list(found.ids)


class TestPairs:
    @given(context=TEXTS, continuation=TEXTS)
    def test_all_bytes_of_the_pair_are_read_where_the_boundary_is_a_boundary_of_ids(self, char, context, continuation):
        before, after = split(char, context, continuation)
        assert char.decode([*before, *after]) == char.decode(char.encode(context + continuation).ids)

    @given(context=TEXTS, continuation=TEXTS)
    def test_the_continuation_is_what_lies_beyond_the_ids_of_the_context(self, bpe, context, continuation):
        before, after = split(bpe, context, continuation)
        alone, whole = bpe.encode(context.rstrip()).ids, bpe.encode(context + continuation).ids
        if len(whole) > len(alone):
            assert (before, after) == (alone, whole[len(alone) :])
        else:
            assert before + after == whole

    def test_white_space_before_the_boundary_belongs_to_the_continuation(self, bpe):
        assert split(bpe, "the cat ", "sat") == split(bpe, "the cat", " sat")

    def test_an_empty_context_is_bos_alone(self, bpe):
        assert split(bpe, "", "the cat") == ([], bpe.encode("the cat").ids)
        assert split(bpe, " ", "cat") == ([], bpe.encode(" cat").ids)

    def test_where_the_last_id_of_the_context_grows_the_continuation_begins_with_it(self, bpe):
        alone, whole = bpe.encode("the ca").ids, bpe.encode("the cat").ids
        assert len(whole) <= len(alone), "the fixture's tokenizer has learnt ` cat`"
        before, after = split(bpe, "the ca", "t")
        assert after
        assert before + after == whole
        assert before == alone[: len(before)]

    def test_an_empty_continuation_has_no_ids(self, bpe):
        assert split(bpe, "the cat", "") == (bpe.encode("the cat").ids, [])
        assert split(bpe, "", "") == ([], [])

    def test_a_document_follows_bos_whole(self, bpe):
        assert encode_documents(bpe, ["the cat ", ""]) == [
            ([bpe.bos_id], bpe.encode("the cat ").ids),
            ([bpe.bos_id], []),
        ]


class TestUnknownCharacters:
    def test_are_counted_in_one_warning(self, char, capsys):
        encode_texts(char, ["the cat", "d\u0152g", "d\u0152g", "\u0152"])
        assert capsys.readouterr().err == (
            "Warning: 2 of 3 texts hold characters that the tokenizer does not know; they are read as <unk>\n"
        )

    def test_known_ones_are_not_spoken_of(self, char, capsys):
        encode_texts(char, ["the cat"])
        assert capsys.readouterr().err == ""


class TestGeneration:
    @pytest.mark.parametrize(
        ("arguments", "temperature"),
        [
            ({}, 0.0),
            ({"temperature": 0.7}, 0.7),
            ({"do_sample": False}, 0.0),
            ({"do_sample": False, "temperature": 0.7}, 0.0),
            ({"do_sample": True}, 1.0),
            ({"do_sample": True, "temperature": 0.5}, 0.5),
            ({"do_sample": True, "temperature": 0}, 0.0),
            ({"do_sample": None, "temperature": None}, 0.0),
        ],
    )
    def test_temperature(self, arguments, temperature):
        assert read_generation("x", arguments, max_new_tokens=9).settings == SamplingSettings(temperature=temperature)

    @pytest.mark.parametrize("name", ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"])
    def test_length(self, name):
        assert read_generation("x", {name: 3}, max_new_tokens=9).max_new_tokens == 3
        assert read_generation("x", {name: 4, "max_gen_toks": 3}, max_new_tokens=9).max_new_tokens == 3
        assert read_generation("x", {}, max_new_tokens=9).max_new_tokens == 9

    @pytest.mark.parametrize(
        ("until", "stops"), [("\n", ("\n",)), (["a", "", "b"], ("a", "b")), ([], ()), (None, ()), ("", ())]
    )
    def test_stops(self, until, stops):
        assert read_generation("x", {"until": until}, max_new_tokens=9).stops == stops

    def test_other_settings(self):
        given = {"top_k": 5, "top_p": 0.9, "repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "num_beams": 1}
        found = read_generation("x", {"temperature": 1, **given}, max_new_tokens=9)
        del given["num_beams"]
        assert found.settings == SamplingSettings(temperature=1.0, **given)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_beams": 4}, "max_completion_tokens, do_sample, temperature, .*; got num_beams"),
            ({"typical_p": 0.9, "min_p": 1}, "got min_p, typical_p"),
            ({"do_sample": True, "temperature": -1}, "temperature must be >= 0"),
            ({"do_sample": True, "top_p": 0}, "top_p must be > 0"),
        ],
    )
    def test_what_we_do_not_have_is_an_error(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            read_generation("x", arguments, max_new_tokens=9)
