"""The error that users see."""

import pytest

from apelr_data import DataError
from apelr_data.errors import one_line


def test_a_data_error_is_a_value_error():
    with pytest.raises(ValueError, match="said"):
        raise DataError("said")


def test_one_line_is_one_line():
    assert one_line(ValueError("a\n  b\r\n\tc")) == "a b c"
