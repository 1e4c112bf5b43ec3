"""Our models as the harness sees one: `--model apelr`. Needs lm-eval; registers the name when it is imported."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import click
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.utils import simple_parse_args_string
from tqdm import tqdm

from apelr_cli.harness.arguments import read_arguments
from apelr_cli.harness.generation import continue_texts
from apelr_cli.harness.requests import encode_documents, encode_pairs, read_generation
from apelr_cli.loading import LoadedModel, load_model
from apelr_cli.plan_choice import choose_policy
from apelr_model import Continuation, ContinuationScore, PlanPolicy, score_continuations

__all__ = ["ApelrLM"]

ITS_DEFAULT_DEVICE = "cuda:0"
"""What the harness's command says where the user says nothing: read as auto."""


@register_model("apelr")
class ApelrLM(LM):  # type: ignore[misc]  # the harness has no types
    """Log-likelihoods and continuations for the harness, in batches; no answer depends on the batch.

    Nothing is cut off: a text of any length is read in segments, with state and belief carried on.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        batch_size: int = 16,
        max_gen_toks: int = 256,
        seed: int = 0,
        policy: PlanPolicy | None = None,
        freeze_planner: bool = False,
    ) -> None:
        """Answer with a loaded model; `ModelArguments` says what the settings are."""
        super().__init__()
        self.loaded = loaded
        self.batch_size = batch_size
        self.max_gen_toks = max_gen_toks
        self.seed = seed
        self.policy = loaded.model.policy if policy is None else loaded.model.check_policy(policy)
        self.freeze_planner = freeze_planner
        self._device = loaded.model.device

    @classmethod
    def create_from_arg_obj(cls, arg_dict: Mapping[str, Any], additional_config: dict[str, Any] | None = None) -> Self:
        """Load the checkpoint that the arguments name (`ModelArguments`); they go before the command's own options.

        Raises ValueError, and click.UsageError for an intervention that the model has no use for.
        """
        given = {name: value for name, value in (additional_config or {}).items() if value is not None}
        if given.get("device") == ITS_DEFAULT_DEVICE:
            del given["device"]
        arguments = read_arguments({**given, **arg_dict})
        loaded = load_model(
            Path(arguments.checkpoint),
            arguments.device,
            tokenizer=None if arguments.tokenizer is None else Path(arguments.tokenizer),
            allow_unexpected=arguments.allow_unexpected,
        )
        choice = choose_policy(loaded.model, arguments.plan())
        if choice.notice is not None:
            click.echo(choice.notice, err=True)
        return cls(
            loaded,
            batch_size=arguments.batch_size,
            max_gen_toks=arguments.max_gen_toks,
            seed=arguments.seed,
            policy=choice.policy,
            freeze_planner=choice.freeze_planner,
        )

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Self:
        """The same from `key=value,key=value`."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @property
    def tokenizer_name(self) -> str:
        """What the tokenizer is, for caches of requests."""
        return self.loaded.tokenizer.fingerprint

    def get_model_info(self) -> dict[str, Any]:
        """What the results record of the model."""
        model = self.loaded.model
        return {
            "model_version": model.config.version,
            "model_num_parameters": sum(parameter.numel() for parameter in model.parameters()),
            "model_dtype": str(next(model.parameters()).dtype),
            "model_device": str(model.device),
            "tokenizer_fingerprint": self.loaded.tokenizer.fingerprint,
            "policy": str(self.policy),
            "freeze_planner": self.freeze_planner,
        }

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """log p(continuation | context) in nats, and whether greedy decoding would give the continuation."""
        asked = encode_pairs(self.loaded.tokenizer, [request.args for request in requests])
        answers: dict[int, tuple[float, bool]] = {}
        for score in self._scores(asked, "loglikelihood", disable_tqdm, find_greedy=True):
            answers[score.number] = (score.log_prob, score.is_greedy)
            self.cache_hook.add_partial("loglikelihood", requests[score.number].args, answers[score.number])
        return [answers[number] for number in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """log p(document | BOS) in nats, in one pass over the whole document."""
        asked = encode_documents(self.loaded.tokenizer, [request.args[0] for request in requests])
        answers: dict[int, float] = {}
        for score in self._scores(asked, "loglikelihood_rolling", disable_tqdm, find_greedy=False):
            answers[score.number] = score.log_prob
            self.cache_hook.add_partial("loglikelihood_rolling", requests[score.number].args, score.log_prob)
        return [answers[number] for number in range(len(requests))]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Each context's continuation, up to a stop text, EOS or the most tokens."""
        asked = [read_generation(*request.args, max_new_tokens=self.max_gen_toks) for request in requests]
        made = continue_texts(
            self.loaded,
            asked,
            batch_size=self.batch_size,
            seed=self.seed,
            policy=self.policy,
            freeze_planner=self.freeze_planner,
        )
        answers: dict[int, str] = {}
        for each in tqdm(made, "generate_until", len(asked), disable=disable_tqdm):
            answers[each.number] = each.text
            self.cache_hook.add_partial("generate_until", requests[each.number].args, each.text)
        return [answers[number] for number in range(len(requests))]

    def _scores(
        self, asked: Sequence[Continuation], title: str, disable_tqdm: bool, *, find_greedy: bool
    ) -> Iterator[ContinuationScore]:
        scores = score_continuations(
            self.loaded.model, asked, batch_size=self.batch_size, find_greedy=find_greedy, policy=self.policy
        )
        yield from tqdm(scores, title, len(asked), disable=disable_tqdm)
