"""What the rollout room keeps: the journal, the signed documents beside it, the last step's time.

``Records`` widens the journal port by two things that an engine needs and a history does not
contain: documents (plans and approvals, addressed by the SHA-256 of their exact bytes) and the
time of the last step, by which a person sees that the engine is alive.

>>> log = Log.open(records, "app-2-x7k2p9")
>>> log.add("paused", {"keep": False}, now)     # journal first, then the view follows
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ota.errors import NotFound
from ota.ports import Event, Journal
from ota.rollout.replay import RolloutView, fold


class Records(Journal, Protocol):
    """A journal with documents and a heartbeat."""

    def keep(self, kind: str, data: bytes) -> str:
        """Store exact bytes durably; returns their SHA-256. Idempotent."""

    def fetch(self, digest: str) -> bytes:
        """The bytes; ``Refusal("journal-broken")`` when they are gone or differ."""

    def touch(self, rollout: str, now: datetime) -> None:
        """Remember that the engine stepped this rollout just now."""

    def touched(self, rollout: str) -> datetime | None:
        """When the engine last stepped it."""


@dataclass
class Log:
    """One rollout's journal and what it says so far; the only writer of events."""

    records: Records
    view: RolloutView

    @classmethod
    def open(cls, records: Records, rollout: str) -> Log:
        """Load and fold; ``NotFound`` for an unknown rollout."""
        log = cls.open_or_new(records, rollout)
        if log.view.version == 0:
            raise NotFound(
                f"there is no rollout {rollout!r:.80}",
                subject=rollout,
                remedy="ota rollout list",
            )
        return log

    @classmethod
    def open_or_new(cls, records: Records, rollout: str) -> Log:
        """Load and fold; an unknown rollout gives an empty view."""
        return cls(records, fold(rollout, records.load(rollout)))

    def add(self, kind: str, body: Mapping[str, Any], now: datetime) -> None:
        """Append durably, then fold in. An illegal move raises before anything is written.

        Raises ``Busy`` when somebody else appended first, ``Misuse`` for an illegal move.
        """
        self.view.check(kind)
        whole = now.replace(microsecond=0)
        event = Event(self.view.rollout, self.view.version + 1, whole, kind, body)
        self.records.append(event)
        self.view.apply(event)
