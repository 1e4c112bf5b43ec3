"""Our tokenizers as fast tokenizers of the transformers library."""

import json

import tokenizers
from tokenizers import AddedToken, decoders, models, processors
from transformers import PreTrainedTokenizerFast

from apelr_tokenizers.bpe import BpeTokenizer
from apelr_tokenizers.char import CharTokenizer
from apelr_tokenizers.errors import TokenizerError
from apelr_tokenizers.guard import library_errors
from apelr_tokenizers.protocol import Tokenizer

__all__ = ["fast_tokenizer"]


def fast_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with the same ids for every text, which puts BOS first, as our models read it.

    As with ours, the name of a special token inside a text is ordinary text. It pads at the left, which generation
    needs, and decoding leaves special tokens out where it is asked to (`skip_special_tokens`). Raises TokenizerError
    for a tokenizer that is neither BPE nor of characters.
    """
    if isinstance(tokenizer, BpeTokenizer):
        with library_errors("read the BPE tokenizer"):
            library = tokenizers.Tokenizer.from_str(tokenizer.to_text())
    elif isinstance(tokenizer, CharTokenizer):
        library = _characters(json.loads(tokenizer.to_text()))
    else:
        raise TokenizerError(f"transformers has no form of a {type(tokenizer).__name__}: only of BPE and characters")
    roles = {"pad": tokenizer.pad_id, "bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "unk": tokenizer.unk_id}
    names = {role: library.id_to_token(token_id) for role, token_id in roles.items()}
    begin = names["bos"]
    library.post_processor = processors.TemplateProcessing(
        single=[begin, "$A"], pair=[begin, "$A", f"{begin}:1", "$B:1"], special_tokens=[(begin, tokenizer.bos_id)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=library,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        **{f"{role}_token": AddedToken(name, special=True, normalized=False) for role, name in names.items()},
    )


def _characters(document: dict[str, list[str]]) -> tokenizers.Tokenizer:
    """Byte-pair encoding without a merge gives each character its own id."""
    special, characters = document["special_tokens"], document["characters"]
    vocabulary = {token: index for index, token in enumerate([*special, *characters])}
    library = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token=special[3]))
    library.decoder = decoders.Fuse()
    library.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return library
