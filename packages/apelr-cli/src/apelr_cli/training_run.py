"""A run from its first step to its last: train, log, evaluate, preview, save; and how it is begun or taken up."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from apelr_cli.metric_sinks import RunMetrics
from apelr_cli.preview import preview_text
from apelr_cli.reporting import Reporter
from apelr_cli.row_feed import WaitingTime, worker_errors
from apelr_cli.run_checkpoints import RunCheckpoints
from apelr_cli.run_config import RunConfig, to_yaml
from apelr_cli.run_description import describe_part, describe_start
from apelr_cli.run_folder import RunFolder
from apelr_cli.signals import StopRequest, StopTraining
from apelr_cli.training_data import TrainingData
from apelr_cli.training_diagnostics import planner_diagnostics_of_run
from apelr_model import Evaluation, PlannerLM, StepReport, TokenBatch, Trainer, evaluate

__all__ = ["TrainingRun"]


class TrainingRun:
    """Joins trainer, data, run folder, reporter and signals; the loop is `run`."""

    def __init__(
        self,
        config: RunConfig,
        trainer: Trainer,
        data: TrainingData,
        folder: RunFolder,
        reporter: Reporter,
        stop: StopRequest,
    ) -> None:
        self.config = config
        self.trainer = trainer
        self.data = data
        self.folder = folder
        self.reporter = reporter
        self.stop = stop
        self.world = trainer.world
        self.metrics = RunMetrics(folder, config.train.sinks)
        self.waiting = WaitingTime()
        self.checkpoints = RunCheckpoints(config, trainer, data, folder)
        stop.on_save = self._save_now

    def begin(self) -> None:
        """Write the small files and the checkpoint of the step a new run starts at."""
        self.folder.write_text("config.yaml", to_yaml(self.config))
        self.folder.write_text("tokenizer.json", self.checkpoints.tokenizer_text)
        self.folder.write_json("run.json", describe_start(self.config, self.trainer, self.data))
        self.metrics.open()
        self.checkpoints.save()
        self.checkpoints.finish()

    def take_up(self, *, save: bool) -> None:
        """Go on in a folder one of whose checkpoints has just been loaded.

        With `save` it may not be the newest: newer ones are damaged, or another one was named. It is saved again, so
        that the newest name stands for it, and a run that is stopped soon goes on from there.
        """
        self.folder.forget_metrics_after(self.trainer.step)
        self.metrics.open()
        self.checkpoints.took_up(self.folder.metrics())
        if save:
            self.checkpoints.save()
            self.checkpoints.finish()
        about = self.folder.read_json("run.json")
        continued = [*about.get("continued", []), {"step": self.trainer.step, **describe_part(self.trainer)}]
        self.folder.write_json("run.json", {**about, "continued": continued})

    def run(self) -> Evaluation:
        """Train to the last step, write the final metrics and return the final evaluation.

        Raises StopTraining after a signal, with a checkpoint of the last finished step written.
        """
        with closing(self.checkpoints), closing(self.data), closing(self.metrics):
            try:
                with worker_errors(), self.checkpoints.named_in_errors():
                    self._make_up_for_what_was_missed()
                    self._train()
                    return self._finish()
            except StopTraining as stopped:
                if stopped.at_safe_point:
                    with self.checkpoints.named_in_errors():
                        self.checkpoints.save_if_new()
                        self.checkpoints.finish()
                raise

    def _train(self) -> None:
        """The steps that are left, and between them what their intervals say."""
        train = self.config.train
        with closing(self.data.train_batches(range(self.trainer.step, train.max_steps))) as batches:
            while self.trainer.step < train.max_steps:
                self.stop.check()
                self.checkpoints.check()
                report, text_bytes = self._step(batches)
                self._log(report, text_bytes)
                self._log_splits(report)
                if report.step % train.save_interval == 0 or report.step == train.max_steps:
                    self.checkpoints.save()
                if report.step % train.eval_interval == 0 and report.step < train.max_steps:
                    self._evaluate()
                if train.preview_interval and report.step % train.preview_interval == 0:
                    self._preview()

    def _step(self, batches: Iterator[tuple[TokenBatch, int]]) -> tuple[StepReport, int]:
        """One optimizer step, with the time it waits for its rows, and the UTF-8 bytes that they stand for."""
        self.waiting.step_begins()
        batch, text_bytes = next(batches)
        self.waiting.rows_are_there()
        report = self.trainer.train_step(batch.to(self.trainer.model.device))
        self.waiting.step_ends()
        return report, text_bytes

    def _by_the_first(self, work: Callable[[], None]) -> None:
        """What one process does for all, while the others wait; a signal ends it, and then all stop."""
        if self.world.is_first:
            with self.stop.alone():
                work()
        self.stop.check()

    def _save_now(self) -> None:
        """A signal has asked for a checkpoint."""
        self.checkpoints.save_if_new()
        self.checkpoints.finish()
        self.reporter.say_at(self.trainer.step, "saved, as asked")

    def _log(self, report: StepReport, text_bytes: int) -> None:
        if report.skipped:
            self.reporter.say_at(report.step, f"skipped: {report.skipped}")
            self.metrics.write({"kind": "skipped", "step": report.step, "reason": report.skipped})
            return
        if report.step % self.config.train.log_interval and report.step != self.config.train.max_steps:
            return
        nll = report.terms["nll"]
        text_bytes = int(self.world.total(torch.tensor(text_bytes)))
        bits = nll * report.targets / math.log(2) / text_bytes if text_bytes else None
        speed = self.reporter.tokens_per_second(report)
        self.reporter.step(report, bits, speed)
        self.metrics.write(
            {
                "kind": "train",
                "step": report.step,
                "loss": report.loss,
                "bits_per_byte": bits,
                **report.terms,
                "learning_rate": report.learning_rate,
                "grad_norm": report.grad_norm,
                "usage": report.usage,
                "tokens_per_second": speed,
                "waiting_for_rows": self.waiting.share_since_last(),
            }
        )

    def _log_splits(self, report: StepReport) -> None:
        """Plan states that were given up for copies of others."""
        for split in report.splits:
            self.reporter.split(report.step, split)
            self.metrics.write({"kind": "split", "step": report.step, **split._asdict()})

    def _make_up_for_what_was_missed(self) -> None:
        """A run stopped between a step and its evaluation or preview makes up for them when it is taken up."""
        step, train = self.trainer.step, self.config.train
        if step == 0:
            return
        logged = [line["kind"] for line in self.folder.metrics() if line["step"] == step]
        if step % train.eval_interval == 0 and step < train.max_steps and self._is_missing("validation", logged):
            self._evaluate()
        if train.preview_interval and step % train.preview_interval == 0 and self._is_missing("preview", logged):
            self._preview()

    def _is_missing(self, kind: str, logged: list[str]) -> bool:
        """As the process that writes knows it."""
        return bool(self.world.largest(self.world.is_first and kind not in logged))

    def _evaluate(self) -> None:
        found = self._evaluation(self.trainer.whole_model(), self.config.train.val_batches)
        self.checkpoints.evaluated(found.nll)
        self.reporter.evaluation(self.trainer.step, found)
        self.metrics.write({"kind": "validation", "step": self.trainer.step, **found._asdict()})

    def _evaluation(self, model: PlannerLM, limit: int | None) -> Evaluation:
        batches = self.stop.watch(self.data.own_validation_batches(limit))
        text_bytes = self.data.validation_bytes(limit)
        return evaluate(model, batches, text_bytes=text_bytes, world=self.world)

    def _preview(self) -> None:
        """Show and log a short text."""
        self._by_the_first(partial(self._show_preview, self.trainer.whole_model()))

    def _show_preview(self, model: PlannerLM) -> None:
        text = preview_text(self.config, model, self.data.tokenizer, self.stop)
        self.reporter.say(f"step {self.trainer.step}  preview: {text!r}")
        self.metrics.write({"kind": "preview", "step": self.trainer.step, "text": text})

    def _finish(self) -> Evaluation:
        """Evaluate on all validation rows and write metrics.json, whose presence marks the run as finished."""
        started = time.monotonic()
        model = self.trainer.whole_model()
        found = self._evaluation(model, None)
        self.reporter.evaluation(self.trainer.step, found)
        self.stop.check()
        self.checkpoints.finish()  # what is written after this says that the run is finished
        self._by_the_first(partial(self._write_final, model, found, started))
        return found

    def _write_final(self, model: PlannerLM, found: Evaluation, started: float) -> None:
        """What else is known at the end, into the run's files."""
        references = self.data.references()
        report = planner_diagnostics_of_run(self.config, model, self.data, self.reporter, self.stop)
        self.folder.write_json("planner_eval.json", {"step": self.trainer.step, **report})
        skipped = sum(line["kind"] == "skipped" for line in self.folder.metrics())
        self.metrics.write({"kind": "final", "step": self.trainer.step, **found._asdict()})
        content: Mapping[str, Any] = {
            "step": self.trainer.step,
            "validation": found._asdict(),
            "tokenizer_lossless": self.data.tokenizer.lossless,
            "references_bits_per_byte": references,
            "waiting_for_rows": self.waiting.share,
            "waiting_for_saves": self.checkpoints.share_of_time,
            "skipped_steps": skipped,
            "final_evaluation_seconds": round(time.monotonic() - started, 3),
        }
        self.folder.write_json("metrics.json", content)
        self.reporter.say(f"waited for rows {self.waiting.share:.2%} of the time of the training steps")
        self.reporter.say(f"waited for saves {self.checkpoints.share_of_time:.2%} of the time of the run")
        if skipped:
            self.reporter.say(f"skipped {skipped} of {self.trainer.step} steps: a loss term or gradient was not finite")
        for name, bits in references.items():
            self.reporter.say(f"for comparison, the same text: {name} {bits:.3f} bits/byte")


def run_folder_path(config: RunConfig, config_path: Path, out: Path | None) -> Path:
    """`--out`, else `train.out_dir`, else runs/<name of the config file>."""
    if out is not None:
        return out
    return Path(config.train.out_dir) if config.train.out_dir else Path("runs") / config_path.stem
