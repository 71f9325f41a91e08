"""The trial marker: a small file on the medium itself, beside the slots it speaks of.

It is written before the running slot is switched and removed last, by commit or rollback. So it
says, after any crash, what was being tried and what ran before:

* no marker: nothing is on trial;
* marker for what runs: on trial, ``before`` is the way back;
* marker for something else: the switch did not happen yet, or was already taken back.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ota.agent.installers import durable
from signing import strict
from signing.errors import Malformed, Outage

LIMIT = 4096


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``sha256`` is tried; ``before`` is what ran: installer's own words, None for nothing."""

    sha256: str
    before: str | None = None


def load(path: Path) -> Trial | None:
    """The marker, or None; a damaged one is an ``Outage``, never silently ignored."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except FileNotFoundError:
        return None
    try:
        found = msgspec.convert(strict.loads(data, limit=LIMIT, what=str(path)), Trial)
    except (Malformed, msgspec.ValidationError) as e:
        raise Outage(
            f"the trial marker is damaged: {e}",
            code="installer",
            subject=str(path),
            remedy="look at the slots, then remove the marker",
        ) from e
    return found


def store(path: Path, trial: Trial) -> None:
    """Write the marker durably."""
    durable.write(path, msgspec.json.encode(trial))
