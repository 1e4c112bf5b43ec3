"""What `apelr bench` measures: the model of a checkpoint, or a fresh one as a config says."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import torch

from apelr_cli.config_reader import load_run_config, override_run_config, run_config_from_plain
from apelr_cli.device import resolve_device
from apelr_cli.errors import ConfigError
from apelr_cli.run_config import RunConfig
from apelr_cli.shown import shown
from apelr_cli.train_config import TrainConfig
from apelr_model import PlannerLM, build_model, load_checkpoint

__all__ = ["Subject", "subject_of_checkpoint", "subject_of_config"]


class Subject(NamedTuple):
    """A model, and how it is trained."""

    model: PlannerLM
    train: TrainConfig
    step: int = 0
    """Optimizer steps that it has had."""


def subject_of_config(path: Path, overrides: Sequence[str], device_name: str | None) -> Subject:
    """Fresh weights on `device_name` (None: the config's), with as many ids as the tokenizer may have.

    Raises ConfigError, or ValueError for a device that is not there.
    """
    config = load_run_config(path, overrides)
    device = resolve_device(device_name or config.device)
    torch.manual_seed(config.seed)
    return Subject(build_model(config.model, config.tokenizer.vocab_size).to(device), config.train)


def subject_of_checkpoint(
    path: Path, overrides: Sequence[str], device_name: str | None, *, say: Callable[[str], None]
) -> Subject:
    """The checkpoint's weights on `device_name` (None: auto), and its run's `train` section, changed by `overrides`.

    A file that does not say how it was trained gets the defaults. What the user should know of it goes to `say`, a
    line each. Raises CheckpointError, ConfigError, or ValueError for a device that is not there.
    """
    foreign = [each for each in overrides if each.partition("=")[0].strip().partition(".")[0] != "train"]
    if foreign:
        lines = [f"--set {shown(each)}: only keys of train can be set beside a checkpoint" for each in foreign]
        raise ConfigError("\n".join(lines))
    device = resolve_device(device_name or "auto")
    checkpoint = load_checkpoint(path)
    for notice in checkpoint.notices:
        say(notice)
    model = checkpoint.build_model(device)
    if checkpoint.run_config:
        config = run_config_from_plain(checkpoint.run_config)
    else:
        config = RunConfig(model=model.config, train=_default_train(model.config.version))
    return Subject(model, override_run_config(config, overrides).train, checkpoint.step)


def _default_train(version: str) -> TrainConfig:
    """The `train` section of a version, all at its defaults."""
    form = next(form for form in get_args(TrainConfig) if version in form.model_versions)
    section: TrainConfig = form()
    return section
