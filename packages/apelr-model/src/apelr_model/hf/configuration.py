"""The configuration of an APEL-R model as the transformers library keeps it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from apelr_model.checkpoint import Checkpoint
from apelr_model.config import ModelConfig
from apelr_model.plain_config import MODEL_VERSIONS, config_from_plain
from apelr_model.portable import describe_checkpoint

__all__ = ["ApelrConfig"]


class ApelrConfig(PreTrainedConfig):
    """`config.json` of a model: what transformers wants to know, and under `apelr` what we do.

    `apelr` holds what a checkpoint says of itself but its tensors (`describe_checkpoint`); of these only
    `model_config` and `vocab_size` decide what the model is. Make one by `of_model`.
    """

    model_type = "apelr"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "log_belief", "log_gate"]

    def __init__(
        self,
        apelr: Mapping[str, Any] | None = None,
        *,
        bos_token_id: int | None = None,
        eos_token_id: int | list[int] | None = None,
        pad_token_id: int | None = None,
        **more: Any,
    ) -> None:
        """`more` are transformers' own fields. Raises ValueError, naming the key, where `apelr` makes no model."""
        self.bos_token_id, self.eos_token_id, self.pad_token_id = bos_token_id, eos_token_id, pad_token_id
        self.apelr = dict(apelr or {})
        if self.apelr:  # transformers itself makes one without arguments, to compare with
            size = self.apelr.get("vocab_size")
            if type(size) is not int or size < 2:
                raise ValueError(f"apelr.vocab_size must be a whole number >= 2, got {size!r}")
            if more.pop("vocab_size", size) != size:
                raise ValueError(f"vocab_size must be apelr.vocab_size ({size})")
            self.vocab_size = size
            config = self.model_config
            self.hidden_size, self.num_hidden_layers = config.hidden_dim, config.num_layers
            more = {name: value for name, value in more.items() if name not in ("hidden_size", "num_hidden_layers")}
            more["tie_word_embeddings"] = bool(getattr(config, "tie_embeddings", False))
        super().__init__(**more)

    @classmethod
    def of_model(cls, config: ModelConfig, vocab_size: int, **more: Any) -> "ApelrConfig":
        """That of a model of this architecture; `more` are transformers' own fields, such as `bos_token_id`."""
        fresh = Checkpoint(model_config=config, vocab_size=vocab_size, step=0, model={})
        return cls(describe_checkpoint(fresh), **more)

    @property
    def model_config(self) -> ModelConfig:
        """Our own configuration. Raises ValueError, naming the key, where `apelr.model_config` is none."""
        plain = self.apelr.get("model_config")
        version = plain.get("version") if isinstance(plain, Mapping) else None
        if not isinstance(plain, Mapping) or not isinstance(version, str) or version not in MODEL_VERSIONS:
            raise ValueError(f"apelr.model_config.version must be one of {', '.join(MODEL_VERSIONS)}, got {version!r}")
        found: ModelConfig = config_from_plain(MODEL_VERSIONS[version], plain, "apelr.model_config.")
        return found
