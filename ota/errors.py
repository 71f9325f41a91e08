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
]
