"""Run as a program under torchrun: `apelr`, and signals that one of the processes sends itself after a training step.

`process_worker.py FILE STEP NAME [STEP NAME ...] -- ARGUMENTS ...`: each signal once, in this order, however often the
program is started; FILE remembers which have been sent. It is the second process, or that of `RANK:NAME`.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from apelr_cli.launch import find_launch

rank = find_launch().rank

from apelr_cli.main import main  # noqa: E402
from apelr_model import Trainer  # noqa: E402

end = sys.argv.index("--")
sent, plan = Path(sys.argv[1]), list(zip(sys.argv[2:end:2], sys.argv[3:end:2], strict=True))
train_step = Trainer.train_step


def signalling(self: Trainer, *batch: Any) -> Any:
    """The step, and the signal after it."""
    report = train_step(self, *batch)
    done = len(sent.read_text(encoding="utf-8")) if sent.exists() else 0
    if done < len(plan) and self.step == int(plan[done][0]):
        who, _, name = plan[done][1].rpartition(":")
        if rank == int(who or 1):
            sent.write_text("x" * (done + 1), encoding="utf-8")
            os.kill(os.getpid(), getattr(signal, name))
    return report


Trainer.train_step = signalling  # type: ignore[method-assign]
main(sys.argv[end + 1 :])
