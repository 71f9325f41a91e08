"""Trusted time on a device whose clock may be wrong, or be made wrong (rule 11).

Used time is the later of the wall clock and the *clock floor*. The floor is never raised from
the wall clock alone: only to ``min(issued, used)``, with ``issued`` a signed field of a verified
timestamp, and to a verified root's ``issued``, whatever the clock says, but no further than to that
of the director's timestamp beside it: a root that was dated ahead, by mistake or by one of its
makers, must not end all updates for ever. So a clock ten years ahead makes metadata look
expired for that cycle and leaves nothing behind; a clock ten years behind is lifted to the floor.
A thief of an online key who signs ``issued`` far in the future can not poison the floor either,
because it stays behind the used time.

>>> used(clock=datetime(1970, 1, 1, tzinfo=UTC), floor=floor) == floor
True
"""

from __future__ import annotations

from datetime import UTC, datetime

from tuf.api.metadata import Root, Timestamp

from signing.issued import issued

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def used(clock: datetime, floor: datetime) -> datetime:
    """The time to judge expiry by."""
    return max(clock, floor)


def after_root(floor: datetime, root: Root, beside: Timestamp) -> datetime:
    """The floor after a root was verified: signed times may move it without the wall clock.

    ``beside`` is a verified timestamp: the earlier of two signed times has passed, whoever of the
    two is wrong. One that does not say when it was signed has not expired, at least.
    """
    return max(floor, min(issued(root) or floor, issued(beside) or beside.expires))


def after_timestamp(floor: datetime, timestamp: Timestamp, now: datetime) -> datetime:
    """The floor after a timestamp was verified; ``now`` is the used time of this cycle."""
    said = issued(timestamp)
    return floor if said is None else max(floor, min(said, now))
