"""The hub's libraries without a word on standard error: what matters is said by our own messages."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

LIBRARIES = ("datasets", "huggingface_hub")

Piece = TypeVar("Piece")


@contextmanager
def quiet() -> Iterator[None]:
    """Turn the libraries' progress bars and logged warnings off, and at the end back to what they were.

    What someone has asked for stays: bars that an environment variable wants, and a log level below warning.
    """
    import datasets
    import huggingface_hub.utils
    from huggingface_hub import constants

    utils: Any = huggingface_hub.utils  # which does not say that it exports what its documentation names
    with ExitStack() as restored:
        for name in LIBRARIES:
            logger = logging.getLogger(name)
            if logger.getEffectiveLevel() >= logging.WARNING:
                restored.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.CRITICAL + 1)
        if datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is None and not datasets.are_progress_bars_disabled():
            restored.callback(datasets.enable_progress_bars)
            datasets.disable_progress_bars()
        group = "huggingface_hub"
        if constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not utils.are_progress_bars_disabled(group):
            restored.callback(utils.enable_progress_bars, group)
            utils.disable_progress_bars(group)
        yield


def quietly(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The pieces, each of them made quietly; while one is used, everything is as it was."""
    while True:
        with quiet():
            try:
                piece = next(pieces)
            except StopIteration:
                return
        yield piece
