"""The gate: wave, counts and time in; a decision with its reasons out. Pure.

In this order:

1. ``refused`` over its budget: HOLD, whatever the plan says. Evidence of tampering is for a human.
2. ``failed``, ``reverted`` or ``silent`` over budget: the plan's ``on_failure``, at once, without
   waiting for the deadline.
3. ``stale`` or ``unreachable`` over budget: HOLD. Nothing was installed there, so taking the
   release back from healthy devices would help nobody.
4. The minimum sample can no longer be reached: HOLD.
5. Devices without an outcome are left: WAIT; when the deadline finds some not even ordered: HOLD.
6. The soak time since the last commit is not over: WAIT.
7. Otherwise ADVANCE, or COMPLETE after the last wave.

Budgets are counts, or shares of the *planned* wave, rounded down (``"5%"`` of 10 devices is 0);
the minimum sample's share is rounded up. A sample larger than the wave means the whole wave. What
a human has accepted leaves the counts and shrinks the sample; devices left out do not shrink it.

>>> decide(wave, Tally(size=2, committed=2), Times(now, started, settled), "rollback", last=True)
Decision(kind='COMPLETE', reasons=(...))
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from ota.errors import Malformed
from signing.plan import Gate, Wave

Kind = Literal["WAIT", "ADVANCE", "COMPLETE", "HOLD", "ROLL_BACK"]
OnFailure = Literal["rollback", "hold"]

_UNHEALTHY: Final = ("failed", "reverted", "silent")
_ABSENT: Final = ("stale", "unreachable")


@dataclass(frozen=True)
class Tally:
    """Devices of one wave by outcome; they add up to ``size``.

    ``waiting``: no order yet. ``pending``: ordered, not heard of. ``accepted``: ended badly or
    left out, and a human went on without them. ``taken_back``: on the way back or back.
    """

    size: int
    waiting: int = 0
    pending: int = 0
    in_progress: int = 0
    committed: int = 0
    failed: int = 0
    reverted: int = 0
    refused: int = 0
    stale: int = 0
    unreachable: int = 0
    silent: int = 0
    withdrawn: int = 0
    left_out: int = 0
    accepted: int = 0
    taken_back: int = 0

    @property
    def unsettled(self) -> int:
        """Devices whose outcome is still to come."""
        return self.waiting + self.pending + self.in_progress


@dataclass(frozen=True)
class Times:
    """``started``: when the deadline began; ``settled``: when the last commit was seen."""

    now: datetime
    started: datetime | None = None
    settled: datetime | None = None


@dataclass(frozen=True)
class Reason:
    """Why, in words and numbers. ``count`` of ``limit`` devices, or seconds for times."""

    code: str
    text: str
    count: int = 0
    limit: int = 0


@dataclass(frozen=True)
class Decision:
    """What to do with the wave now."""

    kind: Kind
    reasons: tuple[Reason, ...]


def decide(
    wave: Wave, tally: Tally, times: Times, on_failure: OnFailure, *, last: bool
) -> Decision:
    """Apply the seven rules above to the running wave."""
    stop = exceeded(wave, tally, on_failure)  # (1), (2), (3)
    if stop is not None:
        return stop
    needed = sample(wave.gate, tally)
    if tally.committed + tally.unsettled < needed:  # (4)
        return _hold("sample", "too few devices can still commit", tally.committed, needed)
    if tally.unsettled:  # (5)
        return _unsettled(wave, tally, times)
    ready = _soaked(wave, times)  # (6)
    if ready is not None:
        return ready
    text = f"{tally.committed} of {tally.size} committed"
    reason = Reason("passed", text, tally.committed, needed)
    return Decision("COMPLETE" if last else "ADVANCE", (reason,))  # (7)


def exceeded(wave: Wave, tally: Tally, on_failure: OnFailure) -> Decision | None:
    """Rules 1 to 3, which also watch over waves that have passed already (stragglers count)."""
    refused = _over(wave, tally, ("refused",))
    unhealthy = _over(wave, tally, _UNHEALTHY)
    absent = _over(wave, tally, _ABSENT)
    every = refused + unhealthy + absent
    if not every:
        return None
    if refused or not unhealthy or on_failure == "hold":
        return Decision("HOLD", every)
    return Decision("ROLL_BACK", every)


def budget(share: int | str, size: int, *, up: bool = False) -> int:
    """A count, or whole percent of ``size`` rounded down (``up``: rounded up); ``Malformed``."""
    if isinstance(share, int):
        if share < 0:
            raise Malformed(f"gate: {share} is negative")
        return share
    digits = share.removesuffix("%")
    if not share.endswith("%") or not digits.isascii() or not digits.isdecimal():
        raise Malformed(f"gate: {share!r:.40} is neither a count nor a percentage")
    if int(digits) > 100:
        raise Malformed(f"gate: {share} is more than everything")
    product = size * int(digits)
    return -(-product // 100) if up else product // 100


def sample(gate: Gate, tally: Tally) -> int:
    """How many devices must have committed."""
    return min(budget(gate.min_sample, tally.size, up=True), tally.size - tally.accepted)


def overdue(wave: Wave, times: Times) -> bool:
    """Whether the wave's deadline has passed."""
    return times.started is not None and times.now >= times.started + timedelta(
        seconds=wave.deadline
    )


def _over(wave: Wave, tally: Tally, names: tuple[str, ...]) -> tuple[Reason, ...]:
    found = []
    for name in names:
        count = getattr(tally, name)
        limit = budget(getattr(wave.gate, name), tally.size)
        if count > limit:
            text = f"wave {wave.name}: {count} {name}, the budget is {limit}"
            found.append(Reason(name, text, count, limit))
    return tuple(found)


def _unsettled(wave: Wave, tally: Tally, times: Times) -> Decision:
    if overdue(wave, times) and tally.waiting:
        text = f"wave {wave.name}: deadline passed, {tally.waiting} devices have no order yet"
        return _hold("deadline", text, tally.waiting, 0)
    text = f"{tally.unsettled} of {tally.size} devices have no outcome yet"
    return Decision("WAIT", (Reason("unsettled", text, tally.unsettled, 0),))


def _soaked(wave: Wave, times: Times) -> Decision | None:
    if wave.soak == 0:
        return None
    if times.settled is None:
        return Decision("WAIT", (Reason("soak", "soak begins now", wave.soak, wave.soak),))
    end = times.settled + timedelta(seconds=wave.soak)
    if times.now >= end:
        return None
    left = int((end - times.now).total_seconds()) + 1
    return Decision("WAIT", (Reason("soak", f"soaking for {left} s more", left, wave.soak),))


def _hold(code: str, text: str, count: int, limit: int) -> Decision:
    return Decision("HOLD", (Reason(code, text, count, limit),))
