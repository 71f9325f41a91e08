"""What is asked of verified metadata beyond python-tuf's own checks.

1. Enough different keys signed it, whatever they are called (``signing/distinct.py``).
2. Its version can be counted: TUF sets no bound (specification 4.3 to 4.6), but a number that a
   database can not hold would stop whoever notes it, as a thief of an online key may wish.

>>> stands(client.root, client.snapshot, data)
"""

from __future__ import annotations

from tuf.api.metadata import Root, Signed, Targets

from signing import distinct
from signing.errors import Refusal

MOST = 2**53
"""The highest version: up to here every reader of JSON, and every database, counts exactly."""


def stands(by: Root | Targets, signed: Signed, data: bytes, name: str = "") -> None:
    """Raise ``Refusal`` (``signature``, ``metadata-malformed``) unless both hold.

    ``by`` delegates to the role; ``name`` is a targets role's, where that is not its type.
    """
    role = name or signed.type
    distinct.counted(by, role, data)
    if signed.version > MOST:
        raise Refusal("metadata-malformed", f"{role}: its version is above {MOST}", subject=role)
