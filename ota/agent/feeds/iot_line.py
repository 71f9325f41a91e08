"""Keeping a channel to the broker open, by whichever way there is, for as long as the agent runs.

One thread does it:

1. wait a random moment, so that a plant that gets its power back does not come all at once;
2. try the ways in their order: MQTT, MQTT on port 443, HTTPS. The first that opens is used;
3. stay until it ends. On a way that is not the first one, look again now and then whether the
   first one works meanwhile; the old one is kept until it does;
4. pause and begin at 2. Pauses double up to five minutes and are random; a connection that lasts
   a minute makes them short again, one that ends sooner (taken over, thrown out) does not.

>>> line = Line(ways, changed, start_jitter=10.0)
>>> line.start()
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from ota.agent.feeds.iot_channel import Channel
from ota.agent.feeds.iot_trouble import outage
from ota.agent.feeds.wire import OnEnd
from signing.errors import OtaError, Outage

LONGEST: Final = 300.0
"""Longest pause between two tries, in seconds."""
AGAIN: Final = 900.0
"""Seconds on a way that is not the first one before the first one is tried again."""
_STEADY: Final = 60.0
_GOODBYE: Final = 2.0
_TAKEN_OVER: Final = 6

Way = Callable[[OnEnd], Channel]
"""Opens a channel, and says later why it ended; raises ``Outage``."""


class Line:
    """See the module. ``changed`` is notified whenever ``channel`` or ``trouble`` changes."""

    def __init__(
        self, ways: Sequence[Way], changed: threading.Condition, *, start_jitter: float
    ) -> None:
        self._ways = ways
        self._changed = changed
        self._jitter = start_jitter
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.channel: Channel | None = None
        self.trouble: Outage | None = None

    def start(self) -> None:
        """Begin, once; and again, after a while, if a fault of ours has ended the thread."""
        if self._thread is not None and not self._thread.is_alive() and not self._closing.is_set():
            self.trouble = outage("feed-fault", "the feed's own thread ended")
            self._jitter = max(self._jitter, _STEADY)
            self._thread = None
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ota-feed", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Say goodbye to the broker and end; a try that hangs is left to itself."""
        self._closing.set()
        with self._changed:
            old, self.channel = self.channel, None
            self._changed.notify_all()
        if old is not None:
            old.close()
        if self._thread is not None:
            self._thread.join(_GOODBYE)

    def failed(self, channel: Channel, why: Outage) -> None:
        """A channel ended, or did not work; any but the one in use is nobody's any more."""
        with self._changed:
            if self.channel is channel:
                self.channel, self.trouble = None, why
                self._changed.notify_all()

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        # (1)
        self._closing.wait(self._jitter * random.random())  # noqa: S311 - spreads load
        failures = 0
        while not self._closing.is_set():
            began = time.monotonic()
            # (2), (3)
            number = self._first_of(self._ways)
            while number is not None and self._lasts(None if number == 0 else AGAIN):
                better = self._first_of(self._ways[:number], keep=True)
                number = number if better is None else better
            # (4)
            failures = 0 if time.monotonic() - began > _STEADY else failures + 1
            if self.trouble is not None and self.trouble.code == "feed-taken-over":
                failures = max(failures, _TAKEN_OVER)
            self._closing.wait(pause(failures, random.random()))  # noqa: S311 - spreads load

    def _first_of(self, ways: Sequence[Way], *, keep: bool = False) -> int | None:
        """The number of the first way that opens, which is used from now on; None for none."""
        worst: Outage | None = None
        for number, way in enumerate(ways):
            if self._closing.is_set():
                return None
            try:
                self._open(way)
            except OtaError as e:
                why = e if isinstance(e, Outage) else outage("feed-rejected", str(e))
                if worst is None or worst.code == "feed-unreachable":
                    worst = why  # that a port is blocked says less than what another way says
                continue
            return number
        if not keep:
            with self._changed:
                self.trouble = worst
                self._changed.notify_all()
        return None

    def _open(self, way: Way) -> None:
        """Open one way and use it; raises why it ended, if it has ended already."""
        opened: list[Channel] = []
        ends: list[Outage] = []

        def ended(why: Outage) -> None:
            with self._changed:
                ends.append(why)
            if opened:
                self.failed(opened[0], why)

        channel = way(ended)
        opened.append(channel)
        with self._changed:
            if ends:
                raise ends[0]
            old: Channel | None = channel
            if not self._closing.is_set():
                old, self.channel, self.trouble = self.channel, channel, None
            self._changed.notify_all()
        if old is not None:
            old.close()

    def _lasts(self, seconds: float | None) -> bool:
        """Wait while the channel lasts, at most so long; whether it still does."""
        with self._changed:
            self._changed.wait_for(lambda: self.channel is None or self._closing.is_set(), seconds)
            return self.channel is not None and not self._closing.is_set()


def pause(failures: int, share: float) -> float:
    """Seconds before the next try: random (``share`` of 0 to 1) and longer with every failure."""
    return min(LONGEST, float(2 ** min(failures, 16))) * (0.25 + 0.75 * share)
