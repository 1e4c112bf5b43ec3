"""V1 and V2 with a GRU, token by token from the equations of docs/math.md, in plain torch.

It shares nothing with the package but the names of the parameters: what it gives is held against the package's NLL
and gradients in tests, and its speed is the ordinary one of a program that loops over tokens.
"""

import torch
from torch import Tensor

from apelr_model import PlannerLM, V1Config, V2Config


def reference_nll(model: PlannerLM, inputs: Tensor, targets: Tensor) -> Tensor:
    """inputs [B, T], targets [B, T] -> -log p(y_t | x_<=t) [B, T], nats; gradients reach the model's parameters."""
    config, values = model.config, dict(model.named_parameters())
    assert isinstance(config, V1Config | V2Config), "only V1 and V2 have a plan"
    hidden = _hidden(values, config.num_layers, inputs)
    found = _state_log_probs(values, config, torch.stack(hidden, dim=1), targets)
    log_belief = values["planner.initial_logits"].log_softmax(-1).expand(len(inputs), -1)
    log_transition = values["planner.transition_logits"].log_softmax(-1)
    nll = []
    for t in range(inputs.shape[1]):
        summary = _summary_at(config, hidden, t)
        if summary is not None:  # a boundary is crossed before target t
            log_belief = torch.logsumexp(log_belief.unsqueeze(2) + log_transition, dim=1)
            if config.boundary_evidence:
                read = summary @ values["planner.context_proj.weight"].T + values["planner.context_proj.bias"]
                log_belief = log_belief + config.planner_context_scale * read
            log_belief = log_belief.log_softmax(-1)
        seen = log_belief + found[:, t]
        nll.append(-torch.logsumexp(seen, dim=-1))  # predict
        log_belief = seen.log_softmax(-1)  # condition
    return torch.stack(nll, dim=1)


def _hidden(values: dict[str, Tensor], layers: int, ids: Tensor) -> list[Tensor]:
    """ids [B, T] -> the top layer's state after each id, T of [B, D]."""
    signal = values["executor.token_emb.weight"][ids]
    for layer in range(layers):
        read_weight, read_bias, kept_weight, kept_bias = (
            values[f"executor.gru.{kind}_l{layer}"] for kind in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
        )
        state = kept_weight.new_zeros(len(ids), kept_weight.shape[1])
        found = []
        for read in torch.nn.functional.linear(signal, read_weight, read_bias).unbind(1):
            of_input = read.chunk(3, dim=-1)
            of_state = torch.nn.functional.linear(state, kept_weight, kept_bias).chunk(3, dim=-1)
            reset, update = torch.sigmoid(of_input[0] + of_state[0]), torch.sigmoid(of_input[1] + of_state[1])
            new = torch.tanh(of_input[2] + reset * of_state[2])
            state = (1 - update) * new + update * state
            found.append(state)
        signal = torch.stack(found, dim=1)
    return found


def _state_log_probs(values: dict[str, Tensor], config: V1Config | V2Config, hidden: Tensor, targets: Tensor) -> Tensor:
    """hidden [B, T, D], targets [B, T] -> l_t(k) = log p(y_t | x_<=t, z = k) [B, T, K], state after state."""
    of_states = []
    for k in range(config.num_plan_states):
        if isinstance(config, V1Config):
            shared = torch.nn.functional.linear(
                hidden, values["head.state_proj.weight"], values["head.state_proj.bias"]
            )
            plan = values["head.plan_proj.weight"] @ values["head.plan_emb.weight"][k]
            logits = torch.tanh(shared + plan) @ values["head.out_proj.weight"].T
            logits = logits + values["head.out_proj.bias"] + values["head.plan_vocab_bias"][k]
        else:
            weight = values["head.weight"].unflatten(0, (config.num_plan_states, -1))[k]
            logits = hidden @ weight.T + values["head.bias"][k]
        of_states.append(logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)))
    return torch.cat(of_states, dim=-1)


def _summary_at(config: V1Config | V2Config, hidden: list[Tensor], t: int) -> Tensor | None:
    """What the evidence is read from at target t [B, D]; None where no boundary lies before it."""
    length = config.chunk_size
    if isinstance(config, V1Config):
        return hidden[t] if t > 0 and t % length == 0 else None
    return torch.stack(hidden[t + 1 - length : t + 1]).mean(0) if (t + 1) % length == 0 else None
