"""Progress on stderr: a live line on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from apelr_model import Evaluation, PlanSplit, StepReport

__all__ = ["Reporter"]


class Reporter:
    """Says on stderr what a run does. Quiet says nothing."""

    def __init__(self, *, max_steps: int, first_step: int, quiet: bool, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.lossless = True
        self.max_steps = max_steps
        self._first_step = first_step
        self._started = time.monotonic()
        self._last = (first_step, self._started)
        self._progress: Progress | None = None
        if self.console.is_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[line]}"))
            self._progress = Progress(*columns, console=self.console)
            self._task = self._progress.add_task("training", total=max_steps, completed=first_step, line="")

    def __enter__(self) -> "Reporter":
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._progress:
            self._progress.stop()

    def say(self, text: str) -> None:
        """One line of plain words."""
        if not self.quiet:
            self.console.print(Text(text))

    def say_at(self, step: int, text: str) -> None:
        """One line of plain words about a step."""
        self.say(f"step {step}/{self.max_steps}  {text}")

    def tokens_per_second(self, report: StepReport) -> float:
        """Targets of all rows a second since the last call, evaluation and saving included."""
        last_step, last_time = self._last
        now = time.monotonic()
        self._last = (report.step, now)
        return report.targets * (report.step - last_step) / max(now - last_time, 1e-9)

    def step(self, report: StepReport, bits_per_byte: float | None, tokens_per_second: float) -> None:
        """One line about the newest optimizer step."""
        if self.quiet:
            return
        line = (
            f"step {report.step}/{self.max_steps}  loss {report.loss:.3f}  {self._bits(bits_per_byte)}  "
            f"{tokens_per_second:,.0f} tokens/s  {plans_in_use(report.usage)}  {self._time_left(report.step)}"
        )
        if self._progress:
            self._progress.update(self._task, completed=report.step, line=line)
        else:
            self.console.print(Text(line))

    def split(self, step: int, split: PlanSplit) -> None:
        """One line about an idle plan state and what became of it."""
        now = "out of use" if split.copy_of is None else f"a copy of state {split.copy_of}"
        self.say_at(step, f"plan state {split.state} was worth {split.worth:.1e} nats/token, now {now}")

    def evaluation(self, step: int, found: Evaluation) -> None:
        """One line about an evaluation on held-out text."""
        self.say_at(
            step,
            f"validation: {found.nll:.3f} nats/token  {self._bits(found.bits_per_byte)}  "
            f"perplexity {found.perplexity:.1f}  plan MI {found.plan_mi:.4f} nats  {plans_in_use(found.usage)}",
        )

    def _bits(self, bits_per_byte: float | None) -> str:
        """Bits per byte in words; of a lossy tokenizer the number does not stand for the whole text."""
        if bits_per_byte is None:
            return "bits/byte unknown"
        return f"{bits_per_byte:.3f} bits/byte{'' if self.lossless else ' (lossy tokenizer)'}"

    def _time_left(self, step: int) -> str:
        done = step - self._first_step
        if done == 0:
            return ""
        seconds = (time.monotonic() - self._started) / done * (self.max_steps - step)
        minutes, seconds = divmod(round(seconds), 60)
        return f"{minutes}:{seconds:02d} left"


def plans_in_use(usage: Sequence[float]) -> str:
    """How many plan states the usage amounts to: the exponential of its entropy, of all K."""
    entropy = -sum(share * math.log(share) for share in usage if share > 0)
    return f"plans {math.exp(entropy):.1f}/{len(usage)}"
