"""What training takes of each device: bytes that stay and bytes that are sent, by arithmetic alone."""

__all__ = ["ring_bytes", "state_bytes"]

PARAMETER = 4
"""Bytes of a parameter, of its gradient, and of each of AdamW's two moments: all are kept in float32."""


def state_bytes(parameters: int) -> int:
    """Parameters, gradients and moments of the whole model."""
    return 4 * PARAMETER * parameters


def ring_bytes(parameters: int, processes: int) -> float:
    """What each process sends to sum the gradients of the whole model over a ring: all but its own share, twice."""
    return 2 * (processes - 1) / processes * PARAMETER * parameters
