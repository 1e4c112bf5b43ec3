"""What all tests of the repository's own programs share."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def ordinary_arithmetic() -> Iterator[None]:
    """A command run inside this process leaves tiny numbers counting as zero, which hypothesis cannot do with."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
