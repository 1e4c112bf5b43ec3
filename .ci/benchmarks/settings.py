"""what settings of training do to the time of a step: each beside a step with the defaults"""

from collections.abc import Iterator
from typing import Any

import subjects
from measured import Row, Run

from apelr_cli.benchmark_works import random_batch
from apelr_model import OptimConfig, check_arithmetic

SETTINGS: dict[str, dict[str, Any]] = {
    "fused_adamw: false": {"fused_adamw": False},
    "precision: bf16": {"precision": "bf16"},
    "matmul_precision: medium": {"matmul_precision": "medium"},
    "allow_tf32: true": {"allow_tf32": True},
    "compile: true": {"compile": True},
}


def rows(run: Run) -> Iterator[Row]:
    """V2 with dense heads and a transformer; settings that the machine cannot have are left out."""
    works = {}
    for name, changes in {"defaults": {}, **SETTINGS}.items():
        try:
            check_arithmetic(OptimConfig(**changes), run.device)
        except ValueError:
            continue
        model = subjects.make("V2 dense", subjects.TRANSFORMER, subjects.TRANSFORMER_VOCABULARY, run.device)
        batch = random_batch(model, subjects.TRANSFORMER_ROWS, subjects.TRANSFORMER_TARGETS)
        works[name] = subjects.steps(model, batch, **changes)
    times = run.time(works)
    for name in works:
        if name != "defaults":
            yield Row(f"`{name}`: times as fast as with the defaults", times.ratio("defaults", name))
    for name in works:
        yield Row(f"{name}: a step", times.each(name), "ms")
