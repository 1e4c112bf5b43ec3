"""Damaged parameters show as NaN in what a model reads: said in one line, before a number is made of it."""

from torch import Tensor

from apelr_model.errors import NonFiniteError
from apelr_model.planner_lm import Reading

__all__ = ["refuse_nan"]


def refuse_nan(reading: Reading, valid: Tensor | None = None) -> None:
    """Raise NonFiniteError where a state, log-probability or belief of a (valid [B, T]) target is NaN.

    Weights may be finite and yet so large that their products are not; a log-probability of minus infinity is fine.
    """
    filtered = reading.filtered
    for found in (reading.hidden, reading.state_log_probs, filtered.token_log_prob, filtered.log_belief):
        counted = found if valid is None else found[valid.to(found.device)]
        if bool(counted.isnan().any()):
            raise NonFiniteError("the model's log-probabilities hold NaN; its parameters are damaged")
