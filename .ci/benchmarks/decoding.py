"""decoding: one row, plain and compiled, against the memory's bandwidth, many rows, and generate of transformers"""

from collections.abc import Iterator, Sequence
from typing import Any

import subjects
import torch
from measured import Row, Run, Target, at_least, at_most

from apelr_cli.benchmark_costs import decoding_bytes
from apelr_cli.benchmark_limits import LARGE_READ, MemoryRead, memory_reads
from apelr_cli.benchmark_timing import Times, Work
from apelr_cli.benchmark_works import decoder_of, decoding
from apelr_model import PlannerLM
from apelr_model.generation import read_prompts

TOKENS, MANY = 16, 32
EVEN = [64] * MANY
RAGGED = [2 + 4 * row for row in range(MANY)]
"""Ids of each prompt: of one length, and of many; the same number in all."""
TARGETED = "V2 dense"
FORMS = ("fp32", "bf16", "int8")
"""What the weights are kept in, in compiled steps of one row."""
CONTROL = "generate of transformers (not compiled, as many parameters)"


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
    kept = {
        name: {form: decoder_of(model, compiled=True, weights=form) for form in FORMS} for name, model in models.items()
    }
    decoded = OneRow(run.device, TOKENS, at_least(0.7))
    works: dict[str, Work] = {}
    for name, model in models.items():
        decoded.add(f"{name}, 1 row, plain", model)
        works[f"{name}, {MANY} rows, plain"] = decoding(model, MANY, TOKENS)
        works[f"{name}, {MANY} rows, compiled, fp32"] = decoding(kept[name]["fp32"], MANY, TOKENS)
        if name.startswith(TARGETED):
            for kind, lengths in {"prompts": EVEN, "ragged prompts": RAGGED}.items():
                prompts = [[1] * length for length in lengths]
                works[f"{name}, {kind}"] = decoding(model, MANY, TOKENS, prompts=prompts)
                works[f"{name}, after {kind}"] = continuing(model, prompts, TOKENS)
        for form, copied in kept[name].items():
            decoded.add(f"{name}, 1 row, compiled, {form}", copied)
    for name, model in equal.items():
        works[f"Llama like {name}, 1 row"] = llama_generate(model, 1)
        works[f"Llama like {name}, {MANY} rows"] = llama_generate(model, MANY)
    times = run.time({**decoded.works, **works})
    for name in models:
        one, many = f"{name}, 1 row, plain", f"{name}, {MANY} rows, plain"
        yield from decoded.rows(times, one)
        yield Row(f"{many}: tokens a second", times.rate(many, TOKENS * MANY), "/s")
        title = f"{name}, plain, {MANY} rows beside 1: tokens a second"
        yield Row(title, times.scaled(one, many, MANY), "x", at_least(8))
        if name.startswith(TARGETED):
            title = f"{name}, plain, {MANY} prompts of {min(RAGGED)} to {max(RAGGED)} ids beside {EVEN[0]} ids each"
            ratio = times.ratio(f"{name}, after ragged prompts", f"{name}, after prompts")
            yield Row(f"{title}: {TOKENS} tokens once they are read", ratio, "x", at_most(1.05))
            ratio = times.ratio(f"{name}, ragged prompts", f"{name}, prompts")
            yield Row(f"{title}: reading them and {TOKENS} tokens", ratio)
        yield from compiled_rows(times, decoded, name, FORMS, f"Llama like {name}, 1 row" if name in equal else None)
        one, many = f"{name}, 1 row, compiled, fp32", f"{name}, {MANY} rows, compiled, fp32"
        title = f"{name}, compiled, fp32, {MANY} rows beside 1: tokens a second"
        yield Row(title, times.scaled(one, many, MANY))
    yield from llama_rows(times, list(equal))


def continuing(model: PlannerLM, prompts: Sequence[Sequence[int]], tokens: int) -> Work:
    """Each call goes on from prompts that have been read, by `tokens` tokens a row, drawing none."""
    model.eval()
    ids = torch.ones(len(prompts), dtype=torch.long, device=model.device)
    begin = read_prompts(model, [[*prompt, 1] for prompt in prompts])

    def run() -> None:
        state = begin
        with torch.inference_mode():
            for _ in range(tokens):
                state = model.observe(model.predict(ids, state), ids)

    return run


class OneRow:
    """Decoding of one row by several models, each beside what it must read."""

    def __init__(self, device: torch.device, tokens: int, target: Target) -> None:
        """Each call draws `tokens` tokens; `target` is for the shares of the memory's bandwidth."""
        self.tokens, self.target = tokens, target
        self.large = memory_reads(LARGE_READ, device=device)
        self.works: dict[str, Work] = {read.name: read for read in self.large}
        self._bytes: dict[str, int] = {}
        self._limits: dict[str, list[MemoryRead]] = {}

    def add(self, name: str, model: PlannerLM) -> None:
        """A model, and reads of as many bytes as it has."""
        self._bytes[name] = decoding_bytes(model)
        self._limits[name] = [*self.large, *memory_reads(self._bytes[name], device=model.device)]
        self.works |= {read.name: read for read in self._limits[name]}
        self.works[name] = decoding(model, 1, self.tokens)

    def rows(self, times: Times, name: str) -> Iterator[Row]:
        """Its shares of the fastest read in each round, of much and of as many bytes as it has, and its speed."""
        for limit, reads, target in (
            ("the memory's bandwidth", self.large, self.target),
            ("what memory and caches allow", self._limits[name], None),
        ):
            limits = {read.name: read.bytes for read in reads}
            share = times.share_of_rate(name, self.tokens * self._bytes[name], limits)
            yield Row(f"{name}: of {limit}", share, "%", target)
        yield Row(f"{name}: tokens a second", times.rate(name, self.tokens), "/s")


def compiled_rows(
    times: Times, decoded: OneRow, name: str, forms: Sequence[str], llama: str | None = None
) -> Iterator[Row]:
    """Compiled steps of a model, in every form of its weights, beside its plain ones and beside a Llama's."""
    for form in forms:
        title = f"{name}, 1 row, compiled, {form}"
        yield from decoded.rows(times, title)
        yield Row(f"{title}: times as fast as plain steps", times.ratio(f"{name}, 1 row, plain", title))
        if llama is not None:
            yield Row(f"{title}, beside {CONTROL}: times as fast", times.ratio(llama, title), "x", at_least(3))


def llama_rows(times: Times, names: Sequence[str]) -> Iterator[Row]:
    """Plain steps of models beside `generate` of the Llamas that are as large."""
    for name in names:
        for count, target in ((1, at_least(3)), (MANY, None)):
            rows_of = "1 row" if count == 1 else f"{count} rows"
            ratio = times.ratio(f"Llama like {name}, {rows_of}", f"{name}, {rows_of}, plain")
            yield Row(f"{name}, {rows_of}, plain, beside {CONTROL}: times as fast", ratio, "x", target)
            rate = times.rate(f"Llama like {name}, {rows_of}", TOKENS * count)
            yield Row(f"Llama like {name}, {rows_of}, not compiled: tokens a second", rate, "/s")


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
