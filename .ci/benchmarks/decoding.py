"""decoding: one row, plain and compiled, against what memory allows, many rows, and generate of transformers"""

import copy
from collections.abc import Iterator
from typing import Any

import subjects
import torch
from measured import Row, Run, at_least, at_most

from apelr_cli.benchmark_costs import decoding_bytes
from apelr_cli.benchmark_limits import LARGE_READ, MemoryRead
from apelr_cli.benchmark_timing import Times, Work
from apelr_cli.benchmark_works import decoding

TOKENS, MANY, PROMPT = 16, 32, 128
TARGETED = "V2 dense"
FORMS = ("fp32", "bf16", "int8")
"""What the weights are kept in, in compiled steps of one row."""


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
    reads: dict[Any, list[MemoryRead]] = {}
    for name, model in models.items():
        reads[name] = [MemoryRead(size, device=run.device) for size in (LARGE_READ, decoding_bytes(model))]
        works |= {read.name: read for read in reads[name]}
        works[f"{name}, 1 row"] = decoding(model, 1, TOKENS)
        works[f"{name}, {MANY} rows"] = decoding(model, MANY, TOKENS)
        if name.startswith(TARGETED):
            works[f"{name}, prompts"] = decoding(model, MANY, TOKENS, prompts=[[1] * PROMPT] * MANY)
            ragged = [[1] * (1 + (PROMPT - 1) * row // (MANY - 1)) for row in range(MANY)]
            works[f"{name}, ragged prompts"] = decoding(model, MANY, TOKENS, prompts=ragged)
        for form in FORMS:
            kept = compiled(model, form)
            reads[name, form] = [MemoryRead(size, device=run.device) for size in (LARGE_READ, decoding_bytes(kept))]
            works |= {read.name: read for read in reads[name, form]}
            works[f"{name}, 1 row, compiled, {form}"] = decoding(kept, 1, TOKENS)
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
        yield from compiled_rows(times, name, reads, f"Llama like {name}, 1 row" if name in equal else None)
    for name in equal:
        for count, target in ((1, at_least(3)), (MANY, None)):
            rows_of = "1 row" if count == 1 else f"{count} rows"
            ratio = times.ratio(f"Llama like {name}, {rows_of}", f"{name}, {rows_of}")
            title = f"{name}, {rows_of}, beside generate of transformers (as many parameters): times as fast"
            yield Row(title, ratio, "x", target)
            rate = times.rate(f"Llama like {name}, {rows_of}", TOKENS * count)
            yield Row(f"Llama like {name}, {rows_of}: tokens a second", rate, "/s")


def compiled(model: Any, form: str) -> Any:
    """A copy whose steps are compiled and whose weights are kept in a form."""
    copied = copy.deepcopy(model)
    if form != "fp32":
        copied.keep_weights(form)
    copied.compile_decoding()
    return copied


def compiled_rows(times: Times, name: str, reads: dict[Any, Any], llama: str | None) -> Iterator[Row]:
    """Compiled steps of a model, in every form of its weights, beside its plain ones and beside a Llama's."""
    one = f"{name}, 1 row"
    for form in FORMS:
        title = f"{one}, compiled, {form}"
        limits = {read.name: read.bytes for read in reads[name, form]}
        own = limits[reads[name, form][1].name]
        yield Row(
            f"{title}: of what memory allows", times.share_of_rate(title, TOKENS * own, limits), "%", at_least(0.7)
        )
        yield Row(f"{title}: tokens a second", times.rate(title, TOKENS), "/s")
        yield Row(f"{title}: times as fast as plain steps", times.ratio(one, title))
        if llama is not None:
            beside = f"{title}, beside generate of transformers (as many parameters): times as fast"
            yield Row(beside, times.ratio(llama, title), "x", at_least(3))


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
