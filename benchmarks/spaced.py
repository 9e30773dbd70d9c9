"""Which pictures of a split a benchmark takes: evenly spaced ones, so that all people are among them."""

from commin.data.imageset import Entry


def spaced(entries: list[Entry], count: int) -> list[Entry]:
    """``count`` of the entries, evenly spaced; all of them where there are no more."""
    count = min(count, len(entries))
    return [entries[i * len(entries) // count] for i in range(count)]
