"""What this device remembers can not be used: an outage of its own, and never made anew.

Floors, denials and verified roots are what keeps old releases out, so a file of theirs that is
damaged or gone stops the agent until a person restores it or provisions the device anew.

>>> raise damaged(str(path), f"{path}: the trust anchor is missing")
"""

from __future__ import annotations

from signing.errors import Outage

CODE = "state-damaged"
REMEDY = "restore it from backup, or provision the device anew and replace it"


def damaged(subject: str, what: str) -> Outage:
    """The error to raise; ``subject`` is the file, order or component that it is about."""
    return Outage(what, code=CODE, subject=subject, remedy=REMEDY)
