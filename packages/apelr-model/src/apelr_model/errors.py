"""The named errors of the model package; each is a ValueError with one line that says what to do."""

__all__ = ["CheckpointError", "ImpossibleObservationError", "LostProcessError", "NonFiniteError"]


class ImpossibleObservationError(ValueError):
    """A target has probability zero under every plan state that is still possible: its NLL is infinite."""


class NonFiniteError(ValueError):
    """A loss term or the gradient is NaN or infinite; raised before the optimizer takes the step."""


class CheckpointError(ValueError):
    """A checkpoint cannot be read: damaged, of an unknown form, or in disagreement with its own config."""


class LostProcessError(ValueError):
    """Another of the processes that train a model together has ended, or no longer answers."""
