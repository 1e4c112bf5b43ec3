"""The one place that picks an executor."""

from apelr_model.executor import Executor, GRUExecutor
from apelr_model.executor_config import ExecutorConfig, TransformerConfig
from apelr_model.transformer import TransformerExecutor

__all__ = ["build_executor"]


def build_executor(
    config: ExecutorConfig, *, vocab_size: int, token_dim: int, hidden_dim: int, num_layers: int, dropout: float
) -> Executor:
    """The executor that a configuration describes, with fresh parameters."""
    if isinstance(config, TransformerConfig):
        return TransformerExecutor(
            config,
            vocab_size=vocab_size,
            token_dim=token_dim,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            dropout=dropout,
        )
    return GRUExecutor(
        vocab_size=vocab_size, token_dim=token_dim, hidden_dim=hidden_dim, num_layers=num_layers, dropout=dropout
    )
