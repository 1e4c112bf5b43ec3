"""decoding: one row against what memory allows, many rows, prompts of different lengths, generate of transformers"""

from collections.abc import Iterator
from typing import Any

import subjects
import torch
from measured import Row, Run, at_least, at_most

from apelr_cli.benchmark_costs import decoding_bytes
from apelr_cli.benchmark_limits import LARGE_READ, MemoryRead
from apelr_cli.benchmark_timing import Work
from apelr_cli.benchmark_works import decoding

TOKENS, MANY, PROMPT = 16, 32, 128
TARGETED = "V2 dense"


def rows(run: Run) -> Iterator[Row]:
    """First the GRU, then the transformer with Llamas beside it."""
    gru = {n: subjects.make(n, subjects.GRU, subjects.GRU_VOCABULARY, run.device) for n in ("V1", TARGETED)}
    yield from own_rows(run, {f"{name}, GRU": model for name, model in gru.items()}, {})
    names = (TARGETED, "V2 factorized", "transformer_lm")
    models = {
        f"{name}, transformer": subjects.make(name, subjects.TRANSFORMER, subjects.TRANSFORMER_VOCABULARY, run.device)
        for name in names
    }
    equal = {
        "V2 dense, transformer": subjects.llama_as_large_as(models["V2 dense, transformer"]),
        "transformer_lm, transformer": subjects.llama(models["transformer_lm, transformer"]),
    }
    yield from own_rows(run, models, equal)


def own_rows(run: Run, models: dict[str, Any], equal: dict[str, Any]) -> Iterator[Row]:
    """Each model's rows; `equal` are Llamas with as many parameters."""
    works: dict[str, Work] = {}
    reads = {}
    for name, model in models.items():
        reads[name] = [MemoryRead(size, device=run.device) for size in (LARGE_READ, decoding_bytes(model))]
        works |= {read.name: read for read in reads[name]}
        works[f"{name}, 1 row"] = decoding(model, 1, TOKENS)
        works[f"{name}, {MANY} rows"] = decoding(model, MANY, TOKENS)
        if name.startswith(TARGETED):
            works[f"{name}, prompts"] = decoding(model, MANY, TOKENS, prompts=[[1] * PROMPT] * MANY)
            ragged = [[1] * (1 + (PROMPT - 1) * row // (MANY - 1)) for row in range(MANY)]
            works[f"{name}, ragged prompts"] = decoding(model, MANY, TOKENS, prompts=ragged)
    for name, model in equal.items():
        works[f"Llama like {name}, 1 row"] = llama_generate(model, 1)
        works[f"Llama like {name}, {MANY} rows"] = llama_generate(model, MANY)
    times = run.time(works)
    for name, model in models.items():
        one, many = f"{name}, 1 row", f"{name}, {MANY} rows"
        limits = {read.name: read.bytes for read in reads[name]}
        share = times.share_of_rate(one, TOKENS * decoding_bytes(model), limits)
        yield Row(f"{one}: of what memory allows", share, "%", at_least(0.7))
        yield Row(f"{one}: tokens a second", times.rate(one, TOKENS), "/s")
        yield Row(f"{many}: tokens a second", times.rate(many, TOKENS * MANY), "/s")
        yield Row(f"{many} beside 1: tokens a second", times.scaled(one, many, MANY), "x", at_least(8))
        if name.startswith(TARGETED):
            title = f"{name}, {MANY} prompts of 1 to {PROMPT} ids beside {PROMPT} ids each"
            uneven = times.ratio(f"{name}, ragged prompts", f"{name}, prompts")
            yield Row(title, uneven, "x", at_most(1.05))
    for name in equal:
        for count, target in ((1, at_least(3)), (MANY, None)):
            rows_of = "1 row" if count == 1 else f"{count} rows"
            ratio = times.ratio(f"Llama like {name}, {rows_of}", f"{name}, {rows_of}")
            title = f"{name}, {rows_of}, beside generate of transformers (as many parameters): times as fast"
            yield Row(title, ratio, "x", target)
            rate = times.rate(f"Llama like {name}, {rows_of}", TOKENS * count)
            yield Row(f"Llama like {name}, {rows_of}: tokens a second", rate, "/s")


def llama_generate(model: Any, count: int) -> Work:
    """Samples `TOKENS` tokens in each row after a prompt of one id."""
    prompt = torch.ones(count, 1, dtype=torch.long, device=model.device)
    mask = torch.ones_like(prompt)
    model.eval()
    return lambda: model.generate(
        prompt,
        attention_mask=mask,
        do_sample=True,
        top_k=0,
        max_new_tokens=TOKENS,
        min_new_tokens=TOKENS,
    )
