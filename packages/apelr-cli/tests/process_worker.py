"""Run as a program under torchrun: `apelr`, and signals that one of the processes sends after a training step.

`process_worker.py FILE STEP NAME [STEP NAME ...] -- ARGUMENTS ...`: each signal once, in this order, however often the
program is started; FILE remembers which have been sent. It is the second process, or that of `RANK:NAME`. SIGKILL goes
to the process itself; any other to its launcher, which hands it on: the process waits until it has it.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from apelr_cli.launch import find_launch

rank = find_launch().rank

from apelr_cli.main import main  # noqa: E402
from apelr_cli.signals import StopRequest  # noqa: E402
from apelr_model import Trainer  # noqa: E402

end = sys.argv.index("--")
sent, plan = Path(sys.argv[1]), list(zip(sys.argv[2:end:2], sys.argv[3:end:2], strict=True))
heard: list[int] = []
train_step, on_signal = Trainer.train_step, StopRequest._on_signal


def hearing(self: StopRequest, number: int, *rest: Any) -> None:
    """The handler, and a note that it has been called."""
    heard.append(number)
    on_signal(self, number, *rest)


def signalling(self: Trainer, *batch: Any) -> Any:
    """The step, and the signal after it."""
    report = train_step(self, *batch)
    done = len(sent.read_text(encoding="utf-8")) if sent.exists() else 0
    if done < len(plan) and self.step == int(plan[done][0]):
        who, _, name = plan[done][1].rpartition(":")
        if rank == int(who or 1):
            number = signal.Signals[name]
            sent.write_text("x" * (done + 1), encoding="utf-8")
            os.kill(os.getpid() if number == signal.SIGKILL else os.getppid(), number)
            while number not in heard:
                time.sleep(0.01)
    return report


StopRequest._on_signal = hearing  # type: ignore[method-assign]
Trainer.train_step = signalling  # type: ignore[method-assign]
main(sys.argv[end + 1 :])
