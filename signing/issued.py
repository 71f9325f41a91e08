"""When a root or timestamp says that it was signed: the only source of a device's clock floor.

python-tuf keeps unknown signed fields; ``issued`` is one of ours, in the form of
:func:`signing.strict.stamp`. Repositories of others have none, and that is no fault.

>>> issued(timestamp)
datetime.datetime(2026, 11, 23, 8, 0, tzinfo=datetime.timezone.utc)
"""

from __future__ import annotations

from datetime import datetime

from tuf.api.metadata import Signed

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
