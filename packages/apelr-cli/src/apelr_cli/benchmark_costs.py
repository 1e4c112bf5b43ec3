"""What a model has to do for a token: operations of a training step, bytes of a decoded token (docs/benchmarks.md)."""

from torch import nn

from apelr_model import PlannerLM, V1Config, V2Config, count_costs

__all__ = ["decoding_bytes", "training_flops"]


def training_flops(model: PlannerLM, targets: int) -> float:
    """Operations of a training step for one token, on average over a row of `targets` targets.

    Three times those of the forward pass. With several plan states in a chain the head's once more: the gradient needs
    the smoothed beliefs, these need the likelihoods of the whole row, and the logits are not kept until then. Without
    beliefs a token's own logits give its gradient.
    """
    flops = count_costs(model, targets).flops_per_token
    believes = isinstance(model.config, V1Config | V2Config) and model.num_plan_states > 1
    return 3 * sum(flops.values()) + (flops["head"] if believes else 0.0)


def decoding_bytes(model: PlannerLM) -> int:
    """Bytes of weights that one step of decoding reads, for any number of rows.

    All of executor and head, each once, but the embedding, of which a row is read, unless it is the output layer too.
    The planner's few thousand, and a transformer's keys and values, few in short texts, come on top.
    """
    assert isinstance(model.head, nn.Module), "a head with parameters is a module"
    head = list(model.head.parameters())
    own = [p for p in model.executor.parameters() if p is not model.executor.token_emb.weight]
    shared = {id(parameter) for parameter in head}
    read = head + [parameter for parameter in own if id(parameter) not in shared]
    return sum(parameter.numel() * parameter.element_size() for parameter in read)
