"""Between two looks: listen for a hint, hand over reports that wait, keep an eye on the feed.

A report that could not be handed over does not wait for the next look: a device that was offline
when its update ended says so soon after it is back. What keeps the feed from working is logged
once, and stands in ``ota-agent status`` until the feed works again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ota.agent.machine import Machine
from ota.agent.state import State
from ota.ports_device import Feed, Hint
from signing.errors import OtaError, Outage

FIRST_RETRY: Final = 15.0
_TURN: Final = 1.0
"""Seconds of listening at a time; also the least time between two calls of a feed that fails."""
TROUBLE: Final = "feed_trouble"
"""The fact that ``ota-agent status`` shows."""


def note(state: State, trouble: Outage | None) -> bool:
    """Remember what is wrong with the feed, None for nothing; whether that is news."""
    text = "" if trouble is None else f"{trouble.code}: {trouble}"[:400]
    if state.get(TROUBLE) == text:
        return False
    state.put(TROUBLE, text)
    return True


@dataclass
class Waiting:
    """``flush`` hands over reports and says whether none is left; ``log`` takes news."""

    feed: Feed
    state: State
    machine: Machine
    flush: Callable[[], bool]
    log: Callable[[OtaError], None]
    _pause: float = _TURN
    _flush_at: float = 0.0

    def hint(
        self, seconds: float, stopped: Callable[[], bool], *, quiet: float = 0.0
    ) -> Hint | None:
        """A hint, or None after ``seconds``; for ``quiet`` seconds only the rest is done."""
        until = self.machine.monotonic() + seconds
        listen_at = self.machine.monotonic() + quiet
        self._flush_at = max(self._flush_at, self.machine.monotonic() + _TURN)
        while (left := until - self.machine.monotonic()) > 0 and not stopped():
            self._hand_over()
            turn = min(left, _TURN)
            listen = self.machine.monotonic() >= listen_at
            hint = self._heard(turn) if listen else None
            if hint is not None:
                return hint
            if not listen:
                self.machine.sleep(turn)
        return None

    def _heard(self, turn: float) -> Hint | None:
        began = self.machine.monotonic()
        try:
            hint = self.feed.next(turn)
        except Outage as e:
            if note(self.state, e):
                self.log(e)
            self.machine.sleep(max(0.0, turn - (self.machine.monotonic() - began)))
            return None
        note(self.state, None)
        return hint

    def _hand_over(self) -> None:
        """Try reports that wait, sooner at first and then every :data:`FIRST_RETRY` seconds."""
        now = self.machine.monotonic()
        if now < self._flush_at:
            return
        if not self.state.waits():
            self._pause, self._flush_at = _TURN, now
            return
        self._pause = _TURN if self.flush() else min(2 * self._pause, FIRST_RETRY)
        self._flush_at = self.machine.monotonic() + self._pause
