"""`TrainConfig`: the `train` section of a run, in the form that belongs to its model version."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from apelr_cli.distributed_config import DistributedConfig
from apelr_model import LossWeights, NoLossWeights, OptimConfig, V1LossWeights, V2LossWeights

__all__ = ["ControlTrainConfig", "TrainConfig", "TrainLoop", "V1TrainConfig", "V2TrainConfig"]

Rule = tuple[str, object, str, bool]


@dataclass(frozen=True, kw_only=True)
class TrainLoop(OptimConfig):
    """What every version's `train` section has: the optimizer, and the loop around it."""

    out_dir: str | None = None
    """Folder of the run; null for `runs/<name of the config file>`."""
    seq_len: int = 128
    """T, target tokens in a row."""
    stride: int | None = None
    """Tokens from one row's start to the next; null for `seq_len`, so that rows do not overlap."""
    batch_size: int | Literal["auto"] = 32
    """Rows that an optimizer step sees in all, over every process and micro-batch; auto for as many as fit into memory,
    measured when the run starts and kept in its config."""
    log_interval: int = 10
    """Steps between two progress lines and lines of metrics.jsonl."""
    eval_interval: int = 200
    """Steps between two evaluations on validation rows; there is always one at the end."""
    val_batches: int | None = 20
    """Batches of a periodic evaluation; null for all. The one at the end reads all."""
    preview_interval: int = 0
    """Steps between two previews of generated text; 0 for none."""
    preview_prompt: str = ""
    """Text that a preview continues; empty for the start of a document."""
    preview_tokens: int = 64
    """Tokens of a preview."""
    save_interval: int = 200
    """Steps between two checkpoints; there is always one at step 0 and one at the end."""
    async_save: bool = False
    """Whether a save goes on in the background once the state has been copied, which takes as much memory again."""
    sharded_checkpoints: bool | None = None
    """Whether a checkpoint is a folder into which each process writes its share, and not one file that the first one
    writes; either goes on with any number of processes. null for what distributed.strategy needs: true with fsdp."""
    keep_checkpoints: int | None = None
    """Checkpoints that stay: so many of the newest, and beside them the best by validation NLL; null for all."""
    resume_from: str | None = None
    """Checkpoint or run folder that a new run starts from: model, optimizer and step go on under this config."""
    num_workers: int = 0
    """Processes that fetch rows ahead of the steps, for training and for evaluations; 0: the run's own, as needed."""
    prefetch_factor: int | None = None
    """Batches that each worker fetches ahead; null for 2 where there are workers."""
    persistent_workers: bool = False
    """Whether the workers of evaluations wait for the next one in place of being started anew for each."""
    pin_memory: bool = False
    """Whether batches wait in page-locked memory, from which CUDA copies them while it computes."""
    sinks: tuple[Literal["tensorboard"], ...] = ()
    """What metrics are also written to, beside metrics.jsonl: `tensorboard`, event files in the run folder, which need
    the extra apelr-cli[tensorboard]."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    """How several processes train one model."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        counts = ("seq_len", "log_interval", "eval_interval", "preview_tokens", "save_interval")
        return [
            *super().rules(),
            *[(name, getattr(self, name), ">= 1", getattr(self, name) >= 1) for name in counts],
            ("batch_size", self.batch_size, "auto or >= 1", self.batch_size == "auto" or self.batch_size >= 1),
            ("out_dir", self.out_dir, "null or the name of a folder", self.out_dir != ""),
            (
                "stride",
                self.stride,
                f"null or between 1 and seq_len ({self.seq_len})",
                self.stride is None or 1 <= self.stride <= max(1, self.seq_len),
            ),
            ("val_batches", self.val_batches, "null or >= 1", self.val_batches is None or self.val_batches >= 1),
            ("preview_interval", self.preview_interval, ">= 0", self.preview_interval >= 0),
            (
                "keep_checkpoints",
                self.keep_checkpoints,
                "null or >= 2: one that is whole, whatever becomes of the other",
                self.keep_checkpoints is None or self.keep_checkpoints >= 2,
            ),
            ("sinks", list(self.sinks), "without repetition", len(set(self.sinks)) == len(self.sinks)),
            ("resume_from", self.resume_from, "null or a checkpoint", self.resume_from != ""),
            ("num_workers", self.num_workers, ">= 0", self.num_workers >= 0),
            (
                "prefetch_factor",
                self.prefetch_factor,
                "null or >= 1, and null when num_workers is 0: without workers nothing is fetched ahead",
                self.prefetch_factor is None or (self.prefetch_factor >= 1 and self.num_workers > 0),
            ),
            (
                "persistent_workers",
                self.persistent_workers,
                "false when num_workers is 0",
                not self.persistent_workers or self.num_workers > 0,
            ),
            *self._rules_of_shards(),
        ]

    def _rules_of_shards(self) -> list[Rule]:
        """What cannot be done where each process has a share of the parameters."""
        if self.distributed.strategy != "fsdp":
            return []
        shared = "with distributed.strategy fsdp"
        return [
            ("sharded_checkpoints", self.sharded_checkpoints, f"null or true {shared}", self.saves_shards),
            ("compile", self.compile, f"false {shared}", not self.compile),
            ("precision", self.precision, f"fp32 or bf16 {shared}", self.precision != "fp16"),
            ("split_interval", self.split_interval, f"0 {shared}", self.split_interval == 0),
            ("skip_non_finite", self.skip_non_finite, f"0 {shared}", self.skip_non_finite == 0),
        ]

    @property
    def saves_shards(self) -> bool:
        """What `sharded_checkpoints` comes to."""
        return self.distributed.strategy == "fsdp" if self.sharded_checkpoints is None else self.sharded_checkpoints

    @property
    def rows_per_step(self) -> int:
        """`batch_size` as a number. Raises ValueError where it is auto and has not been measured yet."""
        if self.batch_size == "auto":
            raise ValueError("train.batch_size is auto, which only a training run measures: give a number")
        return self.batch_size


