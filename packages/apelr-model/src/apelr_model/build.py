"""From a configuration to a model: the one place that picks the parts of a version."""

from torch import nn

from apelr_model.config import MixtureOfSoftmaxesConfig, ModelConfig, TransformerLMConfig, V1Config, V2Config
from apelr_model.context_gate import ContextGate
from apelr_model.executor_factory import build_executor
from apelr_model.head import Head
from apelr_model.head_config import DenseHeadConfig
from apelr_model.head_experts import ExpertHead
from apelr_model.head_factorized import FactorizedHead
from apelr_model.head_v1 import V1Head
from apelr_model.planner import Planner
from apelr_model.planner_lm import PlannerLM
from apelr_model.planner_versions import V1Planner, V2Planner

__all__ = ["build_model", "planner_and_head"]


def build_model(config: ModelConfig, vocab_size: int) -> PlannerLM:
    """The model that a configuration describes, with fresh parameters. Raises ValueError for a vocabulary below 2."""
    if vocab_size < 2:
        raise ValueError(f"vocab_size must be >= 2, got {vocab_size}")
    executor = build_executor(
        config.executor,
        vocab_size=vocab_size,
        token_dim=config.token_dim,
        hidden_dim=config.hidden_dim,
        num_layers=config.num_layers,
        dropout=config.dropout,
    )
    embedding = executor.token_emb.weight
    assert isinstance(embedding, nn.Parameter), "every executor that can be configured has an embedding"
    if getattr(config, "tie_embeddings", False):  # as rows of an output projection they must not be of unit variance
        nn.init.normal_(embedding, std=config.token_dim**-0.5)
    planner, head = planner_and_head(config, vocab_size, embedding)
    return PlannerLM(config, vocab_size, executor=executor, planner=planner, head=head)


def planner_and_head(config: ModelConfig, vocab_size: int, embedding: nn.Parameter) -> tuple[Planner, Head]:
    """What a version has on top of an executor; `embedding` [V, E] is used where its output is tied to it."""
    match config:
        case V1Config():
            head = V1Head(
                vocab_size=vocab_size,
                num_plan_states=config.num_plan_states,
                hidden_dim=config.hidden_dim,
                fusion_dim=config.fusion_dim,
                dropout=config.dropout,
                weight=embedding if config.tie_embeddings else None,
            )
            return V1Planner(config), head
        case V2Config():
            return V2Planner(config), _plan_head(config, vocab_size)
        case MixtureOfSoftmaxesConfig(num_plan_states=count):
            return ContextGate(num_plan_states=count, hidden_dim=config.hidden_dim), _plan_head(config, vocab_size)
        case TransformerLMConfig():
            gate = ContextGate(num_plan_states=1, hidden_dim=config.hidden_dim)
            return gate, _experts(config, vocab_size, 1, embedding if config.tie_embeddings else None)
    raise TypeError(f"config must be a model configuration, got {type(config).__name__}")


def _plan_head(config: V2Config | MixtureOfSoftmaxesConfig, vocab_size: int) -> Head:
    if isinstance(config.head, DenseHeadConfig):
        return _experts(config, vocab_size, config.num_plan_states, spread=config.head.init_spread)
    return FactorizedHead(
        vocab_size=vocab_size,
        num_plan_states=config.num_plan_states,
        hidden_dim=config.hidden_dim,
        dropout=config.dropout,
        rank=config.head.rank,
        init_std=config.head.init_std,
    )


def _experts(
    config: ModelConfig, vocab_size: int, count: int, weight: nn.Parameter | None = None, spread: float = 1.0
) -> ExpertHead:
    return ExpertHead(
        vocab_size=vocab_size,
        num_plan_states=count,
        hidden_dim=config.hidden_dim,
        dropout=config.dropout,
        spread=spread,
        weight=weight,
    )
