"""The small runs that are killed and starved: everything on that could break an exact resumption."""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "packages" / "apelr-cli" / "tests"))

from faulty_runs import FaultyRuns, checkpoints, results, same  # noqa: E402

SENTENCES = "The cat sat on the mat. A dog ran to the sea! Who saw it? The cat did, and ran home.\n"
LOOP = {"max_steps": 8, "warmup_steps": 2, "log_interval": 1, "eval_interval": 2, "save_interval": 2, "val_batches": 1}
NEWEST = {("rename", "checkpoint.pt"), ("rename", "checkpoint.json")}
"""The changes that complete a checkpoint."""
V1 = {
    "version": "v1_filtered_mixture",
    **{"num_plan_states": 3, "chunk_size": 4, "token_dim": 4, "hidden_dim": 6, "fusion_dim": 4},
    **{"num_layers": 2, "dropout": 0.2},
}
V2 = "V2: sampled plans, beliefs carried on, a token cache, workers, saves in the background"
CONFIGS: dict[str, dict[str, Any]] = {
    "V1: dropout, accumulation, every loss": {
        "model": V1,
        "train": {
            **{"entropy_reg_weight": 0.01, "usage_balance_weight": 0.1, "chunk_bow_weight": 0.1},
            **{"chunk_bow_warmup_steps": 4, "plan_mi_weight": 0.1, "chunk_post_kl_weight": 0.1},
        },
    },
    "V1: sharded checkpoints, saved in the background": {
        "model": V1,
        "train": {"sharded_checkpoints": True, "async_save": True},
    },
    V2: {
        "model": {
            "version": "v2_planner_required",
            **{"num_plan_states": 3, "chunk_size": 4, "token_dim": 4, "hidden_dim": 6, "dropout": 0.2},
            "plan_commitment": "gumbel_st",
        },
        "data": {"order": "contiguous", "lane_rows": 3, "token_cache": True},
        "train": {"carry_belief": True, "num_workers": 1, "async_save": True},
    },
}


@dataclass(frozen=True)
class Subject:
    """One config, its files, and the results of the run that nothing happened to."""

    name: str
    folder: Path
    config: Path
    changes: list[tuple[str, str]]
    """What that run changed on the disk, in order: the kind of each change and its path."""
    expected: list[Any]
    kept: list[int]

    def arguments(self, run: Path) -> list[str]:
        """Go on with the run in a folder, or begin it."""
        return ["train", "--config", str(self.config), "--resume", "auto", "--out", str(run)]

    def difference(self, run: Path) -> str:
        """In what a run has not ended as this one has, bit for bit, with the same checkpoints; nothing where it has."""
        names = ("step", "model", "training", "metrics.jsonl", "validation", "last step", "planner_eval.json")
        wrong = [name for name, *pair in zip(names, results(run), self.expected, strict=True) if not same(*pair)]
        wrong += [] if checkpoints(run) == self.kept else [f"checkpoints {checkpoints(run)}"]
        return ", ".join([*wrong, *(str(path) for path in run.rglob("*.tmp"))])

    def fresh(self) -> Path:
        """An empty place for a run; its token cache is empty too."""
        for name in ("run", "cache"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.folder / "run"

    def has_saved(self, change: int) -> bool:
        """Whether a checkpoint was complete before a change of the undisturbed run."""
        return not NEWEST.isdisjoint(self.changes[: change - 1])

    @property
    def watched(self) -> list[Path]:
        """The folders whose changes count."""
        return [self.folder / "run", self.folder / "cache"]


def write_config(place: Path, changed: Mapping[str, Any], train: Mapping[str, Any]) -> Path:
    """A config file in a folder, beside its text, with what one of CONFIGS changes, and `train` on top."""
    text = place / "text.txt"
    text.write_text("".join(f"{number}. {SENTENCES}" for number in range(40)), encoding="utf-8")
    data = {"source": "text", "path": str(text), "val_fraction": 0.1, "token_cache_dir": str(place / "cache")}
    loop = {"seq_len": 8, "batch_size": 4, "grad_accum_steps": 2, "lr": 0.01, "keep_checkpoints": 2, **LOOP}
    content = {
        "seed": 3,
        "device": "cpu",
        "model": changed["model"],
        "tokenizer": {"type": "char", "min_frequency": 1},
        "data": {**data, **changed.get("data", {})},
        "train": {**loop, **changed["train"], **train},
    }
    config = place / "config.yaml"
    config.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    return config


def subjects(apelr: FaultyRuns, folder: Path, configs: Mapping[str, Any] = CONFIGS) -> Iterator[Subject]:
    """Each config with its undisturbed run."""
    for number, (name, changed) in enumerate(configs.items()):
        place = folder / str(number)
        place.mkdir()
        config = write_config(place, changed, {})
        run = place / "run"
        bare = Subject(name, place, config, [], [], [])
        done = apelr(*bare.arguments(run), watched=bare.watched)
        if done["code"]:
            raise SystemExit(done["said"])
        changes = [(kind, path) for kind, path in done["changes"]]
        yield Subject(name, place, config, changes, results(run), checkpoints(run))
