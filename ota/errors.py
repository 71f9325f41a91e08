"""The error tree, re-exported: use cases, adapters and the command line import it from here."""

from __future__ import annotations

from signing.errors import (
    Busy,
    Malformed,
    Misuse,
    NeedsHuman,
    NotFound,
    NotPermitted,
    OtaError,
    Outage,
    Refusal,
    Stale,
    StillRunning,
    StoppedByGate,
)


def told(error: OtaError) -> str:
    """An error with the next command to try, for a list of problems."""
    return f"{error}; next: {error.remedy}" if error.remedy else str(error)


__all__ = [
    "Busy",
    "Malformed",
    "Misuse",
    "NeedsHuman",
    "NotFound",
    "NotPermitted",
    "OtaError",
    "Outage",
    "Refusal",
    "Stale",
    "StillRunning",
    "StoppedByGate",
    "told",
]
