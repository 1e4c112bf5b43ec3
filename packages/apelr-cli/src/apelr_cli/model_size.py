"""What a model costs, in words: for a run that starts and for one that is only tried."""

from apelr_model import ModelCosts, PlannerLM

__all__ = ["describe_costs"]


def describe_costs(model: PlannerLM, costs: ModelCosts) -> list[str]:
    """Parameters in all, parameters by part, operations of a token's forward pass: a line each."""
    parts, flops = costs
    millions = ", ".join(f"{name} {count / 1e6:.3g}" for name, count in flops.items())
    return [
        f"{model.config.version}: {sum(parts.values()):,} parameters with a vocabulary of {model.vocab_size:,}",
        ", ".join(f"{name} {count:,}" for name, count in parts.items()),
        f"{sum(flops.values()) / 1e6:.3g} MFLOPs a token forwards: {millions}",
    ]
