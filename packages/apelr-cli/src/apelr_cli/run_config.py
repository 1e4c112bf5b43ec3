"""`RunConfig`: everything that decides a run. The four packages' own config objects hold their defaults."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import yaml

from apelr_cli.shown import shown
from apelr_cli.train_config import TrainConfig, V2TrainConfig
from apelr_data import DataConfig
from apelr_model import ModelConfig, V2Config
from apelr_tokenizers import TokenizerConfig

__all__ = ["DeviceName", "RunConfig", "differences", "to_plain", "to_yaml"]

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Rule = tuple[str, object, str, bool]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run. The rules between sections are here; each section keeps its own."""

    seed: int = 0
    """Seed of the initial weights, dropout, the order of rows, generated stories, planted text and previews."""
    device: DeviceName = "auto"
    """Where tensors live; auto takes cuda, mps or cpu, the first that is there."""
    model: ModelConfig = field(default_factory=V2Config)
    """The architecture and its sizes."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """How text becomes ids."""
    data: DataConfig = field(default_factory=DataConfig)
    """The text."""
    train: TrainConfig = field(default_factory=V2TrainConfig)
    """How it is trained."""

    def rules(self) -> list[Rule]:
        """The rules between fields of different weight or section: (dotted field, value, rule, holds)."""
        train = self.train
        return [
            (
                "train",
                type(train).__name__,
                f"the form that belongs to model.version {self.model.version}",
                self.model.version in train.model_versions,
            ),
            ("seed", self.seed, "between 0 and 2^63 - 1", 0 <= self.seed < 2**63),
            (
                "train.batch_size",
                train.batch_size,
                f">= train.grad_accum_steps ({train.grad_accum_steps}), a row for every micro-batch",
                train.batch_size == "auto" or train.batch_size >= train.grad_accum_steps,
            ),
            (
                "train.planner_lr_scale",
                train.planner_lr_scale,
                "left at 1 when model.version is transformer_lm, which has no planner",
                train.planner_lr_scale == 1 or self.model.version != "transformer_lm",
            ),
            (
                "train.split_interval",
                train.split_interval,
                f"0 when model.version is {self.model.version}, which has no chain of plans",
                train.split_interval == 0 or hasattr(self.model, "chunk_size"),
            ),
            (
                "train.loss_weights.future_contrastive",
                _contrast(train),
                "0 when model.future_horizon_chunks is 0",
                _contrast(train) == 0 or getattr(self.model, "future_horizon_chunks", 1) > 0,
            ),
            (
                "train.carry_belief",
                self.carries,
                "false unless data.order is contiguous, train.stride is null or train.seq_len, train.seq_len "
                "is a multiple of model.chunk_size, and data.document_mask is false",
                not self.carries or self._can_carry,
            ),
            (
                "train.precision",
                train.precision,
                "fp32 or bf16 when device is cpu or mps: the loss scaling of fp16 needs CUDA",
                train.precision != "fp16" or self.device in ("auto", "cuda"),
            ),
            (
                "train.compile",
                train.compile,
                "false when model.executor.type is gru: PyTorch compiles nothing of it",
                not train.compile or self.model.executor.type != "gru",
            ),
        ]

    @property
    def carries_in_evaluation(self) -> bool:
        """Whether held-out rows hand their belief on: in a model with chunks, unless rows' positions begin at 0."""
        return hasattr(self.model, "chunk_size") and not self.data.document_mask

    @property
    def carries(self) -> bool:
        """Whether training rows hand their belief on."""
        return getattr(self.train, "carry_belief", False)

    @property
    def _can_carry(self) -> bool:
        train, data = self.train, self.data
        whole_chunks = train.seq_len % getattr(self.model, "chunk_size", 1) == 0
        in_order = data.order == "contiguous" and train.stride in (None, train.seq_len)
        return in_order and whole_chunks and not data.document_mask

    def __post_init__(self) -> None:
        broken = [
            f"{name} must be {rule}, got {shown(value)}" for name, value, rule, holds in self.rules() if not holds
        ]
        if broken:
            raise ValueError("\n".join(broken))


def _contrast(train: TrainConfig) -> float:
    return train.loss_weights.future_contrastive if isinstance(train, V2TrainConfig) else 0.0


def to_plain(config: RunConfig) -> dict[str, Any]:
    """Every key with its value, as JSON and YAML know them: tuples are lists."""
    plain = _listed(asdict(config))
    assert isinstance(plain, dict), "a config is a mapping"
    return plain


def to_yaml(config: RunConfig) -> str:
    """Every key with its value as YAML text, which `load_run_config` reads back to an equal config."""
    return yaml.dump(to_plain(config), Dumper=_YamlDumper, sort_keys=False, allow_unicode=True, width=1_000_000)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line `dotted.key: old -> new` for every value that differs between two plain configs."""
    before, after = _flat(old, ""), _flat(new, "")
    lines = []
    for key in before | after:
        left, right = (shown(values[key]) if key in values else "not set" for values in (before, after))
        if key not in before or key not in after or before[key] != after[key]:
            lines.append(f"{key}: {left} -> {right}")
    return lines


class _YamlDumper(yaml.SafeDumper):
    """Escapes every character that is not printable: within single quotes U+0085 would be read back as a space."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_YamlDumper.add_representer(str, _YamlDumper.represent_text)


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(each) for key, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and value and all(isinstance(each, Mapping) for each in value):
            for number, each in enumerate(value):
                flat |= _flat(each, f"{prefix}{key}[{number}].")
        else:
            flat[f"{prefix}{key}"] = _listed(value)
    return flat
