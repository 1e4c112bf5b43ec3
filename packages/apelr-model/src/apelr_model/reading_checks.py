"""What a reading may not hold is said in one line, before a number is made of it."""

import torch
from torch import Tensor

from apelr_model.errors import ImpossibleObservationError, NonFiniteError
from apelr_model.model_state import Reading

__all__ = ["refuse_impossible", "refuse_nan"]


def refuse_nan(reading: Reading, valid: Tensor | None = None) -> None:
    """Raise NonFiniteError where a state, log-probability or belief of a (valid [B, T]) target is NaN: damaged weights.

    Weights may be finite and yet so large that their products are not; a log-probability of minus infinity is fine.
    """
    filtered = reading.filtered
    for found in (reading.hidden, reading.state_log_probs, filtered.token_log_prob, filtered.log_belief):
        counted = found if valid is None else found[valid.to(found.device)]
        if bool(counted.isnan().any()):
            raise NonFiniteError("the model's log-probabilities hold NaN; its parameters are damaged")


def refuse_impossible(token_log_prob: Tensor) -> None:
    """token_log_prob [B, T]: raise ImpossibleObservationError, naming the target, where one is minus infinity."""
    impossible = token_log_prob == -torch.inf
    if bool(impossible.any()):
        row, position = (int(i) for i in impossible.nonzero()[0])
        raise ImpossibleObservationError(
            f"target {position} of row {row} has probability zero under every plan state: its NLL is infinite"
        )
