"""The words of plan states in one text: what each state would rather have said at its places than the mixture did."""

from collections.abc import Sequence

import torch

from apelr_model.batches import SEGMENT
from apelr_model.planner_lm import PlannerLM
from apelr_model.policy import PlanPolicy
from apelr_model.scoring import eval_mode
from apelr_model.state_words import RaisedToken, VocabularySums, raised_tokens, vocabulary_sums

__all__ = ["typical_tokens"]


@torch.no_grad()
def typical_tokens(
    model: PlannerLM, ids: Sequence[int], *, count: int = 5, policy: PlanPolicy | None = None
) -> tuple[tuple[RaisedToken, ...], ...]:
    """ids x_0 ... x_T -> for each of the K plan states at most `count` tokens that it raises most, by lift.

    Lift is the mean probability under the state over that in the mixture, both over the text's targets; only tokens
    that the state gives at least 1 / V. It costs one reading of the text. Nothing is raised in a text without targets.
    """
    if len(ids) < 2:
        return ((),) * model.num_plan_states
    row = torch.tensor([list(ids)], device=model.device)
    state, sums = model.initial_state(1), []
    with eval_mode(model):
        for start in range(0, len(ids) - 1, SEGMENT):
            part = row[:, start : start + SEGMENT + 1]
            reading = model.read(part[:, :-1], part[:, 1:], state=state, policy=policy)
            state = reading.state
            sums.append(vocabulary_sums(model.head, reading.hidden[0], reading.filtered.log_gate[0]))
    total = VocabularySums(*(torch.stack(parts).sum(0) for parts in zip(*sums, strict=True)))
    return tuple(raised_tokens(total, k, count) for k in range(model.num_plan_states))
