"""The planner language model as a causal language model of the transformers library."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from apelr_model.build import build_model
from apelr_model.checkpoint import Checkpoint
from apelr_model.hf.cache import ApelrCache
from apelr_model.hf.configuration import ApelrConfig
from apelr_model.hf.reading import NextTokens, read_next_tokens
from apelr_model.hf.remote_code import AUTO_MAP, write_remote_code
from apelr_model.policy import PlanPolicy
from apelr_model.portable import describe_checkpoint, tied_tensors

__all__ = ["ApelrForCausalLM", "ApelrOutput"]


@dataclass
class ApelrOutput(CausalLMOutputWithPast):
    """What a forward pass gives: as of any causal language model, with the plan beside it."""

    log_belief: Tensor | None = None
    """[B, N, K] log-probability of each plan state before the next token, at the columns of `logits`."""
    log_gate: Tensor | None = None
    """[B, N, K] log-weights of the plan states in `logits`: the belief, but for a policy that says more."""


class ApelrForCausalLM(PreTrainedModel, GenerationMixin):
    """Any model version of ours. `logits` are the mixture's log-probabilities: their softmax is our distribution.

    `planner_lm` is the model itself, for everything that this library has no word for. `policy`, where it is not None,
    says how the belief is used (`PlanPolicy`: force a state, switch the planner off, ...).
    """

    config_class = ApelrConfig
    main_input_name = "input_ids"
    accepts_loss_kwargs = True
    _is_stateful = True

    def __init__(self, config: ApelrConfig) -> None:
        """A model with fresh parameters, as `build_model` makes it."""
        super().__init__(config)
        self.planner_lm = build_model(config.model_config, config.vocab_size)
        self.policy: PlanPolicy | None = None
        prefix = "planner_lm."
        self._tied_weights_keys = {prefix + left: prefix + kept for left, kept in tied_tensors(config.model_config)}
        self.post_init()

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, **more: Any) -> Self:
        """The model of a checkpoint, in its precision; `more` are fields of the config, such as `eos_token_id`."""
        model = cls(ApelrConfig(describe_checkpoint(checkpoint), **more))
        model.to(next(iter(checkpoint.model.values())).dtype)
        model.planner_lm.load_state_dict(checkpoint.model, strict=True)
        model.eval()
        return model

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **more: Any) -> Any:
        """As of any model, but strict: ValueError, naming them, for tensors that are missing or not the model's."""
        with_info = more.pop("output_loading_info", False)
        model, found = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **more)
        for what in ("missing", "unexpected", "mismatched"):
            if names := sorted(map(str, found[f"{what}_keys"])):
                raise ValueError(f"{pretrained_model_name_or_path} has {what} tensors: {', '.join(names[:5])}")
        return (model, found) if with_info else model

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], is_main_process: bool = True, **more: Any
    ) -> None:
        """As of any model; the folder can also be loaded with `trust_remote_code=True`."""
        self.config.auto_map = dict(AUTO_MAP)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **more)
        if is_main_process:
            write_remote_code(Path(save_directory))

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the parts of the model have initialised themselves."""

    def _adjust_bias(self, *args: Any) -> None:
        """Nothing: a head's bias [K, V] has the vocabulary on its second axis, and its size never changes."""

    def get_input_embeddings(self) -> nn.Module:
        """The executor's token embedding."""
        return self.planner_lm.executor.token_emb

    def get_output_embeddings(self) -> None:
        """None: there is one output layer a plan state, and none of them alone gives the logits."""
        return None

    def resize_token_embeddings(self, *args: Any, **more: Any) -> Any:
        """Raises ValueError: vocabulary and plan states were learnt together."""
        raise ValueError("the vocabulary of an APEL-R model cannot be resized; train a new model")

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: ApelrCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> ApelrOutput | tuple[Any, ...]:
        """input_ids [B, S], attention_mask [B, (past +) S], labels [B, S] -> ApelrOutput.

        A masked column is not there: neither executor nor belief sees it, and chunk positions do not count it. `logits`
        [B, N, V] are of the last N = `logits_to_keep` columns (0, or with labels: all). `labels` are `input_ids`
        (shifted here; -100 left out): the loss is their mean NLL in nats, or their sum over `num_items_in_batch`.
        Without labels a cache is kept unless `use_cache` is false. Raises ValueError for a row that is masked
        altogether, another kind of cache, chosen columns as `logits_to_keep`, and a mask or labels of another shape;
        ImpossibleObservationError for a token that no plan allows.
        """
        if type(logits_to_keep) is not int or logits_to_keep < 0:
            raise ValueError(f"logits_to_keep must be a whole number >= 0, got {logits_to_keep!r}")
        cache = _own_cache(past_key_values)
        keep = _mask_of(attention_mask, input_ids, 0 if cache is None else cache.columns)
        use_cache = labels is None if use_cache is None else use_cache
        if cache is None and use_cache:
            cache = ApelrCache(self.planner_lm.executor)
        policy = self.planner_lm.policy if self.policy is None else self.planner_lm.check_policy(self.policy)
        found = read_next_tokens(
            self.planner_lm,
            input_ids,
            keep,
            None if cache is None else cache.pending,
            policy,
            keep_state=cache is not None,
            last=0 if labels is not None else logits_to_keep,
            pad_id=self.config.pad_token_id,
        )
        if cache is not None:
            cache.advance(found.pending, input_ids.shape[1])
        loss = None if labels is None else self._loss(found, labels, keep, num_items_in_batch)
        output = ApelrOutput(
            loss=loss,
            logits=found.log_probs,
            past_key_values=cache,
            log_belief=found.log_belief,
            log_gate=found.log_gate,
        )
        return output.to_tuple() if return_dict is False else output

    def _loss(
        self, found: NextTokens, labels: Tensor, keep: Tensor | None, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """Mean NLL of the labels that are kept and have a kept token before them."""
        if labels.shape != found.log_probs.shape[:2]:
            raise ValueError(f"labels must be {list(found.log_probs.shape[:2])}, got {list(labels.shape)}")
        if keep is not None:
            read = keep.long().cumsum(1) > 1
            labels = labels.masked_fill(~(keep & read), -100)
        loss: Tensor = self.loss_function(
            logits=found.log_probs,
            labels=labels,
            vocab_size=self.config.vocab_size,
            num_items_in_batch=num_items_in_batch,
        )
        return loss

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *args: Any, **more: Any
    ) -> None:
        """`generate()` gets an ApelrCache. Raises ValueError for any other, and as the assistant of another model."""
        if generation_config.is_assistant:
            raise ValueError("an APEL-R model cannot be an assistant: its belief cannot be rolled back")
        if generation_config.cache_implementation is not None:
            raise ValueError(
                f"cache_implementation must not be given, got {generation_config.cache_implementation!r}: "
                "executor and belief have a cache of their own"
            )
        given = _own_cache(model_kwargs.get("past_key_values"))
        if given is None and generation_config.use_cache is not False:
            model_kwargs["past_key_values"] = ApelrCache(self.planner_lm.executor)


def _own_cache(given: object) -> ApelrCache | None:
    if given is None or isinstance(given, ApelrCache):
        return given
    raise ValueError(f"past_key_values must be an ApelrCache, got {type(given).__name__}")


def _mask_of(attention_mask: Tensor | None, ids: Tensor, past: int) -> Tensor | None:
    """attention_mask [B, past + S] -> bool [B, S], of the columns of `ids`."""
    if attention_mask is None:
        return None
    batch, columns = ids.shape
    if attention_mask.shape != (batch, past + columns):
        raise ValueError(f"attention_mask must be {[batch, past + columns]}, got {list(attention_mask.shape)}")
    return attention_mask[:, past:].bool()
