"""Patience with what is refused again and again: later and later, never for ever.

>>> patience.remember("ota-app-2-x7k2m9-u1-w0-b0", "refused")
>>> patience.too_soon("ota-app-2-x7k2m9-u1-w0-b0")
True
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ota.agent.waiting import FIRST_RETRY

_LONGEST: Final = 6 * 3600.0


class Patience:
    """Bytes that were refused are not fetched every few minutes.

    Kept in memory and in monotonic time, so neither a wrong clock nor a restart can keep an honest
    update away. One order at a time: what ends otherwise, or another order, starts anew.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._order = ""
        self._count = 0
        self._until = 0.0

    def too_soon(self, order: str) -> bool:
        """Whether this order was refused a short while ago."""
        return order == self._order and self._monotonic() < self._until

    def remember(self, order: str, outcome: str) -> None:
        """How a try of this order ended."""
        self._count = self._count + 1 if order == self._order else 1
        self._order = order if outcome == "refused" else ""
        self._until = self._monotonic() + min(_LONGEST, FIRST_RETRY * 2 ** min(self._count, 16))
