"""The tables of docs/scaling.md, computed from models that take no memory (meta tensors).

`python .ci/scaling_tables.py` rewrites them in place; readme_test.py fails when they are out of date.
"""

from dataclasses import replace
from pathlib import Path

import torch
from readme_tables import replaced, table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "scaling.md"
PROCESSES = (1, 2, 8, 64, 256, 1024)
FLOPS, LINK = 400e12, 50e9
"""What a device is taken to compute and to send in a second, where the page compares the two."""


def tables() -> dict[str, str]:
    from apelr_cli.benchmark_costs import training_flops
    from apelr_cli.training_costs import ring_bytes, state_bytes
    from apelr_model import DenseHeadConfig, build_model, count_costs

    sizes, copies, shards = [], [], []
    for name, config, vocab_size, targets in models():
        with torch.device("meta"):
            model = build_model(config, vocab_size)
            dense = count_costs(build_model(replace(config, head=DenseHeadConfig()), vocab_size), targets)
        costs = count_costs(model, targets)
        parts, count = costs.parameters, sum(costs.parameters.values())
        heads = [f"{found.parameters['head'] / 1e6:,.0f}" for found in (costs, dense)]
        flops = training_flops(model, targets)
        executor, planner = (f"{parts[part] / 1e6:,.1f}" for part in ("executor", "planner"))
        sizes.append([name, f"{count / 1e6:,.0f}", executor, planner, *heads, f"{flops / 1e9:.2f}"])
        sent = [ring_bytes(count, processes) for processes in PROCESSES]
        break_even = sent[-1] / LINK * FLOPS / flops
        copies.append([name, gigabytes(state_bytes(count)), *map(gigabytes, sent), f"{break_even:,.0f}"])
        shards.append([name, *(gigabytes(state_bytes(count) / processes) for processes in PROCESSES)])
    numbers = [str(processes) for processes in PROCESSES]
    head = ["model", "parameters, M", "executor", "planner", "head, factorized", "head, dense", "GFLOPs a token"]
    return {
        "sizes": table(head, iter(sizes)),
        "copies": table(["model", "held", *(f"sent, {each}" for each in numbers), "tokens"], iter(copies)),
        "shards": table(["model", *numbers], iter(shards)),
    }


def models():
    """Name, model config, vocabulary and targets of a row: the shipped ones, and one ten times the largest."""
    from apelr_cli.config_reader import load_run_config

    for size in ("65m", "270m", "1b"):
        run = load_run_config(ROOT / "configs" / f"v2_fineweb_edu_{size}.yaml")
        yield f"v2_fineweb_edu_{size}", run.model, run.tokenizer.vocab_size, run.train.seq_len
    executor = replace(run.model.executor, num_heads=40)
    model = replace(run.model, token_dim=5120, hidden_dim=5120, num_layers=31, executor=executor)
    yield "10B: width 5120, 31 layers", model, run.tokenizer.vocab_size, run.train.seq_len


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g}" if count < 1e12 else f"{count / 1e9:,.0f}"


def filled(text: str) -> str:
    """The page with every table put between its marks."""
    return replaced(text, tables(), ".ci/scaling_tables.py")


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
