"""`apelr score`: what a model thinks of a given text."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apelr_cli.options import (
    checkpoint_option,
    device_option,
    format_option,
    tokenizer_option,
    unexpected_option,
)
from apelr_cli.plan_options import plan_options

if TYPE_CHECKING:
    from apelr_cli.plan_output import PlanKind
    from apelr_tokenizers import Tokenizer

__all__ = ["score"]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@checkpoint_option
@tokenizer_option
@unexpected_option
@click.option("--text", help="Text to score, as one document.")
@click.option("--file", "text_file", type=FILE, help="UTF-8 file to score, as one document of any length.")
@click.option(
    "--ids-file",
    type=FILE,
    help="File with a JSON list of T+1 token ids; the first is read, the T others are scored.",
)
@click.option(
    "--plan",
    "shown_plan",
    type=click.Choice(["filtered", "smoothed", "viterbi"]),
    default="filtered",
    show_default=True,
    help="The plan shown with each target: filtered, the belief before it; smoothed, the probabilities given the whole "
    "text; viterbi, the most likely path of plans given the whole text.",
)
@plan_options(prompted=False)
@device_option
@format_option("text prints a summary and a table; json one object: tokens, nll in nats, bits_per_byte, gate.")
def score(
    *,
    checkpoint: Path,
    tokenizer: Path | None,
    allow_unexpected: bool,
    text: str | None,
    text_file: Path | None,
    ids_file: Path | None,
    shown_plan: "PlanKind",
    plan: dict[str, Any],
    device: str,
    form: str,
) -> None:
    """Score a text with a trained model: log-probability and plan of each token, total NLL, bits per byte.

    A text is read from the start of a document (BOS). Exactly one of --text, --file and --ids-file is needed.
    """
    if sum(given is not None for given in (text, text_file, ids_file)) != 1:
        raise click.UsageError("give exactly one of --text, --file and --ids-file")
    if shown_plan != "filtered":
        _check_unforced(shown_plan, plan)
    from apelr_cli.console import result_stream
    from apelr_cli.loading import load_model
    from apelr_cli.plan_choice import check_has_chain, choose_policy
    from apelr_cli.scoring_output import LOSSY, json_pieces, score_ids, text_pieces
    from apelr_cli.user_input import read_ids, read_text

    if text_file is not None:
        text = read_text(text_file)
    loaded = load_model(checkpoint, device, tokenizer=tokenizer, allow_unexpected=allow_unexpected)
    if shown_plan != "filtered":
        check_has_chain(loaded.model, f"--plan {shown_plan}")
    choice = choose_policy(loaded.model, plan)
    ids, text_bytes = [], None
    if ids_file is not None:
        ids = read_ids(ids_file, loaded.model.vocab_size)
    elif text is not None:
        ids, text_bytes = _text_ids(text, loaded.tokenizer)
    scored = score_ids(loaded, ids, text_bytes, shown_plan, choice)
    if form == "json" and scored.bits_per_byte is not None and not loaded.tokenizer.lossless:
        click.echo(f"Warning: {LOSSY}", err=True)
    if choice.notice and form == "text":
        click.echo(choice.notice, err=True)
    with result_stream() as stream:
        stream.writelines(json_pieces(scored) if form == "json" else text_pieces(scored, loaded.tokenizer))


def _check_unforced(shown_plan: str, plan: Mapping[str, Any]) -> None:
    """Refuse to show the plan given the whole text under a gate that does not use it."""
    forced = "--force-state" if plan.get("force_state") is not None else None
    if plan.get("mode") == "uniform":
        forced = "--planner-mode uniform"
    if forced:
        raise click.UsageError(
            f"--plan {shown_plan} and {forced} exclude each other: the plan given the whole text is the model's own, "
            "which the tokens then do not depend on"
        )


def _text_ids(text: str, tokenizer: "Tokenizer") -> tuple[list[int], int]:
    """BOS and the ids of `text`, and the bytes of the original text that they account for."""
    from apelr_cli.user_input import InputError, warn_of_unknown

    encoding = tokenizer.encode(text)
    if not encoding.ids:
        raise InputError("the text is empty: there is nothing to score")
    warn_of_unknown(tokenizer, text, encoding)
    return [tokenizer.bos_id, *encoding.ids], sum(encoding.byte_counts)
