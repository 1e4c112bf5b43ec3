"""Setting a run up in reading order: folder, checkpoint, tokenizer, data, model, trainer; then the loop."""

from dataclasses import replace

import torch

from apelr_cli.auto_batch import measure_batch_size
from apelr_cli.model_size import describe_costs
from apelr_cli.model_tokenizer import find_tokenizer
from apelr_cli.packing_progress import packing_progress
from apelr_cli.prepared_text import PreparedText, prepare_text
from apelr_cli.process_group import check_same
from apelr_cli.reporting import Reporter
from apelr_cli.resuming import RunPlan, RunRequest, check_same_data, plan_run, restore, start_from
from apelr_cli.run_config import RunConfig, to_yaml
from apelr_cli.run_lock import RunLock
from apelr_cli.signals import StopRequest, StopTraining
from apelr_cli.training_data import TrainingData, arrange_rows, training_rows
from apelr_cli.training_run import TrainingRun
from apelr_model import Trainer, World, build_model, count_costs

__all__ = ["train_run"]


def train_run(asked: RunRequest, *, quiet: bool, world: World) -> int:
    """Train, from the beginning or from a checkpoint, and return the command's exit code.

    Each process of a `world` calls this; the first one speaks, and writes into the folder.

    0: finished; 128 + signal: stopped and saved. Raises ValueErrors with one line for what the user can mend.
    """
    with RunLock(asked.folder.path) as lock:
        if (asked.resume or asked.force) and world.is_first:
            lock.take_if_used()
        return _train_alone(asked, lock, world, quiet=quiet)


def _train_alone(asked: RunRequest, lock: RunLock, world: World, *, quiet: bool) -> int:
    """`train_run`; the first process takes the lock before anything is written."""
    plan = plan_run(asked, processes=world.size)
    config, folder = plan.config, asked.folder
    first_step = plan.resumed.step if plan.resumed else plan.origin.step if plan.origin else 0
    is_newest = asked.resume == "auto" and not plan.skipped
    begins = f"step {first_step}\n{is_newest}\n{plan.skipped}\n{to_yaml(config)}"
    check_same(world, "config and checkpoint", begins)  # before any is written
    reporter = Reporter(max_steps=config.train.max_steps, first_step=first_step, quiet=quiet or not world.is_first)
    if plan.is_finished:
        reporter.say(f"{folder.path} is finished (step {first_step}); nothing to do")
        return 0
    if asked.resume and not plan.resumed:
        reporter.say(f"no checkpoint in {folder.path}: starting afresh")
    for line in plan.skipped:
        reporter.say(f"warning: skipped a checkpoint: {line}")
    with StopRequest(world.largest) as stop:
        try:
            run = _set_up(asked, plan, reporter, stop, world)
            if world.is_first:
                lock.take()
            if asked.force:
                folder.clear()
            with reporter:
                stop.deferred = True
                run.take_up(save=not is_newest) if plan.resumed else run.begin()
                run.run()
        except StopTraining as stopped:
            how = f"; go on with --resume auto --out {folder.path} --config {folder.path / 'config.yaml'}"
            saved = how if folder.checkpoint.exists() else ""
            reporter.say(f"stopped by {stopped.signal_name}{saved}")
            return stopped.exit_code
    reporter.say(f"done: {folder.path}")
    return 0


def _set_up(asked: RunRequest, plan: RunPlan, reporter: Reporter, stop: StopRequest, world: World) -> TrainingRun:
    """Everything a run needs before its first file is written."""
    config, folder, device = plan.config, asked.folder, asked.device
    source = plan.resumed or plan.origin
    tokenizer = None
    if source:
        found = find_tokenizer(source, plan.source)
        tokenizer = found.tokenizer
        for notice in (*source.notices, *source.training_notices):
            reporter.say(f"warning: {notice}")
    sources = " + ".join(part.source for part in config.data.parts())
    reporter.say(f"preparing {sources} on {device}")
    with packing_progress(config.data, reporter.console, quiet=reporter.quiet) as progress:
        text = prepare_text(
            config.data, config.tokenizer, seed=config.seed, tokenizer=tokenizer, say=reporter.say, progress=progress
        )
    config = _with_batch_size(config, text, device, reporter)
    data = arrange_rows(config, text, world)
    check_same(world, "text", str(data.identity()))
    reporter.say(_describe(data))
    reporter.lossless = data.tokenizer.lossless
    torch.manual_seed(config.seed)
    model = build_model(config.model, data.tokenizer.vocab_size).to(device)
    reporter.say("; ".join(describe_costs(model, count_costs(model, config.train.seq_len))))
    sharded = config.train.distributed.strategy == "fsdp"
    trainer = Trainer(model, config.train, config.train.weights, world=world, sharded=sharded)
    if plan.resumed:
        check_same_data(plan.resumed, data.identity())
        restore(trainer, plan.resumed, restore_rng=True)
        reporter.say(f"resuming {folder.path} at step {trainer.step}")
    elif plan.origin:
        changed = start_from(trainer, plan.origin, config)
        reporter.say(f"starting from {plan.source} at step {trainer.step}; the config differs in {len(changed)} keys")
        for line in changed:
            reporter.say(f"  {line}")
    return TrainingRun(config, trainer, data, folder, reporter, stop)


def _with_batch_size(config: RunConfig, text: PreparedText, device: torch.device, reporter: Reporter) -> RunConfig:
    """The config with a number for a batch size of auto; measured before the run's own model takes memory."""
    if config.train.batch_size != "auto":
        return config
    measured = measure_batch_size(config, text.tokenizer.vocab_size, training_rows(config, text), device)
    reporter.say(str(measured))
    return replace(config, train=replace(config.train, batch_size=measured.rows))


def _describe(data: TrainingData) -> str:
    """What was read, and what the odd-text policy had to do."""
    text = f"{len(data.train_stream.ids):,} training tokens in {len(data.train):,} rows, "
    text += f"{len(data.validation_stream.ids):,} validation tokens, vocabulary {data.tokenizer.vocab_size:,}"
    text += f", from {data.text.cache}" if data.text.cache else ""
    counts = {name.replace("_", " "): count for name, count in data.text_report().items() if count}
    sizes = ("documents", "characters", "utf8 bytes")
    remarks = ", ".join(f"{count:,} {name}" for name, count in counts.items() if name not in sizes)
    return f"{text}; odd text: {remarks}" if remarks else text
