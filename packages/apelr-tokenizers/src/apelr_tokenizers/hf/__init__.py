"""Tokenizers in the transformers library. Needs the extra `apelr-tokenizers[transformers]`."""

from importlib.util import find_spec

if find_spec("transformers") is None:
    raise ImportError(
        "apelr_tokenizers.hf needs transformers; install it with: pip install 'apelr-tokenizers[transformers]'"
    )

from apelr_tokenizers.hf.fast import fast_tokenizer

__all__ = ["fast_tokenizer"]
