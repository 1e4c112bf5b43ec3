"""The checkpoints of a run: when one is written, what goes into it, and which of them stay."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from apelr_cli.checkpoint_writer import CheckpointWriter
from apelr_cli.run_config import RunConfig, to_plain
from apelr_cli.run_folder import RunError, RunFolder
from apelr_cli.training_data import TrainingData
from apelr_model import Checkpoint, NonFiniteError, Trainer, World, remove_old_checkpoints, save_checkpoint

__all__ = ["RunCheckpoints"]


class RunCheckpoints:
    """Saves a trainer into its run folder. Every checkpoint of a run goes through `save`.

    With `train.async_save` a save is over for its caller when the state has been copied; `check` and `finish` raise
    what came of the writing.
    """

    def __init__(self, config: RunConfig, trainer: Trainer, data: TrainingData, folder: RunFolder) -> None:
        self._config = config
        self._trainer = trainer
        self._folder = folder
        self._tokenizer_fingerprint = data.tokenizer.fingerprint
        self.tokenizer_text = data.tokenizer.to_text()
        self.data_identity = data.identity()  # a digest of all tokens: once a run, not once a save
        self.newest_step: int | None = None
        """Step of the newest checkpoint of the run, which is complete."""
        self._saved_step: int | None = None
        self._in_background = config.train.async_save
        self._writer = CheckpointWriter(in_background=self._in_background)
        self._shards: World | None = None
        if config.train.saves_shards:
            self._shards = trainer.world.apart() if self._in_background else trainer.world
        self._validation_nll: dict[int, float] = {}

    def took_up(self, metrics: Iterable[Mapping[str, Any]]) -> None:
        """The trainer has just been restored from a checkpoint of this run, whose metrics these are.

        What an interrupted save had not yet removed is removed, by the process that writes. Raises OSError.
        """
        self.newest_step = self._saved_step = self._trainer.step
        for line in metrics:
            if line["kind"] == "validation" and isinstance(line.get("nll"), float):
                self._validation_nll[line["step"]] = line["nll"]
        if self._folder.writes:
            keep = self._config.train.keep_checkpoints
            remove_old_checkpoints(self._folder.path, self._trainer.step, keep, self._validation_nll)

    def evaluated(self, nll: float) -> None:
        """The trainer as it stands has this validation NLL, nats a token: the best checkpoint is kept."""
        if math.isfinite(nll):
            self._validation_nll[self._trainer.step] = nll

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Within the block, what stops a run for NaN or infinity names the last good checkpoint too."""
        try:
            yield
        except NonFiniteError as error:
            self._writer.close()  # which may be about to complete a newer one
            newest = f"the newest checkpoint is of step {self.newest_step}: {self._folder.checkpoint}"
            raise NonFiniteError(f"{error}; {newest}") from error

    @property
    def share_of_time(self) -> float:
        """Of the run's time so far, the share that went by while it waited for saves."""
        return self._writer.share_of_time

    def save(self) -> None:
        """Write a checkpoint of the trainer as it stands, then remove those that `train.keep_checkpoints` leaves out.

        Of several processes the first one does, with `train.sharded_checkpoints` all do; all go on when it is written.
        With `train.async_save` they go on when there is a copy of the state in memory; where an earlier checkpoint is
        still being written, that is waited for first.
        Raises RunError where the run folder is gone; OSError, CheckpointError and NonFiniteError where it is not
        written. Older ones are intact then.
        """
        with self._writer.waiting():
            self._writer.finish()
            checkpoint = self._checkpoint()
            if self._folder.writes or self._shards:
                checkpoint = checkpoint.copied() if self._in_background else checkpoint
                self._writer.begin(partial(self._write, checkpoint, dict(self._validation_nll)))
            if not self._in_background:
                self._trainer.world.wait()
            self._saved_step = checkpoint.step

    def save_if_new(self) -> None:
        """Write a checkpoint unless the newest one is of this step already."""
        if self._saved_step != self._trainer.step:
            self.save()

    def check(self) -> None:
        """Raise what `save` says where writing in the background has failed; do not wait for it."""
        self._writer.check()

    def finish(self) -> None:
        """Go on when the checkpoint saved last is complete, in all processes. Raises what `save` says."""
        with self._writer.waiting():
            self._writer.finish()
            self._trainer.world.wait()

    def close(self) -> None:
        """Let what is being written come to its end; nothing is saved after that."""
        self._writer.close()

    def _checkpoint(self) -> Checkpoint:
        """The trainer as it stands, whose tensors these are."""
        state = self._trainer.state_dict()
        model = state.pop("model")
        step = state.pop("step")
        return Checkpoint(
            model_config=self._trainer.model.config,
            vocab_size=self._trainer.model.vocab_size,
            step=step,
            model=model,
            training={**state, "data": self.data_identity},
            tokenizer=self.tokenizer_text,
            tokenizer_fingerprint=self._tokenizer_fingerprint,
            run_config=to_plain(self._config),
        )

    def _write(self, checkpoint: Checkpoint, validation_nll: Mapping[int, float]) -> None:
        if self._folder.writes and not self._folder.is_held:
            raise RunError(f"{self._folder.path} is gone: it was removed while the run wrote into it")
        keep = self._config.train.keep_checkpoints
        save_checkpoint(self._folder.path, checkpoint, keep=keep, validation_nll=validation_nll, shards=self._shards)
        self.newest_step = checkpoint.step
