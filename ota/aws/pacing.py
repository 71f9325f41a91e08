"""How fast one API is called: a token bucket that learns from being throttled.

AWS counts calls a second for each account, region and operation, and other programs share the
quota. A bucket lets through what it is set to, gives half of it after a throttled call (never
less than a tenth), and finds its way back with every call that succeeds.

>>> bucket = Bucket(rate=10)
>>> bucket.take()                # waits where it must

And :class:`Rest`: what has just failed for a long time is not waited for again at once. A step over
hundreds of orders or devices must not wait for each of them, while a person waits to pause it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from ota.errors import Outage

_RECOVERY: Final = 1.02
REST: Final = 30.0
"""Seconds in which what was throttled, or does not answer, is not asked again."""


class Bucket:
    """``rate`` tokens a second, at most a second's worth at once. Shared by threads."""

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._full = self._rate = rate
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._tokens = max(rate, 1.0)
        self._filled = clock()

    def take(self) -> None:
        """Wait for a token, and take it. Those who wait are served in the order they came."""
        with self._lock:
            now = self._clock()
            most = max(self._rate, 1.0)
            self._tokens = min(most, self._tokens + (now - self._filled) * self._rate) - 1
            self._filled = now
            wait = -self._tokens / self._rate if self._tokens < 0 else 0.0
        if wait:
            self._sleep(wait)

    def slow(self) -> None:
        """A call was throttled."""
        with self._lock:
            self._rate = max(self._full / 10, self._rate / 2)
            self._tokens = min(self._tokens, 0.0)

    def easy(self) -> None:
        """A call succeeded."""
        with self._lock:
            self._rate = min(self._full, self._rate * _RECOVERY)

    @property
    def rate(self) -> float:
        """Tokens a second at the moment."""
        return self._rate


class Rest:
    """What is not asked for a while, by name, and why. Shared by threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, Outage]] = {}

    def begin(self, name: str, error: Outage) -> None:
        """From now on, for :data:`REST` seconds."""
        self._known[name] = (self._clock() + REST, error)

    def check(self, *names: str) -> None:
        """Raise again, without asking, what one of them said a moment ago."""
        for name in names:
            until, said = self._known.get(name, (0.0, None))
            if said is not None and self._clock() < until:
                raise Outage(str(said), code=said.code, subject=said.subject, remedy=said.remedy)
