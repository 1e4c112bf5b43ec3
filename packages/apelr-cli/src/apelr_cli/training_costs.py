"""What training takes of each device: bytes that stay and bytes that are sent, by arithmetic alone."""

__all__ = ["gathered_bytes", "ring_bytes", "sharded_ring_bytes", "state_bytes"]

PARAMETER = 4
"""Bytes of a parameter, of its gradient, and of each of AdamW's two moments: all are kept in float32."""


def state_bytes(parameters: int) -> int:
    """Parameters, gradients and moments of the whole model."""
    return 4 * PARAMETER * parameters


def ring_bytes(parameters: int, processes: int) -> float:
    """What each process sends to sum the gradients of the whole model over a ring: all but its own share, twice."""
    return 2 * (processes - 1) / processes * PARAMETER * parameters


def sharded_ring_bytes(rest: int, layers: int, processes: int) -> float:
    """What each process sends for a micro-batch of sharded parameters: `layers` parameters in layers, `rest` elsewhere.

    Gathered before use (layers again on the way back), and gradients scattered: over a ring all but the own share each.
    """
    return (processes - 1) / processes * PARAMETER * (3 * layers + 2 * rest)


def gathered_bytes(rest: int, largest_layer: int) -> int:
    """What of sharded parameters is whole at a time, with its gradient: all but the layers, one layer and the next."""
    return 2 * PARAMETER * (rest + 2 * largest_layer)
