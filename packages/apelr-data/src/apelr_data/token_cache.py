"""The token cache: a corpus as ids in files, written once and read by every run with the same text and tokenizer."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from apelr_data.cache_folder import cache_root, new_entry, only_writer, state_of
from apelr_data.cached_tokens import CachedTokens, Progress, differs, read_tokens, readable, write_tokens
from apelr_data.checked_json import checksum, in_words, read_json, write_json
from apelr_data.config import DataConfig
from apelr_data.corpus import Corpus
from apelr_data.text_identity import text_name, text_settings, text_state
from apelr_data.token_file import damaged
from apelr_tokenizers import Tokenizer, TokenizerConfig, TokenizerError, fit_tokenizer, tokenizer_from_text

FORMAT_VERSION = 1
"""Raised when files of before would be read wrongly, or when the same settings come to give other text or ids."""


class TokenCache:
    """Keeps the tokenizer and the tokens of a corpus in a folder that many corpora and processes share.

    An entry is reused only when everything that decides it is what it was: the settings of the text, the user's own
    files by size and time of change, the tokenizer by its fingerprint, the format. All of it names the entry, so text
    that has changed gets an entry of its own and no run loses the files it reads: only `reuse_token_cache` false
    replaces an entry. None is removed for lack of use; `say` is told what differs from the most similar one.
    """

    def __init__(
        self, config: DataConfig, tokenizer: TokenizerConfig, *, seed: int, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """`seed` is the corpus's; `say` is given lines for the user. Raises DataError when files are not there."""
        self._config, self._tokenizer_config, self._say = config, tokenizer, say
        self._settings = text_settings(config, seed)
        self._key = {"format_version": FORMAT_VERSION, "text": self._settings, **text_state(config)}
        fitting = {**asdict(tokenizer), "special_tokens": list(tokenizer.special_tokens)}
        self._tokenizer_key = {**self._key, "tokenizer": fitting}
        self.root = cache_root(config)

    def find_tokenizer(self) -> Tokenizer | None:
        """The tokenizer fitted earlier on this text with this config, if it is there. Raises DataError if damaged."""
        path = self._tokenizer_path
        content = read_json(path)
        if content is None or content.get("key") != self._tokenizer_key:
            return None
        try:
            tokenizer = tokenizer_from_text(str(content.get("tokenizer")))
        except TokenizerError as error:
            raise damaged(path, str(error)) from error
        if tokenizer.fingerprint != content.get("fingerprint"):
            raise damaged(path, "its tokenizer has another fingerprint")
        return tokenizer

    def tokenizer(self, corpus: Corpus) -> Tokenizer:
        """The tokenizer fitted on the training text of `corpus`, kept for the next time.

        Raises DataError and TokenizerError.
        """
        path = self._tokenizer_path
        before = state_of(path)
        if self._config.reuse_token_cache and (found := self.find_tokenizer()):
            return found
        with only_writer(self.root, path.name, lambda: self._wait_for("tokenizer")):
            if state_of(path) != before and (found := self.find_tokenizer()):
                return found  # another process has just written it
            most = min(self._tokenizer_config.fit_max_chars, self._config.max_train_chars or sys.maxsize)
            if self._tokenizer_config.type != "identity":
                self._say(f"fitting the tokenizer on the training text, at most {most:,} characters of it")
            tokenizer = fit_tokenizer(self._tokenizer_config, readable(corpus, "train"))
            about = {"fingerprint": tokenizer.fingerprint, "tokenizer": tokenizer.to_text()}
            with new_entry(self.root, path.name) as partial:
                write_json(partial, {"key": self._tokenizer_key, **about})
        return tokenizer

    def find_tokens(self, tokenizer: Tokenizer) -> CachedTokens | None:
        """The tokens written earlier, if they are there and all is the same. Raises DataError if damaged.

        Sizes of files are compared here; contents when they are first used, or by `CachedTokens.check`.
        """
        key = self._tokens_key(tokenizer)
        return read_tokens(self._folder(key), key, tokenizer, reused=True)

    def tokens(self, tokenizer: Tokenizer, corpus: Corpus, progress: Progress | None = None) -> CachedTokens:
        """The tokens of both splits: those that are there, or new ones, written document by document.

        Raises DataError: damaged files, text that cannot be read, a disk that is full.
        """
        key = self._tokens_key(tokenizer)
        folder = self._folder(key)
        before = state_of(folder)
        if self._config.reuse_token_cache and (found := self.find_tokens(tokenizer)):
            return self._named(found)
        with only_writer(self.root, folder.name, lambda: self._wait_for("token cache")):
            if state_of(folder) != before and (found := self.find_tokens(tokenizer)):
                return self._named(found)  # another process has just written them
            self._say(f"writing the token cache {folder}{self._why_new(key)}")
            with new_entry(self.root, folder.name) as partial:
                write_tokens(partial, key, tokenizer, corpus, self._config, progress)
        written = read_tokens(folder, key, tokenizer, reused=False)
        if written is None:
            raise damaged(folder, "another process has written other tokens meanwhile")
        return written

    @property
    def _tokenizer_path(self) -> Path:
        return self.root / f"{self._name(self._tokenizer_key)}.tokenizer.json"

    def _tokens_key(self, tokenizer: Tokenizer) -> dict[str, Any]:
        about = {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size}
        return {**self._key, "tokenizer": about}

    def _folder(self, key: dict[str, Any]) -> Path:
        return self.root / self._name(key)

    def _name(self, key: dict[str, Any]) -> str:
        """The name of the entry for this key and no other."""
        return f"{text_name(self._config)}-{checksum(key)[:16]}"

    def _named(self, found: CachedTokens) -> CachedTokens:
        """The tokens, after a line on each of the hub's datasets: the hub is not asked whether it has changed."""
        for path, commit in found.revisions.items():
            self._say(f"the token cache {found.folder} holds {path} at commit {commit}")
        return found

    def _wait_for(self, what: str) -> None:
        self._say(f"another process is writing this {what}; waiting for it")

    def _why_new(self, key: dict[str, Any]) -> str:
        """What differs from the most similar tokens of the source."""
        if not self._config.reuse_token_cache:
            return ", as data.reuse_token_cache is false"
        others = [path for path in self.root.glob(f"{text_name(self._config)}-*") if path.is_dir()]
        changed = ((differs(path, key), path.name) for path in others)
        nearest, name = min((each for each in changed if each[0]), key=lambda each: len(each[0]), default=([], ""))
        return f"; the most similar one, {name}, stays and differs: {in_words(nearest)}" if nearest else ""
