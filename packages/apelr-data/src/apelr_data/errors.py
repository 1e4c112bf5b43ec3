"""The one exception that this package raises for what a user can cause."""


class DataError(ValueError):
    """A corpus, a file or a setting that cannot be used; the message is one line that says how to go on."""


def one_line(text: object) -> str:
    """`str(text)` with every run of white space, line ends among them, as one space."""
    return " ".join(str(text).split())
