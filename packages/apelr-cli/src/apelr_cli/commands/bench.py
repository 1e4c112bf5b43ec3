"""`apelr bench`: how fast a model is on this machine."""

from pathlib import Path
from typing import Literal

import click

from apelr_cli.options import check_decoding, decoding_options, format_option, output_option, set_option

__all__ = ["bench"]


@click.command()
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Checkpoint file, or a run folder for its newest checkpoint.",
)
@click.option(
    "--config",
    "config_name",
    metavar="FILE",
    help="Run configuration of a fresh model in place of a checkpoint: a YAML file, or the name of a shipped one.",
)
@set_option("Override one key of the config, beside a checkpoint one of train (batch_size, seq_len, precision …)")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    help="Where to compute; auto takes what there is. [default: the config's, beside a checkpoint auto]",
)
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="How often all is timed.")
@decoding_options
@format_option("text prints a page; json one object with every figure.")
@output_option
def bench(
    *,
    checkpoint: Path | None,
    config_name: str | None,
    overrides: tuple[str, ...],
    device: str | None,
    rounds: int,
    compiled: bool,
    weights: Literal["fp32", "bf16", "int8"],
    form: str,
    output: Path | None,
) -> None:
    """Measure how fast a model is on this machine: how fast it trains, evaluates and decodes.

    Beside its speed stand the machine's limits (the rate of matrix products, that of reading memory), the planner's
    share of a training step, and the same executor without a plan (transformer_lm). All works are timed in turn;
    figures are medians over the rounds with quartiles. Ids are random: time does not depend on them. --compile and
    --weights are for decoding alone. Exactly one of --checkpoint and --config is needed. Stop other programs first.
    """
    if (checkpoint is None) == (config_name is None):
        raise click.UsageError("give exactly one of --checkpoint and --config")
    check_decoding(weights, compiled=compiled)
    from apelr_cli.benchmark_model import benchmark_model
    from apelr_cli.benchmark_page import bench_page
    from apelr_cli.benchmark_subject import subject_of_checkpoint, subject_of_config
    from apelr_cli.console import show_report
    from apelr_cli.shipped import find_config

    if checkpoint is not None:
        subject = subject_of_checkpoint(
            checkpoint, overrides, device, say=lambda line: click.echo(f"Warning: {line}", err=True)
        )
    else:
        subject = subject_of_config(find_config(str(config_name)), overrides, device)
    found = benchmark_model(
        subject.model, subject.train, step=subject.step, rounds=rounds, compiled=compiled, weights=weights
    )
    show_report(found.plain(), bench_page(found) if form == "text" else None, output)
