"""The order of a mixture: whose document comes next."""

from collections.abc import Iterator, Sequence

from apelr_data.text_policy import CleanText


def interleave(sources: Sequence[Iterator[CleanText]], weights: Sequence[float]) -> Iterator[tuple[int, CleanText]]:
    """Documents of several sources -> (number of the source, document), until a source that is next has ended.

    Next is the source that has given the fewest characters for its weight so far, the first of equals. So the
    order depends on the documents and the weights alone, and at any time the characters of two sources, each by
    its weight, differ by no more than the longest document of one of them. Every source has its turn before any
    has a second one. Dropped documents count for nothing.
    """
    given = [0] * len(sources)
    while True:
        number = min(range(len(sources)), key=lambda i: given[i] / weights[i])
        document = next(sources[number], None)
        if document is None:
            return
        given[number] += document.report.characters
        yield number, document
