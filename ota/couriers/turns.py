"""Taking turns: no device's pile of reports starves another's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def round_robin(piles: Iterable[Iterator[T]]) -> Iterator[T]:
    """One of each pile in turn, until all are empty.

    >>> list(round_robin([iter("abc"), iter("x")]))
    ['a', 'x', 'b', 'c']
    """
    queues = list(piles)
    while queues:
        going = []
        for queue in queues:
            for item in queue:
                going.append(queue)
                yield item
                break
        queues = going
