"""The one place that catches everything: the Rust library's panics."""

from collections.abc import Iterator
from contextlib import contextmanager

from apelr_tokenizers.errors import TokenizerError


@contextmanager
def library_errors(task: str) -> Iterator[None]:
    """Turn whatever the `tokenizers` library raises while doing `task` into one TokenizerError line.

    Its errors are bare `Exception`s, and its panics derive from BaseException, so no narrower clause
    catches them. A request to stop and a lack of memory pass unchanged.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, TokenizerError):
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise TokenizerError(f"cannot {task}: {reason}") from error
