"""Taking up a run where it stopped (`--resume`), and starting a new one from a checkpoint (`train.resume_from`)."""

from pathlib import Path
from typing import Any

from apelr_cli.run_config import RunConfig, differences, to_plain
from apelr_cli.run_folder import RunError, RunFolder
from apelr_model import Checkpoint, Trainer, load_checkpoint

__all__ = ["check_same_data", "check_same_run", "find_resumed", "restore", "start_from"]

MOVABLE = "train.out_dir"
"""A run folder may be moved between two parts of a run; nothing else may change."""


def find_resumed(folder: RunFolder, resume: str) -> Checkpoint | None:
    """The checkpoint that `--resume auto|FILE` goes on from; None where auto finds no run to go on with.

    Raises RunError where a FILE is not of this run folder, CheckpointError where it cannot be read.
    """
    if resume == "auto":
        if folder.checkpoint.exists():
            return load_checkpoint(folder.checkpoint)
        if folder.path.is_dir() and not folder.holds_only_unstarted_run():
            folder.refuse_unless_empty()
        return None
    path = Path(resume)
    if folder.path.resolve() not in path.resolve().parents:
        raise RunError(
            f"--resume {path} is not in the run folder {folder.path}: name the run's folder with --out, "
            "or start a new run from this checkpoint with --set train.resume_from=FILE"
        )
    return load_checkpoint(path)


def check_same_run(checkpoint: Checkpoint, config: RunConfig) -> None:
    """Raise RunError listing every key in which the config differs from the run's."""
    changed = [line for line in differences(checkpoint.run_config, to_plain(config)) if not line.startswith(MOVABLE)]
    if changed:
        raise RunError(
            "--resume continues the same run, but the config differs:\n  "
            + "\n  ".join(changed)
            + "\nuse the run's own config.yaml, or start a new run with --set train.resume_from=FILE"
        )


def check_same_data(training: dict[str, Any], identity: dict[str, Any]) -> None:
    """Raise RunError where the text is no longer what the run was trained on."""
    before = training.get("data", {})
    if before != identity:
        tokens = f"{before.get('train_tokens')} training and {before.get('validation_tokens')} validation tokens"
        raise RunError(
            f"--resume continues the same run, but its text has changed: the checkpoint saw {tokens}, "
            f"now there are {identity['train_tokens']} and {identity['validation_tokens']} (or other ones)"
        )


def restore(trainer: Trainer, checkpoint: Checkpoint, *, restore_rng: bool) -> None:
    """Load the checkpoint's model, optimizer, scaler and step. Raises RunError; CheckpointError for other shapes."""
    if checkpoint.training is None:
        raise RunError("the checkpoint is for use only: it holds no optimizer state to go on from")
    state = {**checkpoint.training, "model": checkpoint.model, "step": checkpoint.step}
    trainer.load_state_dict(state, restore_rng=restore_rng)


def start_from(trainer: Trainer, checkpoint: Checkpoint, config: RunConfig) -> list[str]:
    """Load model, optimizer and step into a new run's trainer; the config keys that differ, as lines.

    Raises RunError where nothing is left to train, CheckpointError where the model's shapes differ.
    """
    if checkpoint.step >= config.train.max_steps:
        raise RunError(
            f"train.max_steps is {config.train.max_steps}, but train.resume_from is at step {checkpoint.step}: "
            "raise train.max_steps"
        )
    restore(trainer, checkpoint, restore_rng=False)
    return differences(checkpoint.run_config, to_plain(config))
