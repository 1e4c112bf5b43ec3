"""`apelr eval`: how well a model predicts held-out text, and what its planner has to do with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from apelr_cli.harness.options import TaskOptions, task_options
from apelr_cli.options import (
    checkpoint_option,
    count,
    device_option,
    format_option,
    output_option,
    set_option,
    tokenizer_option,
    unexpected_option,
    weights_option,
)
from apelr_cli.plan_options import plan_options
from apelr_cli.steering_options import SteeringRequest, steering_options

if TYPE_CHECKING:
    from apelr_cli.evaluation_text import TextRequest
    from apelr_cli.loading import LoadedModel
    from apelr_cli.plan_choice import PlanChoice

__all__ = ["eval"]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
COUNT = count(1)
TEXT_NAMES = ("split", "text_file", "config_name", "overrides", "seq_len", "no_diagnostics", "gold", "steering")
"""What is about a text, and not about tasks."""


@click.command()
@checkpoint_option
@tokenizer_option
@unexpected_option
@click.option(
    "--split",
    type=click.Choice(["validation", "train"]),
    help="Split of the corpus that is read. [default: validation]",
)
@click.option("--file", "text_file", type=FILE, help="UTF-8 file to read instead, as one document.")
@click.option(
    "--config",
    "config_name",
    metavar="FILE",
    help="Run configuration whose corpus and row length count: a YAML file, or the name of a shipped one. "
    "[default: the checkpoint's]",
)
@set_option("Override a key of data, or seed")
@click.option(
    "--seq-len",
    type=COUNT,
    help="Targets in a row, over which the executor remembers; rows may be of any length. [default: train.seq_len]",
)
@click.option(
    "--batch-size",
    type=COUNT,
    help="Rows read at once. [default: train.batch_size, or fewer where rows are longer; with --tasks 16]",
)
@click.option("--no-diagnostics", is_flag=True, help="Compute the likelihood alone, which is several times cheaper.")
@click.option(
    "--gold",
    is_flag=True,
    help="Also compare the plans with those that the text was written under (storyworld and planted know them).",
)
@steering_options
@output_option
@task_options(apart_from=TEXT_NAMES)
@plan_options(prompted=False)
@weights_option("Keep the weights in fewer bits: what that costs in bits per byte.")
@device_option
@format_option("text prints a page; json one object with every figure.")
def eval(
    *,
    checkpoint: Path,
    tokenizer: Path | None,
    allow_unexpected: bool,
    split: Any,
    text_file: Path | None,
    config_name: str | None,
    overrides: tuple[str, ...],
    seq_len: int | None,
    batch_size: int | None,
    no_diagnostics: bool,
    gold: bool,
    steering: SteeringRequest | None,
    output: Path | None,
    tasks: TaskOptions | None,
    plan: dict[str, Any],
    weights: Literal["fp32", "bf16", "int8"],
    device: str,
    form: str,
) -> None:
    """Evaluate a model, and what its planner does, on held-out text.

    Gives NLL, perplexity, bits per byte and planner diagnostics. The text is the validation split of the corpus that
    the checkpoint was trained on, unless options say otherwise; it is cut into rows as in training. The executor begins
    afresh in each row; the belief of V1 and V2 goes on over 16 rows. With --gold the plans are compared with those of
    the corpus, with --steering it is tried whether texts follow a plan that is forced on them. With --tasks it is tasks
    of the lm-evaluation-harness instead.
    """
    if text_file is not None:
        _check_file(gold=gold, of_a_corpus=split is not None or config_name is not None or bool(overrides))
    from apelr_cli.console import show_report
    from apelr_cli.evaluation_text import TextRequest
    from apelr_cli.harness.tasks import require_harness
    from apelr_cli.loading import load_model
    from apelr_cli.plan_choice import choose_policy
    from apelr_cli.shipped import find_config

    if tasks is not None:
        require_harness()
    request = TextRequest(
        split=split or "validation",
        file=text_file,
        config=None if config_name is None else find_config(config_name),
        overrides=overrides,
        seq_len=seq_len,
        batch_size=batch_size,
    )
    loaded = load_model(checkpoint, device, tokenizer=tokenizer, allow_unexpected=allow_unexpected, weights=weights)
    choice = choose_policy(loaded.model, plan)
    if choice.notice and form == "text":
        click.echo(choice.notice, err=True)
    if tasks is None:
        measures = {"diagnostics": not no_diagnostics, "gold": gold, "steering": steering}
        report, shown = _read_text(loaded, request, choice, measures)
    else:
        report, shown = _run_tasks(loaded, tasks, choice, batch_size)
    show_report(report, shown if form == "text" else None, output)


def _check_file(*, gold: bool, of_a_corpus: bool) -> None:
    """Refuse beside --file what has no meaning there: `of_a_corpus` says that an option names a corpus."""
    if gold:
        raise click.UsageError("--gold compares with the plans of a corpus: give it without --file")
    if of_a_corpus:
        raise click.UsageError("--file is read as it is: give it without --split, --config and --set")


def _read_text(
    loaded: "LoadedModel", request: "TextRequest", choice: "PlanChoice", measures: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """The object and the page of a text; `measures` are what `evaluate_text` is told to do."""
    from apelr_cli.evaluation_output import evaluate_text, page
    from apelr_cli.evaluation_text import find_text
    from apelr_cli.plan_choice import check_has_chain
    from apelr_cli.steering_output import check_steering

    def say(line: str) -> None:
        click.echo(line, err=True)

    if measures["gold"]:
        check_has_chain(loaded.model, "--gold")
    if measures["steering"] is not None:
        check_steering(loaded.model, measures["steering"])
    text = find_text(loaded, request, say=say)
    if text.unknown:
        which = "1 character is" if text.unknown == 1 else f"{text.unknown} characters are"
        click.echo(f"Warning: {which} unknown to the tokenizer and read as <unk>", err=True)
    report = evaluate_text(loaded, text, choice, say=say, **measures)
    return report, page(report)


def _run_tasks(
    loaded: "LoadedModel", tasks: TaskOptions, choice: "PlanChoice", batch_size: int | None
) -> tuple[dict[str, Any], str]:
    """The object and the table of tasks."""
    from apelr_cli.harness.tasks import run_tasks

    found = run_tasks(
        loaded,
        tasks.names,
        include_path=tasks.include_path,
        limit=tasks.limit,
        num_fewshot=tasks.num_fewshot,
        batch_size=batch_size or 16,
        policy=choice.policy,
    )
    return {"model_version": loaded.model.config.version, "gate": choice.gate, **found.plain}, found.table
