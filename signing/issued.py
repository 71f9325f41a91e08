"""When a root or timestamp says that it was signed: the only source of a device's clock floor.

A root's moves every device's clock floor, which nothing moves back: one that is dated ahead of its
signers' clocks is not signed, and not published.

python-tuf keeps unknown signed fields; ``issued`` is one of ours, in the form of
:func:`signing.strict.stamp`. Repositories of others have none, and that is no fault.

>>> issued(timestamp)
datetime.datetime(2026, 11, 23, 8, 0, tzinfo=datetime.timezone.utc)
"""

from __future__ import annotations

from datetime import datetime, timedelta

from tuf.api.metadata import Root, Signed

from signing import strict
from signing.errors import Malformed, Refusal


def issued(signed: Signed) -> datetime | None:
    """The signed field ``issued`` of a root or timestamp, or None when it has none.

    Raises ``Refusal("metadata-malformed")`` when it is there and is not a time.
    """
    text = signed.unrecognized_fields.get("issued")
    if text is None:
        return None
    try:
        return strict.instant(text, "issued")
    except Malformed as e:
        raise Refusal("metadata-malformed", str(e)) from e


_SLACK = timedelta(days=1)
"""How far the clocks of those who make, sign and publish a root may be apart."""


def refuse_ahead(root: Root, now: datetime) -> None:
    """``Malformed`` for a root that says it was made after ``now``."""
    said = issued(root)
    if said is not None and said > now + _SLACK:
        raise Malformed(
            f"root {root.version} says that it was made at {strict.stamp(said)}; "
            f"here it is {strict.stamp(now)}",
            subject=Root.type,
            remedy="compare the clocks of its maker and of this machine; then make the change again",
        )
