"""An end for one look that nobody waits for: first asked for, then enforced.

At the limit a download is left as it is, to be continued; whatever has not ended
:data:`GRACE` seconds later is broken off where it stands. Every step of an update is stored before
it is taken, so the next look goes on from there, as after a power cut.

>>> with within(3600.0) as stopping:
...     agent.applier.stopping = stopping
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from signing.errors import Malformed, StillRunning

GRACE: Final = 60.0


class _Over(BaseException):
    """Raised where the look stands; no handler of errors takes it for one of its own."""


@contextmanager
def within(seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Yield "is it time to stop?"; raise ``StillRunning`` at the end of the grace."""
    if seconds is None:
        yield bool
        return
    if not 0 < seconds <= 7 * 86_400:
        raise Malformed("--time-limit: more than 0 and at most 604800 seconds")
    rung: list[int] = []

    def ring(number: int, _frame: object) -> None:
        rung.append(number)
        if len(rung) > 1:
            raise _Over

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, GRACE)
    try:
        yield lambda: bool(rung)
    except _Over as e:
        raise StillRunning(
            f"stopped after {seconds + GRACE:g} seconds", remedy="ota-agent once"
        ) from e
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
