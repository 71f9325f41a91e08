"""The rollout journal in SQL: append-only, hash-chained per rollout, durable on return.

Each row's digest covers the digest before it and the exact line of the event, so a changed,
missing or inserted row is found and named. Two engines that append the same version race on a
unique constraint: one wins, the other gets ``Busy``. Plans and approvals lie beside the journal,
addressed by the SHA-256 of their bytes.

>>> journal = SqlJournal(registry.engine)
>>> journal.append(Event("app-2-x7k2p9", 1, now, "drafted", {...}))
>>> journal.verify("app-2-x7k2p9")          # number of events, or Refusal("journal-broken")
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine, delete, func, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from ota.errors import Busy, Outage, Refusal
from ota.ports import Event
from ota.rollout import journal_tables as t
from signing import strict

_SEED: Final = "0" * 64


def encode(event: Event) -> str:
    """The compact line of an event, keys sorted, control characters escaped."""
    return strict.compact(
        {
            "rollout": event.rollout,
            "version": event.version,
            "time": strict.stamp(event.time),
            "kind": event.kind,
            "body": dict(event.body),
        }
    ).decode()


def chain(previous: str, line: str) -> str:
    """The digest of a row, given the digest of the row before it."""
    return hashlib.sha256(f"{previous}\n{line}".encode()).hexdigest()


class SqlJournal:
    """Implements ``ports.Journal`` and ``records.Records`` on a shared SQLAlchemy engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with _seam("the journal's tables"):
            t.create(engine)

    # -- events ----------------------------------------------------------------------------------
    def load(self, rollout: str) -> Sequence[Event]:
        """All events in order; ``Refusal("journal-broken")`` names the first bad row."""
        query = (
            select(t.journal.c.version, t.journal.c.line, t.journal.c.digest)
            .where(t.journal.c.rollout == rollout)
            .order_by(t.journal.c.version)
        )
        with _seam(rollout), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        events = []
        previous = _SEED
        for expected, (version, line, digest) in enumerate(rows, start=1):
            if version != expected:
                raise _broken(rollout, expected, "is missing")
            if chain(previous, line) != digest:
                raise _broken(rollout, version, "does not fit its digest")
            events.append(_decode(rollout, version, line))
            previous = digest
        return events

    def append(self, event: Event) -> None:
        """Append if the version is the next one, else ``Busy``. Durable on return."""
        line = encode(event)
        with _seam(event.rollout), self._engine.begin() as connection:
            version, previous = _tip(connection, event.rollout)
            if event.version != version + 1:
                raise _raced(event.rollout)
            connection.execute(
                insert(t.journal).values(
                    rollout=event.rollout,
                    version=event.version,
                    line=line,
                    digest=chain(previous, line),
                )
            )

    def rollouts(self) -> Sequence[str]:
        """Ids of all rollouts, oldest first."""
        query = (
            select(t.journal.c.rollout).where(t.journal.c.version == 1).order_by(t.journal.c.seq)
        )
        with _seam("the journal"), self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def verify(self, rollout: str) -> int:
        """Check the chain and every document that it names; returns the number of events.

        Raises ``Refusal("journal-broken")`` naming the first broken row.
        """
        events = self.load(rollout)
        for event in events:
            for name in ("plan", "document"):
                digest = event.body.get(name)
                if isinstance(digest, str) and event.kind in {"drafted", "approval"}:
                    self.fetch(digest)
        return len(events)

    # -- documents -------------------------------------------------------------------------------
    def keep(self, kind: str, data: bytes) -> str:
        """Store exact bytes; the same bytes again change nothing. Returns their SHA-256."""
        digest = strict.digest(data)
        with _seam(digest), self._engine.begin() as connection:
            query = select(func.count()).where(t.documents.c.digest == digest)
            if not connection.execute(query).scalar_one():
                connection.execute(insert(t.documents).values(digest=digest, kind=kind, data=data))
        return digest

    def fetch(self, digest: str) -> bytes:
        """The bytes of a document; ``Refusal("journal-broken")`` when gone or changed."""
        query = select(t.documents.c.data).where(t.documents.c.digest == digest)
        with _seam(digest), self._engine.connect() as connection:
            data = connection.execute(query).scalar_one_or_none()
        if data is None or strict.digest(bytes(data)) != digest:
            how = "is missing" if data is None else "differs from its digest"
            raise Refusal("journal-broken", f"document {digest[:12]} {how}", subject=digest)
        return bytes(data)

    # -- heartbeat -------------------------------------------------------------------------------
    def touch(self, rollout: str, now: datetime) -> None:
        """Remember the time of the last step."""
        with _seam(rollout), self._engine.begin() as connection:
            connection.execute(delete(t.heartbeat).where(t.heartbeat.c.rollout == rollout))
            connection.execute(insert(t.heartbeat).values(rollout=rollout, time=strict.stamp(now)))

    def touched(self, rollout: str) -> datetime | None:
        """The time of the last step, or None before the first."""
        query = select(t.heartbeat.c.time).where(t.heartbeat.c.rollout == rollout)
        with _seam(rollout), self._engine.connect() as connection:
            text = connection.execute(query).scalar_one_or_none()
        return None if text is None else strict.instant(text)


def _tip(connection: Connection, rollout: str) -> tuple[int, str]:
    query = (
        select(t.journal.c.version, t.journal.c.digest)
        .where(t.journal.c.rollout == rollout)
        .order_by(t.journal.c.version.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return (0, _SEED) if row is None else (row.version, row.digest)


def _decode(rollout: str, version: int, line: str) -> Event:
    try:
        data = json.loads(line)
        event = Event(
            data["rollout"],
            data["version"],
            strict.instant(data["time"]),
            data["kind"],
            data["body"],
        )
    except (ValueError, KeyError, TypeError) as e:
        raise _broken(rollout, version, f"is not an event: {e}") from e
    if (event.rollout, event.version) != (rollout, version):
        raise _broken(rollout, version, "belongs elsewhere")
    return event


def _broken(rollout: str, version: int, how: str) -> Refusal:
    return Refusal("journal-broken", f"{rollout}: row {version} {how}", subject=rollout)


def _raced(rollout: str) -> Busy:
    return Busy(
        f"{rollout}: somebody else changed this rollout first",
        subject=rollout,
        remedy=f"ota rollout status {rollout}, then try again",
    )


@contextmanager
def _seam(subject: str) -> Iterator[None]:
    """Translate the database's errors once: a lost race is ``Busy``, the rest ``Outage``."""
    try:
        yield
    except IntegrityError as e:
        raise _raced(subject) from e
    except OperationalError as e:
        if "locked" in str(e.orig) or "could not serialize" in str(e.orig):
            raise _raced(subject) from e
        raise Outage(f"the journal's database: {e.orig}", subject=subject) from e
    except DBAPIError as e:
        raise Outage(f"the journal's database: {e.orig}", subject=subject) from e
