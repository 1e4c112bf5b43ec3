"""Taking up a run where it stopped (`--resume`), and starting a new one from a checkpoint (`train.resume_from`)."""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from apelr_cli.metric_sinks import check_sinks
from apelr_cli.process_group import check_division
from apelr_cli.row_feed import check_row_feed
from apelr_cli.run_config import RunConfig, differences, to_plain
from apelr_cli.run_folder import RunError, RunFolder
from apelr_data import open_corpus
from apelr_model import (
    Checkpoint,
    FoundCheckpoint,
    Trainer,
    V2Config,
    check_arithmetic,
    load_checkpoint,
    load_newest_checkpoint,
)

__all__ = ["RunPlan", "RunRequest", "check_same_data", "plan_run", "restore", "start_from"]

MOVABLE = (
    *("train.out_dir", "data.token_cache", "data.token_cache_dir", "data.reuse_token_cache"),
    *("train.num_workers", "train.prefetch_factor", "train.persistent_workers", "train.pin_memory"),
    *("train.async_save", "train.sharded_checkpoints", "train.keep_checkpoints", "train.skip_non_finite"),
    *("train.sinks", "train.distributed.strategy", "train.distributed.backend"),
)
"""Between two parts of a run its folder may be moved, its ids kept elsewhere, its rows fetched otherwise or divided
between another number of processes, which gives the same ones, checkpoints be written otherwise and more or fewer of
them be kept, steps be skipped at which it would have stopped, and metrics be written to other places too; nothing else
may change."""


def find_resumed(folder: RunFolder, resume: str) -> FoundCheckpoint | None:
    """The checkpoint that `--resume auto|FILE` goes on from; None where auto finds no run to go on with.

    Auto takes the newest that is complete. Raises RunError where a FILE is not of this run folder, CheckpointError
    where it cannot be read, or where no checkpoint of the folder is complete.
    """
    if resume == "auto":
        found = load_newest_checkpoint(folder.path)
        if found is None and folder.path.is_dir() and not folder.holds_only_unstarted_run():
            folder.refuse_unless_empty()
        return found
    path = Path(resume)
    if folder.path.resolve() not in Path(os.path.realpath(path)).parents:  # which bears a link to itself
        raise RunError(
            f"--resume {path} is not in the run folder {folder.path}: name the run's folder with --out, "
            "or start a new run from this checkpoint with --set train.resume_from=FILE"
        )
    return FoundCheckpoint(load_checkpoint(path), path)


def check_same_run(checkpoint: Checkpoint, config: RunConfig) -> None:
    """Raise RunError listing every key in which the config differs from the run's."""
    changed = differences(checkpoint.run_config, to_plain(config))
    changed = [line for line in changed if line.partition(":")[0] not in MOVABLE]
    if changed:
        raise RunError(
            f"--resume continues the same run, but the config differs in {len(changed)} keys ({'; '.join(changed)}): "
            "use the run's own config.yaml, or start a new run with --set train.resume_from=FILE"
        )


def check_same_data(checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    """Raise RunError where the text is no longer what the run was trained on."""
    before = (checkpoint.training or {}).get("data", {})
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

    A file of the prototype has a model configuration alone.
    """
    restore(trainer, checkpoint, restore_rng=False)
    trainer.model.set_schedule(trainer.step, trainer.optim.max_steps)  # the new run's, from its first checkpoint on
    now = to_plain(config)
    if checkpoint.run_config:
        return differences(checkpoint.run_config, now)
    return differences({"model": asdict(checkpoint.model_config)}, {"model": now["model"]})


class RunRequest(NamedTuple):
    """What `apelr train` was asked for."""

    config: RunConfig
    folder: RunFolder
    device: torch.device
    resume: str | None
    """What `--resume` says."""
    force: bool
    """Whether a run that is in the folder may be removed."""


class RunPlan(NamedTuple):
    """What a run starts from; nothing has been written or changed yet."""

    config: RunConfig
    """The run's; a batch size of auto is the number that the run to go on with has measured."""
    resumed: Checkpoint | None
    """The checkpoint of this very run to go on from."""
    origin: Checkpoint | None
    """The checkpoint of another run whose model, optimizer and step a new run takes over."""
    is_finished: bool
    """Whether the run to go on with has nothing left to do."""
    source: Path
    """The file of `resumed` or `origin`, where there is one."""
    skipped: tuple[str, ...] = ()
    """Of each newer checkpoint of the run, why it cannot be gone on from."""


def plan_run(asked: RunRequest, *, processes: int) -> RunPlan:
    """What to start from. Refuses all that can be refused before text is read, for a real run and a dry run alike.

    Raises ValueErrors with one line: precision, missing text, the state of the folder, checkpoints that do not fit,
    rows that cannot be divided between the processes.
    """
    config, folder, device, resume, force = asked
    check_arithmetic(config.train, device)
    check_row_feed(config.train, device)
    check_sinks(config.train.sinks)
    open_corpus(config.data, seed=config.seed)  # looks files up; asks no network
    if resume:
        found = find_resumed(folder, resume)
        if found:
            resumed = found.checkpoint
            config = _with_measured_batch_size(config, resumed)
            check_same_run(resumed, config)
            check_division(config, processes)
            is_finished = resumed.step >= config.train.max_steps and folder.is_finished
            return RunPlan(config, resumed, None, is_finished, found.path, found.skipped)
    elif not force:
        folder.refuse_unless_empty()
    check_division(config, processes)
    origin = config.train.resume_from
    return RunPlan(config, None, _find_origin(config) if origin else None, False, Path(str(origin)))


def _with_measured_batch_size(config: RunConfig, checkpoint: Checkpoint) -> RunConfig:
    measured = checkpoint.run_config.get("train", {}).get("batch_size")
    if config.train.batch_size != "auto" or not isinstance(measured, int):
        return config
    return replace(config, train=replace(config.train, batch_size=measured))


def _find_origin(config: RunConfig) -> Checkpoint:
    """The checkpoint `train.resume_from` names. Raises CheckpointError, and RunError with nothing left to train."""
    path = Path(str(config.train.resume_from))
    checkpoint = load_checkpoint(path)
    if checkpoint.step >= config.train.max_steps:
        raise RunError(
            f"train.max_steps is {config.train.max_steps}, but train.resume_from is at step {checkpoint.step}: "
            "raise train.max_steps"
        )
    _refuse_second_scale(checkpoint, config, path)
    checkpoint.check_fits(config.model, str(path))
    return checkpoint


def _refuse_second_scale(checkpoint: Checkpoint, config: RunConfig, path: Path) -> None:
    """Raise RunError where the evidence of the prototype's V2, scaled already in the weights, would be scaled again.

    A converted file has no run's config either. In a run of today the scale is a setting that may change.
    """
    if checkpoint.run_config or not isinstance(checkpoint.model_config, V2Config):
        return
    if not isinstance(config.model, V2Config):
        return
    ours, theirs = config.model.planner_context_scale, checkpoint.model_config.planner_context_scale
    if ours != theirs:
        raise RunError(
            f"model.planner_context_scale is {ours}, but in {path} it is {theirs:g}: the prototype's scale is part "
            f"of these weights and would count twice; use --set model.planner_context_scale={theirs:g}"
        )
