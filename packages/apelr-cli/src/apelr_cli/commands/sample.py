"""`apelr sample`: continue a prompt."""

from pathlib import Path
from typing import Any, Literal

import click

from apelr_cli.display_options import Display, display_options
from apelr_cli.options import (
    check_decoding,
    checkpoint_option,
    count,
    decoding_options,
    device_option,
    format_option,
    tokenizer_option,
    unexpected_option,
)
from apelr_cli.plan_options import plan_options

__all__ = ["sample"]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SEEDS = click.IntRange(0, 2**63 - 1)


@click.command()
@checkpoint_option
@tokenizer_option
@unexpected_option
@click.option("--prompt", help="Text to continue; '' starts from nothing. Without it and --prompt-file: stdin.")
@click.option("--prompt-file", type=FILE, help="UTF-8 file whose text is continued, its last line end included.")
@click.option(
    "--max-new-tokens",
    type=count(0),
    default=256,
    show_default=True,
    help="Most tokens generated in a sample.",
)
@click.option(
    "--temperature",
    type=float,
    help="Divides the mixture's log-probabilities (V1: each plan state's logits); 1 is the model's own distribution, "
    "0 takes the most likely token. [default: 1.0]",
)
@click.option("--top-k", type=int, help="Keep only the k most likely tokens; 0 keeps all. [default: 0]")
@click.option(
    "--top-p",
    type=float,
    help="Keep the smallest set of most likely tokens with this probability; 1 keeps all. [default: 1.0]",
)
@click.option(
    "--repetition-penalty",
    type=float,
    help="Divides the probability of every token already in the sequence by this much; 1 is none. [default: 1.0]",
)
@click.option(
    "--no-repeat-ngram-size",
    type=int,
    help="Exclude tokens that would complete an n-gram of this size already in the sequence; 0 excludes none. "
    "[default: 0]",
)
@click.option(
    "--stop",
    "stops",
    multiple=True,
    metavar="TEXT",
    help="End a sample before this text (searched in what is generated, not in the prompt). Repeatable.",
)
@click.option(
    "--lookahead-steps",
    type=count(0),
    default=0,
    show_default=True,
    help="Show per chunk the forecast of the plan this many chunks ahead; never changes what is generated.",
)
@click.option(
    "--async-lookahead/--sync-lookahead",
    default=None,
    help="Make those forecasts beside the next token and show them as they come, or with each token. "
    "[default: the model's async_planner]",
)
@display_options
@plan_options(prompted=True)
@click.option(
    "--seed", type=SEEDS, default=0, show_default=True, help="Seed of the first sample; sample i has seed + i."
)
@click.option(
    "--num-samples",
    type=count(1),
    default=1,
    show_default=True,
    help="Samples to draw, in one batch; each is what it would be alone.",
)
@decoding_options
@device_option
@format_option("text streams prompt and continuation; json prints one line for each sample.")
def sample(
    *,
    checkpoint: Path,
    tokenizer: Path | None,
    allow_unexpected: bool,
    prompt: str | None,
    prompt_file: Path | None,
    max_new_tokens: int,
    stops: tuple[str, ...],
    lookahead_steps: int,
    async_lookahead: bool | None,
    display: Display,
    plan: dict[str, Any],
    seed: int,
    num_samples: int,
    compiled: bool,
    weights: Literal["fp32", "bf16", "int8"],
    device: str,
    form: str,
    **sampling: float | None,
) -> None:
    """Continue a prompt with a trained model.

    The prompt comes from --prompt, from --prompt-file, or from standard input. Text goes to standard output
    as it is made; warnings and forecasts go to standard error. Several samples have a line
    `--- sample 2 of 3 ---` before each. With --interactive standard input is a conversation.
    """
    if not all(stops):
        raise click.BadParameter("a stop text must not be empty", param_hint="--stop")
    display.check(form, num_samples, compiled=compiled)
    check_decoding(weights, compiled=compiled)
    from apelr_cli.loading import load_model
    from apelr_cli.plan_choice import check_has_chain, choose_lookahead, choose_policy
    from apelr_cli.sample_display import show_conversation, show_samples
    from apelr_cli.sampling import SampleRequest, sampling_settings

    settings = sampling_settings(sampling)
    text = _prompt_text(prompt, prompt_file, needed=not display.interactive)
    loaded = load_model(checkpoint, device, tokenizer=tokenizer, allow_unexpected=allow_unexpected, weights=weights)
    if compiled:
        loaded.model.compile_decoding()
    if display.show_plan:
        check_has_chain(loaded.model, "--show-plan")
    request = SampleRequest(
        prompt=text or "",
        settings=settings,
        max_new_tokens=max_new_tokens,
        seed=seed,
        num_samples=num_samples,
        stops=stops,
        lookahead_steps=lookahead_steps,
        async_lookahead=choose_lookahead(loaded.model, lookahead_steps, async_lookahead),
        choice=choose_policy(loaded.model, plan),
    )
    if display.interactive:
        show_conversation(loaded, request, display, text)
    else:
        show_samples(loaded, request, display, form)


def _prompt_text(prompt: str | None, prompt_file: Path | None, *, needed: bool) -> str | None:
    """The prompt's text; None where none is given and none `needed`, so that standard input is left alone."""
    from apelr_cli.user_input import read_standard_input, read_text

    if prompt is not None and prompt_file is not None:
        raise click.UsageError("give either --prompt or --prompt-file, not both")
    if prompt is not None:
        return prompt
    if prompt_file is not None:
        return read_text(prompt_file)
    text = read_standard_input() if needed else None
    if text is None and needed:
        raise click.UsageError(
            "no prompt: give --prompt TEXT or --prompt-file FILE, or pipe text into standard input; "
            "--prompt '' starts from nothing"
        )
    return text
