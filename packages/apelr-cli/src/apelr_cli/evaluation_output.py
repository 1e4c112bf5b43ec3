"""An evaluation as one JSON object, and the same as a page of text."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from apelr_cli.evaluation_text import EvaluationText
from apelr_cli.gold_output import recovery_lines, recovery_report, skill_lines, skill_report
from apelr_cli.json_values import as_json
from apelr_cli.loading import LoadedModel
from apelr_cli.plan_choice import PlanChoice, choose_policy
from apelr_cli.scoring_output import LOSSY
from apelr_cli.steering_options import SteeringRequest
from apelr_cli.steering_output import steering_lines, steering_report
from apelr_cli.terminal_text import quoted
from apelr_model import (
    PlannerDiagnostics,
    PlannerLM,
    PlanStateDiagnostics,
    TokenBatch,
    mean_nll,
    planner_diagnostics,
    read_gold_chunks,
)
from apelr_tokenizers import Tokenizer

__all__ = ["evaluate_text", "page", "planner_report"]

Report = dict[str, Any]

DELTAS = {
    "planner_mask_delta_loss": "every plan state weighs the same",
    "shuffled_belief_delta_loss": "beliefs of another row",
    "frozen_delta_loss": "belief never changed from the start",
    "boundary_reset_delta_loss": "belief forgotten at boundaries",
    "evidence_off_delta_loss": "no evidence at boundaries",
    "feedback_delta_loss": "no lookahead feedback",
}
"""What is changed in each, in words."""
FIGURES = {
    "plan_mi": "plan and next token, mutual information (nats)",
    "forced_state_divergence": "states 0 and 1, Jensen-Shannon divergence (nats)",
    "plan_js_div_loss": "two states, mean of that (nats)",
    "state_persistence": "boundaries at which the likeliest state stays",
    "expert_utilization": "entropy of usage / log K",
    "usage_kl_to_uniform": "KL of mean belief and uniform (nats)",
    "belief_entropy": "entropy of beliefs after tokens (nats)",
    "boundary_entropy": "entropy of beliefs at chunk starts (nats)",
    "chunk_bow": "bag of words of a chunk (nats per token)",
    "chunk_post_kl": "recognizer and filter at chunk ends, KL (nats)",
    "future_contrastive_loss": "future contrast (nats)",
}
WORDS_SHOWN = 6
"""Tokens of each state in the text form."""


def evaluate_text(
    loaded: LoadedModel,
    text: EvaluationText,
    choice: PlanChoice,
    *,
    diagnostics: bool = True,
    gold: bool = False,
    steering: SteeringRequest | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """The JSON object of `apelr eval`: what was read and how, then the same as `planner_report`.

    With `gold` the plans are compared with the corpus's own, with `steering` (which needs the diagnostics) texts are
    written and read again. `say` is told what could not be measured. Raises DataError and InputError for a text
    without known plans.
    """
    model = loaded.model
    known = _gold(model, text, choice, say) if gold else {}
    report = planner_report(model, text.batches(), loaded.tokenizer, choice=choice, diagnostics=diagnostics)
    if steering is not None:
        usage = [state["usage"] for state in report["states"]]
        stories = text.origin is not None and text.origin.corpus.name == "storyworld"
        report["steering"] = steering_report(loaded, steering, choice.policy, usage, beats=stories)
    about = {"text": text.name, "rows": text.rows, "seq_len": text.seq_len, "batch_size": text.batch_size}
    return {
        "model_version": loaded.model.config.version,
        "tokenizer_lossless": loaded.tokenizer.lossless,
        **about,
        **report,
        **_likelihood(report["nll"], report["targets"], text.text_bytes or None),
        **known,
    }


def _gold(model: PlannerLM, text: EvaluationText, choice: PlanChoice, say: Callable[[str], None]) -> Report:
    known = text.known_plans(model.chunks)
    chunks = read_gold_chunks(model, text.labelled_batches(known), policy=choice.policy).sorted_by(text.row_numbers())
    return {
        "recovery": recovery_report(chunks, known.names, true_transition=known.true_transition),
        "lookahead_skill": skill_report(chunks, say),
    }


def _likelihood(nll: float, targets: int, text_bytes: int | None) -> Report:
    """NLL in nats per target, perplexity, bits per byte (None where the bytes are unknown), and what they are of."""
    return {
        "nll": nll,
        "perplexity": math.exp(nll) if nll < 700 else None,
        "bits_per_byte": nll * targets / math.log(2) / text_bytes if text_bytes else None,
        "targets": targets,
        "text_bytes": text_bytes,
    }


def planner_report(
    model: PlannerLM,
    batches: Iterable[TokenBatch],
    tokenizer: Tokenizer,
    *,
    text_bytes: int | None = None,
    choice: PlanChoice | None = None,
    diagnostics: bool = True,
) -> Report:
    """What `planner_eval.json` holds: likelihood, how the belief was used, and all diagnostics; plain JSON data.

    `text_bytes` is what all targets stand for; `choice` how the belief is used (None: the model's own way). Without
    `diagnostics` the likelihood alone is computed. Numbers that are not finite are None.
    """
    choice = choose_policy(model, {}) if choice is None else choice
    used = {"gate": choice.gate, "policy": asdict(choice.policy)}
    if not diagnostics:
        plain = mean_nll(model, batches, policy=choice.policy)
        return {**_likelihood(plain.nll, plain.targets, text_bytes), **used}
    found = planner_diagnostics(model, batches, policy=choice.policy)
    likelihood = _likelihood(found.nll, found.targets, text_bytes)
    report: Report = as_json({**likelihood, **used, **_diagnostics(found, tokenizer)})
    return report


def _diagnostics(found: PlannerDiagnostics, tokenizer: Tokenizer) -> Report:
    own = {name: value for name, value in found._asdict().items() if name not in ("nll", "targets", "states")}
    return {**own, "states": [_state(k, state, tokenizer) for k, state in enumerate(found.states)]}


def _state(number: int, state: PlanStateDiagnostics, tokenizer: Tokenizer) -> Report:
    words = [{**token._asdict(), "text": tokenizer.decode([token.id])} for token in state.tokens]
    return {"state": number, **state._asdict(), "tokens": words}


def page(report: Mapping[str, Any]) -> str:
    """What `evaluate_text` found, as text."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    perplexity, bits = report["perplexity"], report["bits_per_byte"]
    lossless = "lossless" if report["tokenizer_lossless"] else LOSSY
    yield f"text            {report['text']}: {report['rows']} rows of at most {report['seq_len']} targets"
    yield f"targets         {report['targets']}"
    yield f"nats per token  {report['nll']:.4f}"
    yield f"perplexity      {'above e^700' if perplexity is None else f'{perplexity:.4f}'}"
    size = f" ({report['text_bytes']} bytes)"
    yield f"bits per byte   {'unknown' if bits is None else f'{bits:.4f}{size}'}"
    yield f"tokenizer       {lossless}"
    yield f"gate            {report['gate']}"
    if report.get("states"):
        yield from _diagnostic_lines(report)
    for name, lines in (("recovery", recovery_lines), ("lookahead_skill", skill_lines), ("steering", steering_lines)):
        if report.get(name) is not None:
            yield ""
            yield from lines(report[name])


def _diagnostic_lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "change of the nats per token (above 0: the planner helps)"
    yield from _figures(report, DELTAS, "+.4f")
    yield ""
    yield "the plan"
    yield from _figures(report, FIGURES, ".4f")
    yield ""
    yield f"{'state':>5} {'usage':>6} {'stays':>6} {'forced nll':>10}  raised tokens (times as likely)"
    for state in report["states"]:
        stays = state["transition"][state["state"]] if state["transition"] else None
        words = ", ".join(_word(token) for token in state["tokens"][:WORDS_SHOWN])
        forced = state["forced_nll"]
        yield (
            f"{state['state']:>5} {state['usage']:>6.3f} {'-' if stays is None else f'{stays:.3f}':>6} "
            f"{'infinite' if forced is None else f'{forced:.4f}':>10}  {words}"
        )


def _figures(report: Mapping[str, Any], names: Mapping[str, str], form: str) -> Iterator[str]:
    for name, words in names.items():
        if report[name] is not None:
            yield f"  {words:<52} {format(report[name], form):>9}"


def _word(token: Mapping[str, Any]) -> str:
    text = quoted(token["text"]) if token["text"] else f"id {token['id']}"
    return f"{text} {token['lift']:.1f}"
