"""The checkpoints of a run: when one is written, what goes into it, and which of them stay."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from apelr_cli.run_config import RunConfig, to_plain
from apelr_cli.run_folder import RunError, RunFolder
from apelr_cli.training_data import TrainingData
from apelr_model import Checkpoint, NonFiniteError, Trainer, remove_old_checkpoints, save_checkpoint

__all__ = ["RunCheckpoints"]


class RunCheckpoints:
    """Saves a trainer into its run folder. Every checkpoint of a run goes through `save`."""

    def __init__(self, config: RunConfig, trainer: Trainer, data: TrainingData, folder: RunFolder) -> None:
        self._config = config
        self._trainer = trainer
        self._folder = folder
        self._tokenizer_fingerprint = data.tokenizer.fingerprint
        self.tokenizer_text = data.tokenizer.to_text()
        self.data_identity = data.identity()  # a digest of all tokens: once a run, not once a save
        self.newest_step: int | None = None
        """Step of the newest checkpoint of the run, which is complete."""
        self._validation_nll: dict[int, float] = {}

    def took_up(self, metrics: Iterable[Mapping[str, Any]]) -> None:
        """The trainer has just been restored from a checkpoint of this run, whose metrics these are.

        What an interrupted save had not yet removed is removed. Raises OSError.
        """
        self.newest_step = self._trainer.step
        for line in metrics:
            if line["kind"] == "validation" and isinstance(line.get("nll"), float):
                self._validation_nll[line["step"]] = line["nll"]
        if (keep := self._config.train.keep_checkpoints) is not None:
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
            newest = f"the newest checkpoint is of step {self.newest_step}: {self._folder.checkpoint}"
            raise NonFiniteError(f"{error}; {newest}") from error

    def save(self) -> None:
        """Write a checkpoint of the trainer as it stands, then remove those that `train.keep_checkpoints` leaves out.

        Of several processes the first one does; all go on when it has.
        Raises RunError where the run folder is gone; OSError, CheckpointError and NonFiniteError where it is not
        written. Older ones are intact then.
        """
        if self._folder.writes and not self._folder.is_held:
            raise RunError(f"{self._folder.path} is gone: it was removed while the run wrote into it")
        state = self._trainer.state_dict()
        model = state.pop("model")
        step = state.pop("step")
        checkpoint = Checkpoint(
            model_config=self._trainer.model.config,
            vocab_size=self._trainer.model.vocab_size,
            step=step,
            model=model,
            training={**state, "data": self.data_identity},
            tokenizer=self.tokenizer_text,
            tokenizer_fingerprint=self._tokenizer_fingerprint,
            run_config=to_plain(self._config),
        )
        if self._folder.writes:
            keep = self._config.train.keep_checkpoints
            save_checkpoint(self._folder.path, checkpoint, keep=keep, validation_nll=self._validation_nll)
        self._trainer.world.wait()
        self.newest_step = step

    def save_if_new(self) -> None:
        """Write a checkpoint unless the newest one is of this step already."""
        if self.newest_step != self._trainer.step:
            self.save()
