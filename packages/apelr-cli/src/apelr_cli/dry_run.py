"""What `apelr train --dry-run` prints: sizes and intentions, from the config alone."""

from collections.abc import Iterator
from pathlib import Path

import torch

from apelr_cli.benchmark_costs import training_flops
from apelr_cli.memory_check import check_text_fits_memory
from apelr_cli.model_size import describe_costs
from apelr_cli.process_group import check_division
from apelr_cli.resuming import RunRequest, plan_run
from apelr_cli.run_config import RunConfig
from apelr_cli.train_config import TrainLoop
from apelr_cli.training_costs import gathered_bytes, ring_bytes, sharded_ring_bytes, state_bytes
from apelr_data import TokenCache
from apelr_model import PlannerLM, V1Config, V2Config, build_model, count_costs

__all__ = ["describe_run"]


def describe_run(asked: RunRequest, *, processes: int) -> Iterator[str]:
    """The lines of a dry run: sizes first, then what would be done, refused by the very checks of a real run.

    Takes no memory for fresh parameters, writes nothing and asks no network. A `train.resume_from` that is not
    there yet is only warned of.
    """
    config, folder, device, resume, force = asked
    train, data = config.train, config.data
    vocab_size = config.tokenizer.vocab_size
    with torch.device("meta"):
        model = build_model(config.model, vocab_size)
    costs = count_costs(model, train.seq_len)
    first, *others = describe_costs(model, costs)
    yield f"model      {first}"
    yield from (f"           {line}" for line in others)
    yield f"           {training_flops(model, train.seq_len) / 1e6:,.3g} MFLOPs a token of a training step"
    if isinstance(config.model, V1Config | V2Config):
        yield f"           {config.model.num_plan_states} plan states, chunks of {config.model.chunk_size} tokens"
    yield f"tokenizer  {config.tokenizer.type}, at most {vocab_size:,} ids, fitted on the training text"
    yield "data       " + " + ".join(part.source + (f" from {part.path}" if part.path else "") for part in data.parts())
    if data.token_cache:
        yield f"           ids kept in {TokenCache(data, config.tokenizer, seed=config.seed).root}"
    warnings: list[str] = []
    check_text_fits_memory(data, warnings.append)
    yield from (f"           {warning}" for warning in warnings)
    yield f"training   steps to {train.max_steps:,}, {_targets(train)}"
    yield f"           {train.grad_accum_steps} micro-batch(es) a step, {train.precision}, on {device}"
    yield from _of_each_process(config, model, device, processes)
    origin = config.train.resume_from
    if origin and not resume and not Path(origin).exists():
        yield f"folder     {folder.path}: would be made"
        yield f"starts     from {origin} (warning: it is not there)"
        return
    plan = plan_run(asked, processes=processes)
    yield from (f"           skipped: {line}" for line in plan.skipped)
    if plan.resumed:
        done = "is finished: nothing to do" if plan.is_finished else f"would go on from step {plan.resumed.step}"
        yield f"folder     {folder.path}: {done}"
    else:
        yield f"folder     {folder.path}: would be {'cleared of its run' if force and folder.path.exists() else 'made'}"
    if plan.origin:
        yield f"starts     from {origin}, at step {plan.origin.step}"


def _of_each_process(config: RunConfig, model: PlannerLM, device: torch.device, processes: int) -> Iterator[str]:
    """What each of the processes holds and sends."""
    train, parameters = config.train, sum(parameter.numel() for parameter in model.parameters())
    sharded = train.distributed.strategy == "fsdp" and processes > 1
    layers = [sum(p.numel() for p in layer.parameters()) for layer in getattr(model.executor, "layers", ())]
    rest = parameters - sum(layers)
    if processes > 1:
        check_division(config, processes)
        own = train.rows_per_step // processes
        yield f"processes  {processes}: each {own} rows, {own * train.seq_len:,} targets a step"
        if sharded:
            sent = train.grad_accum_steps * sharded_ring_bytes(rest, sum(layers), processes) / 2**20
            yield f"           each sends {sent:,.1f} MiB a step, parameters gathered and gradients scattered"
        else:
            sent = ring_bytes(parameters, processes) / 2**20
            yield f"           each sends {sent:,.1f} MiB a step, the sum of the gradients over a ring"
    state = state_bytes(parameters) / 2**20 / (processes if sharded else 1)
    what = "a share of" if sharded else "for"
    where = f" on each device ({device.type})" if processes > 1 else ""
    yield f"memory     {state:,.0f} MiB {what} parameters, gradients and optimizer{where}, activations aside"
    if sharded:
        gathered = gathered_bytes(rest, max(layers, default=0)) / 2**20
        whole = "all but the layers, and two of them" if layers else "the model, whose executor has no layers to divide"
        yield f"           beside it at most {gathered:,.0f} MiB gathered at a time: {whole}, with gradients"


def _targets(train: TrainLoop) -> str:
    if train.batch_size == "auto":
        return f"as many rows of {train.seq_len} targets each as fit into memory: the run will measure it"
    targets = train.batch_size * train.seq_len
    return (
        f"{train.batch_size} rows of {train.seq_len} targets each: "
        f"{targets:,} targets a step, {targets * train.max_steps:,} in all"
    )
