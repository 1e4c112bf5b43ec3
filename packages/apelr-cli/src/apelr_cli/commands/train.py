"""`apelr train`: from a config file to a run folder with a trained model."""

from pathlib import Path

import click

from apelr_cli.options import set_option

__all__ = ["train"]


@click.command()
@click.option(
    "--config",
    "config_name",
    required=True,
    metavar="FILE",
    help="Run configuration: a YAML file, or the name of a shipped one (apelr config lists them).",
)
@set_option("Override one key of the config")
@click.option(
    "--resume",
    metavar="auto|FILE",
    help="Go on with the run in the folder: from its newest checkpoint (auto; starts one where there is none) or FILE.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Run folder; goes before train.out_dir.")
@click.option("--force", is_flag=True, help="Start afresh in a folder that holds a run, removing that run.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and how large it is; write nothing.")
@click.option("--print-config", is_flag=True, help="Print the resolved config as YAML and stop.")
@click.option("--quiet", is_flag=True, help="Say nothing on stderr but errors.")
@click.pass_context
def train(
    context: click.Context,
    /,
    *,
    config_name: str,
    overrides: tuple[str, ...],
    resume: str | None,
    out: Path | None,
    force: bool,
    dry_run: bool,
    print_config: bool,
    quiet: bool,
) -> None:
    """Train a model as a config file says.

    Writes checkpoints, the tokenizer, metrics and the resolved config into the run folder (runs/<config name>
    unless told otherwise). Ctrl-C and SIGTERM save a checkpoint and leave with exit code 130 and 143; a second one
    leaves at once. SIGUSR1 saves a checkpoint, and the run goes on.
    """
    from apelr_cli.launch import check_launch, find_launch, said_once

    launch = find_launch()  # before torch is imported
    from apelr_cli.config_reader import load_run_config
    from apelr_cli.run_config import to_yaml
    from apelr_cli.shipped import find_config

    with said_once(launch.local_rank):
        if force and resume:
            raise click.UsageError("--force starts afresh and --resume goes on: give one of them")
        path = find_config(config_name)
        config = load_run_config(path, overrides)
        if not print_config:
            check_launch(launch, config.train.distributed)
    if print_config:
        if launch.rank == 0:
            click.echo(to_yaml(config), nl=False)
        return
    from apelr_cli.device import resolve_device
    from apelr_cli.dry_run import describe_run
    from apelr_cli.process_group import device_of_process, joined
    from apelr_cli.resuming import RunRequest
    from apelr_cli.run_folder import RunFolder
    from apelr_cli.training_run import run_folder_path
    from apelr_cli.training_start import train_run

    device = device_of_process(resolve_device(config.device), launch)
    folder = RunFolder(run_folder_path(config, path, out), writes=launch.rank == 0)
    asked = RunRequest(config, folder, device, resume, force)
    if dry_run:
        with said_once(launch.local_rank):
            for line in describe_run(asked, processes=launch.size):
                if launch.rank == 0:
                    click.echo(line)
        return
    with joined(launch, config.train.distributed, device) as world:
        code = train_run(asked, quiet=quiet, world=world)
    context.exit(code)
