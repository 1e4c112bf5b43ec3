"""Stop strings in text that arrives in pieces."""

from collections.abc import Sequence

__all__ = ["StopStrings"]


class StopStrings:
    """Passes text on up to the first stop string, and holds back what may yet become one.

    The stop string that is complete first counts, and of two that end together the longer one, so that the
    outcome does not depend on how the text is cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Stop at any of `stops`. Raises ValueError for an empty one."""
        if not all(stops):
            raise ValueError("a stop string must not be empty")
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The part of what came so far that is certain to stand before any stop string, and not passed on yet."""
        if self.stopped:
            return ""
        self._held += text
        found = [(self._held.find(stop) + len(stop), -len(stop)) for stop in self._stops if stop in self._held]
        if found:
            end, negative_length = min(found)
            self.stopped = True
            passed, self._held = self._held[: end + negative_length], ""
            return passed
        return self._pass_on(len(self._held) - self._possible_start())

    def finish(self) -> str:
        """What was held back, now that no more text will come."""
        return self._pass_on(len(self._held))

    def _pass_on(self, count: int) -> str:
        passed, self._held = self._held[:count], self._held[count:]
        return passed

    def _possible_start(self) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
