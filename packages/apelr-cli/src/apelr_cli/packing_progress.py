"""How far the writing of a token cache is: a live bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from apelr_data import DataConfig, Split

__all__ = ["PackingProgress", "packing_progress"]

SECONDS_BETWEEN_LINES = 30.0
COLUMNS = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[line]}"))


class PackingProgress:
    """Called with a split and its documents, ids and bytes so far. A bar fills where a cap says where the end is."""

    def __init__(self, config: DataConfig, console: Console, stack: ExitStack) -> None:
        self._config, self._console, self._stack = config, console, stack
        self._bar: Progress | None = None
        self._tasks: dict[Split, TaskID] = {}
        self._last_line = time.monotonic()

    def __call__(self, split: Split, documents: int, tokens: int, text_bytes: int) -> None:
        """Show the newest counts."""
        line = f"{documents:,} documents, {tokens:,} tokens, {text_bytes / 1e6:,.1f} MB of text"
        if self._console.is_terminal:
            self._update(split, line, *self._share(split, documents, tokens))
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._console.print(Text(f"{split}: {line}"))

    def _share(self, split: Split, documents: int, tokens: int) -> tuple[int, int | None]:
        """What is done of what is to be done by the caps on documents and ids, None where there is no such cap."""
        caps = (self._config.max_tokens(split), self._config.max_examples(split))
        shares = [(done, cap) for done, cap in zip((tokens, documents), caps, strict=True) if cap]
        return max(shares, key=lambda share: share[0] / share[1]) if shares else (0, None)

    def _update(self, split: Split, line: str, done: int, total: int | None) -> None:
        if self._bar is None:
            columns = (*COLUMNS, TimeElapsedColumn())
            self._bar = self._stack.enter_context(Progress(*columns, console=self._console, transient=True))
        if split not in self._tasks:
            self._tasks[split] = self._bar.add_task(split, total=total, line=line)
        self._bar.update(self._tasks[split], completed=done, total=total, line=line)


@contextmanager
def packing_progress(config: DataConfig, console: Console, *, quiet: bool) -> Iterator[PackingProgress | None]:
    """What shows progress in the block, on `console`; None where nothing is to be shown."""
    with ExitStack() as stack:
        yield None if quiet else PackingProgress(config, console, stack)
