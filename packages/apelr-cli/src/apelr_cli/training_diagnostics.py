"""What a finished run says about its planner, on the held-out text of its evaluations."""

from typing import Any

from apelr_cli.evaluation_output import planner_report
from apelr_cli.gold_output import recovery_report
from apelr_cli.known_plans import TextOrigin, find_known_plans
from apelr_cli.plan_choice import has_chain
from apelr_cli.reporting import Reporter
from apelr_cli.run_config import RunConfig
from apelr_cli.signals import StopRequest
from apelr_cli.training_data import TrainingData
from apelr_model import PlannerLM, read_gold_chunks

__all__ = ["planner_diagnostics_of_run"]


def planner_diagnostics_of_run(
    config: RunConfig, model: PlannerLM, data: TrainingData, reporter: Reporter, stop: StopRequest
) -> dict[str, Any]:
    """What the planner is worth on held-out text, on as many batches as a periodic evaluation reads.

    Where the corpus knows its plans, also how well they were found in the same text.
    """
    limit = config.train.val_batches
    batches = stop.watch(data.validation_batches(limit))
    report = planner_report(model, batches, data.tokenizer, text_bytes=data.validation_bytes(limit))
    return {**report, **_recovery(config, model, data, reporter, stop)}


def _recovery(
    config: RunConfig, model: PlannerLM, data: TrainingData, reporter: Reporter, stop: StopRequest
) -> dict[str, Any]:
    """How well the plans of a corpus that knows them were found; nothing elsewhere."""
    corpus = data.text.corpus
    if not corpus.plan_names or not has_chain(model) or model.num_plan_states == 1:
        return {}
    try:
        origin = TextOrigin(corpus, "validation", config)
        known = find_known_plans(origin, data.validation_stream, model.chunks)
        batches = stop.watch(data.labelled_validation_batches(known, config.train.val_batches))
        chunks = read_gold_chunks(model, batches)
    except ValueError as error:  # too little text to say anything is no reason to lose a finished run's figures
        reporter.say(f"no comparison with the known plans: {error}")
        return {}
    return {"recovery": recovery_report(chunks, known.names, true_transition=known.true_transition)}
