"""What the harness asks, in ids: pairs of context and continuation, whole documents, prompts to continue."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import click

from apelr_cli.shown import shown
from apelr_model import Continuation, SamplingSettings
from apelr_tokenizers import Tokenizer

__all__ = ["GenerationRequest", "encode_documents", "encode_pairs", "encode_texts", "read_generation"]

LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names under which tasks give the most tokens to generate; the first one given counts."""
SAMPLING_NAMES = ("top_k", "top_p", "repetition_penalty", "no_repeat_ngram_size")


class GenerationRequest(NamedTuple):
    """A prompt to continue, and how."""

    prompt: str
    settings: SamplingSettings
    max_new_tokens: int
    stops: tuple[str, ...]
    """Texts before which the continuation ends."""


def encode_texts(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[str, list[int]]:
    """The ids of every distinct text. One warning on standard error counts texts with unknown characters."""
    distinct = list(dict.fromkeys(texts))
    encodings = tokenizer.encode_batch(distinct)
    unknown = sum(encoding.unknown > 0 for encoding in encodings)
    if unknown:
        click.echo(
            f"Warning: {unknown} of {len(distinct)} texts hold characters that the tokenizer does not know; "
            "they are read as <unk>",
            err=True,
        )
    return {text: encoding.ids for text, encoding in zip(distinct, encodings, strict=True)}


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[Continuation]:
    """(context, continuation) texts -> BOS and the context's ids, and the continuation's ids.

    The boundary is where the harness puts it for its own models: white space at the context's end belongs to the
    continuation, both are encoded together, and what lies beyond as many ids as the context has alone is the
    continuation. Where nothing lies beyond, because the last id of the context grew, the continuation begins with
    the first id that the context alone does not have. An empty context is BOS alone.
    """
    cuts = [_cut(context, continuation) for context, continuation in pairs]
    ids = encode_texts(tokenizer, (text for cut in cuts for text in cut))
    return [_split(tokenizer.bos_id, ids[context], ids[whole]) for context, whole in cuts]


def encode_documents(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Continuation]:
    """Each text whole, after BOS."""
    ids = encode_texts(tokenizer, texts)
    return [Continuation([tokenizer.bos_id], ids[text]) for text in texts]


def read_generation(prompt: str, arguments: Mapping[str, Any], *, max_new_tokens: int) -> GenerationRequest:
    """A request to generate from the harness's arguments; `max_new_tokens` where they name no length.

    As in the harness's own models: without `do_sample` a temperature above 0 samples, and with `do_sample: false`
    the temperature is 0. Raises ValueError for an argument that we do not have or that breaks a rule.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    until = given.pop("until", [])
    lengths = [given.pop(name) for name in LENGTH_NAMES if name in given]
    samples = given.pop("do_sample", None)
    temperature = float(given.pop("temperature", 1.0 if samples else 0.0))
    if given.get("num_beams") == 1:
        del given["num_beams"]
    unknown = given.keys() - set(SAMPLING_NAMES)
    if unknown:
        known = ("until", *LENGTH_NAMES, "do_sample", "temperature", *SAMPLING_NAMES)
        raise ValueError(f"generation takes {', '.join(known)}; got {shown(', '.join(sorted(unknown)))}")
    settings = SamplingSettings(temperature=0.0 if samples is False else temperature, **given)
    stops = [until] if isinstance(until, str) else until
    return GenerationRequest(
        prompt, settings, int(lengths[0]) if lengths else max_new_tokens, tuple(stop for stop in stops if stop)
    )


def _cut(context: str, continuation: str) -> tuple[str, str]:
    """The context without white space at its end, and the whole text."""
    return context.rstrip(), context + continuation


def _split(bos_id: int, context: list[int], whole: list[int]) -> Continuation:
    rest = whole[len(context) :]
    if not rest:
        same = 0
        while same < len(whole) and whole[same] == context[same]:
            same += 1
        context, rest = whole[:same], whole[same:]
    return Continuation([bos_id, *context], rest)
