"""How often hints may wake this device: whoever can send them must not wear it out.

A hint costs a look: requests, signatures, synced writes. A broker or a thief of one can send them
as fast as the feed takes them, for ever. So there is a store of :data:`BURST` hints, which fills
again by one every :data:`EVERY` seconds; an honest courier never empties it. While it is empty
hints wait in their feed, and the timer goes on.

>>> allowance = Allowance(machine.monotonic)
>>> allowance.take()
>>> allowance.wait()
0.0
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

BURST: Final = 64
EVERY: Final = 10.0


class Allowance:
    """``now`` is monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._left = float(BURST)
        self._at = now()

    def take(self) -> None:
        """One hint less."""
        self._fill()
        self._left -= 1

    def wait(self) -> float:
        """Seconds until the next hint may be taken, 0 for now."""
        self._fill()
        return max(0.0, (1 - self._left) * EVERY)

    def _fill(self) -> None:
        now = self._now()
        self._left = min(BURST, self._left + (now - self._at) / EVERY)
        self._at = now
