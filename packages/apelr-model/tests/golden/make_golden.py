"""Makes the files beside it: one small checkpoint for each model version in today's format, one in shards, and the
prototype's.

    python packages/apelr-model/tests/golden/make_golden.py NAME ...

The weights are random. `golden.json` holds what each file gave when it was made: log-probabilities, and what one step
of training from it comes to. A file that is there stays as it is: it stands for the versions that wrote such files.
When the format's number rises, its names below change with it, and this makes the new ones.
"""

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from apelr_model import (
    Checkpoint,
    DenseHeadConfig,
    FactorizedHeadConfig,
    GRUConfig,
    MixtureOfSoftmaxesConfig,
    ModelConfig,
    NoLossWeights,
    OptimConfig,
    TokenBatch,
    Trainer,
    TransformerConfig,
    TransformerLMConfig,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    World,
    build_model,
    load_checkpoint,
    save_checkpoint,
    score,
    write_checkpoint,
)
from apelr_model.checkpoint_checks import FORMAT_VERSION
from apelr_model.shard_manifest import SHARDS_VERSION

FOLDER = Path(__file__).resolve().parent
FIGURES = FOLDER / "golden.json"
VOCAB = 11
IDS = [1, 7, 3, 3, 9, 0, 2, 10, 5, 4, 4, 8, 6, 1]
"""Several chunks, and not a whole number of them."""
OPTIM = OptimConfig(lr=0.01, max_steps=10, warmup_steps=2, grad_accum_steps=2, split_interval=3)
PLAN: dict[str, Any] = {"num_plan_states": 3, "chunk_size": 4, "token_dim": 4, "hidden_dim": 6}
TRANSFORMER = TransformerConfig(num_heads=1, mlp_dim=8, window=3)
MODELS: dict[str, ModelConfig] = {
    "v1": V1Config(**PLAN, fusion_dim=4, executor=GRUConfig()),
    "v2_dense": V2Config(**PLAN, head=DenseHeadConfig(), executor=GRUConfig()),
    "v2_factorized": V2Config(**PLAN, head=FactorizedHeadConfig(), executor=TRANSFORMER),
    "mixture_of_softmaxes": MixtureOfSoftmaxesConfig(num_plan_states=3, token_dim=4, hidden_dim=6),
    "transformer_lm": TransformerLMConfig(token_dim=4, hidden_dim=6, executor=TRANSFORMER),
}


def trainer_of(model: Any) -> Trainer:
    """Plan states are split where there are any."""
    kind = {"v1_filtered_mixture": V1LossWeights, "v2_planner_required": V2LossWeights}
    weights = kind.get(model.config.version, NoLossWeights)()
    without = OptimConfig(lr=0.01, max_steps=10, warmup_steps=2, grad_accum_steps=2)
    return Trainer(model, OPTIM if weights != NoLossWeights() else without, weights)


def batch(step: int) -> TokenBatch:
    """Four rows of random ids that go on from those of the step before."""
    rows = torch.randint(0, VOCAB, (4, 9), generator=torch.Generator().manual_seed(step))
    return TokenBatch(rows[:, :-1], rows[:, 1:], torch.full((4,), 8), None, torch.full((4,), step > 0))


def trained(config: ModelConfig) -> Checkpoint:
    """A model after four steps, with all that a run goes on with."""
    torch.manual_seed(5)
    trainer = trainer_of(build_model(config, VOCAB))
    for step in range(4):
        trainer.train_step(batch(step))
    state = trainer.state_dict()
    model, step = state.pop("model"), state.pop("step")
    tokenizer = {"tokenizer": "opaque here", "tokenizer_fingerprint": "00"}
    more: dict[str, Any] = {"run_config": {"seed": 5}, **tokenizer}
    return Checkpoint(model_config=config, vocab_size=VOCAB, step=step, model=model, training=state, **more)


def write_shards(path: Path) -> None:
    """A folder of shards in place of a file."""
    with TemporaryDirectory(dir=path.parent) as run:
        save_checkpoint(Path(run), trained(MODELS["v2_dense"]), shards=World()).rename(path)


def prototype(version: int) -> dict[str, Any]:
    """What a file of the prototype holds."""
    path = FOLDER.parent / "prototype" / "prototype_content.py"
    spec = importlib.util.spec_from_file_location("prototype_content", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    content: dict[str, Any] = module.prototype_content(version)
    return content


def figures(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Log-probabilities of IDS in float64, nats; and the step that training goes on with, where the file holds it."""
    checkpoint = load_checkpoint(path)
    model = checkpoint.build_model(device).double()
    found: dict[str, Any] = {"step": checkpoint.step, "log_prob": score(model, IDS).log_prob.tolist()}
    if checkpoint.training is None or "rng" not in checkpoint.training:
        return found
    with torch.random.fork_rng():
        trainer = trainer_of(checkpoint.build_model(device))
        trainer.load_state_dict({**checkpoint.training, "model": checkpoint.model, "step": checkpoint.step})
        report = trainer.train_step(batch(checkpoint.step).to(torch.device(device)))
    after = score(trainer.model.double(), IDS).log_prob
    return {**found, "loss": report.loss, "grad_norm": report.grad_norm, "log_prob_after": after.tolist()}


WRITERS: dict[str, Callable[[Path], None]] = {
    **{
        f"format-{FORMAT_VERSION}-{name}.pt": lambda path, config=config: write_checkpoint(path, trained(config))
        for name, config in MODELS.items()
    },
    f"shards-{SHARDS_VERSION}": write_shards,
    **{f"prototype-v{n}.pt": lambda path, n=n: torch.save(prototype(n), path) for n in (1, 2)},
}
"""Every file that can be made anew today."""


def main() -> None:
    """Make the files that are named, or missing, and note their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a file to make anew (default: those not there)")
    names = parser.parse_args().names or [name for name in WRITERS if not (FOLDER / name).exists()]
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for name in names:
        if name not in WRITERS:
            parser.error(f"{name} cannot be made today: {', '.join(WRITERS)}")
        WRITERS[name](FOLDER / name)
        known[name] = figures(FOLDER / name)
    FIGURES.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