@dataclass(frozen=True, kw_only=True)
class PlanTrainLoop(TrainLoop):
    """What the versions with a chain of plans have beside it."""

    carry_belief: bool = False
    """Whether each row begins with the belief that the row before it ended with; it needs data.order contiguous."""


@dataclass(frozen=True, kw_only=True)
class V2TrainConfig(PlanTrainLoop):
    """The `train` section of a v2_planner_required run."""

    model_versions: ClassVar[tuple[str, ...]] = ("v2_planner_required",)
    """Values of model.version that this form belongs to."""

    loss_weights: V2LossWeights = field(default_factory=V2LossWeights)
    """Weights of the terms beside the NLL."""

    @property
    def weights(self) -> LossWeights:
        """The weights of the version's loss terms."""
        return self.loss_weights


@dataclass(frozen=True, kw_only=True)
class V1TrainConfig(V1LossWeights, PlanTrainLoop):
    """The `train` section of a v1_filtered_mixture run; the weights of its loss terms stand beside the rest."""

    model_versions: ClassVar[tuple[str, ...]] = ("v1_filtered_mixture",)
    """Values of model.version that this form belongs to."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        return [*PlanTrainLoop.rules(self), *V1LossWeights.rules(self)]

    @property
    def weights(self) -> LossWeights:
        """The weights of the version's loss terms."""
        return self


@dataclass(frozen=True, kw_only=True)
class ControlTrainConfig(TrainLoop):
    """The `train` section of the controls, which are trained on the NLL alone."""

    model_versions: ClassVar[tuple[str, ...]] = ("transformer_lm", "mixture_of_softmaxes")
    """Values of model.version that this form belongs to."""

    @property
    def weights(self) -> LossWeights:
        """No weights."""
        return NoLossWeights()


TrainConfig = V2TrainConfig | V1TrainConfig | ControlTrainConfig
"""Any version's `train` section."""
