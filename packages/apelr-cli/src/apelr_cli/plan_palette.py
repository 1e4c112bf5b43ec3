"""Colours of plan states, the same on a terminal and in a report."""

__all__ = ["PALETTE", "state_colour"]

PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999")
"""Eight colours that colour-blind readers can tell apart (Okabe and Ito 2008, grey in place of black).

They are no text colours by themselves: yellow on white and blue on black are hard to read. Beside a colour stands the
state's number, since with more than eight states colours come again.
"""


def state_colour(state: int) -> str:
    """The colour of plan state `state` (from 0), as #rrggbb."""
    return PALETTE[state % len(PALETTE)]
