"""How long training waits for a save: `python .ci/save_timing.py [--layers N] [--rounds N]`.

Waits are ratios to one plain in-memory copy of the state; the three take turns.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from apelr_cli.checkpoint_writer import CheckpointWriter
from apelr_model import (
    Checkpoint,
    OptimConfig,
    TokenBatch,
    Trainer,
    TransformerConfig,
    V2Config,
    V2LossWeights,
    build_model,
    save_checkpoint,
)

VOCABULARY = 4096


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8, help="layers of width 512")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    checkpoint = trained(chosen.layers)
    training = checkpoint.training or {}
    tensors = [*checkpoint.model.values(), *(t for m in training["optimizer"]["state"].values() for t in m.values())]
    sys.stdout.write(f"{sum(t.nbytes for t in tensors) / 2**20:,.0f} MiB in {len(tensors)} tensors\n")
    times: dict[str, list[float]] = {"a plain copy": [], "async save": [], "save": []}
    with tempfile.TemporaryDirectory() as folder:
        run, writer = Path(folder), CheckpointWriter(in_background=True)
        for _ in range(chosen.rounds):
            times["a plain copy"].append(seconds(lambda: [tensor.clone() for tensor in tensors]))
            times["async save"].append(
                seconds(lambda: writer.begin(partial(save_checkpoint, run, checkpoint.copied())))  # type: ignore[arg-type]
            )
            writer.finish()
            times["save"].append(seconds(lambda: save_checkpoint(run, checkpoint)))
    copy = statistics.median(times["a plain copy"])
    for name, each in times.items():
        in_copies = f"{statistics.median(each) / copy:.2f} copies, at most {max(each) / copy:.2f}"
        sys.stdout.write(f"{name}: waited for {statistics.median(each):.3f} s, {in_copies}\n")


def trained(layers: int) -> Checkpoint:
    """A transformer after one step, with all that training keeps."""
    sizes = {"num_layers": layers, "hidden_dim": 512, "token_dim": 512, "chunk_size": 8}
    config = V2Config(executor=TransformerConfig(num_heads=8), **sizes)  # type: ignore[arg-type]
    trainer = Trainer(build_model(config, VOCABULARY), OptimConfig(warmup_steps=0), V2LossWeights())
    ids = torch.randint(VOCABULARY, (1, 17))
    trainer.train_step(TokenBatch(ids[:, :-1], ids[:, 1:], torch.tensor([16])))
    state = trainer.state_dict()
    model, step = state.pop("model"), state.pop("step")
    return Checkpoint(model_config=config, vocab_size=VOCABULARY, step=step, model=model, training=state)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
