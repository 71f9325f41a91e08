"""How a step fails, and how much time it has left."""

from __future__ import annotations

import time

from signing.errors import OtaError


class StepFailed(OtaError):
    """The step did not do what it says. ``code`` is for gates, the message for people."""

    code = "failed"


class Clock:
    """The time limit of one step, in monotonic seconds; guards and checks share it."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left; ``StepFailed`` (``timeout``) when there are none."""
        found = self._until - time.monotonic()
        if found <= 0:
            raise StepFailed("its time limit is over", code="timeout")
        return found

    def ends_within(self, seconds: float) -> bool:
        """Whether no more than that is left."""
        return self._until - time.monotonic() <= seconds

    def pause(self, seconds: float) -> None:
        """Wait, but never past the limit."""
        time.sleep(max(0.0, min(seconds, self.left())))
