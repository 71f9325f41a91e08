"""The registry of devices and of what they signed: the adapter behind the port ``Fleet``.

Every method is one transaction: durable when it returns, or nothing happened. Two processes may
use one registry at once; the second waits. What the database says is never a permission: keys
enter by enrolment only, and plans and approvals are verified again from their own signatures.

>>> registry = Registry("sqlite:////srv/ota/registry.db")
>>> registry.register(enrolment, AllowList.load(path), {"site": "lyon"}, "spool", now)
>>> registry.record(envelope, now).status
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from ota.errors import Malformed, Misuse, NotFound, OtaError, Refusal
from ota.fleet import counting, enrol, recording, retiring, rows, selectors, tables
from ota.fleet.allow import AllowList
from ota.fleet.enrol import Registration
from ota.fleet.entries import Entry, check_courier, merged
from ota.fleet.retiring import Retirement
from ota.fleet.tables import devices, evidence, reports, standings
from ota.ports import Device, Received
from signing import strict
from signing.receipt import Receipt
from signing.report import Report

_PAGE = 5_000


class _TakenBack(Exception):
    """Everything was tried, and nothing is to stay."""


@dataclass(frozen=True)
class Stored:
    """A report as it was received: its exact bytes and how it was judged."""

    report: Report
    envelope: bytes
    status: str
    received: datetime


class Registry:
    """Opens (and creates) the registry at a database URL; see :mod:`ota.fleet.tables`.

    ``engine`` is shared with the rollout journal, which keeps its tables beside these.
    """

    def __init__(self, url: str) -> None:
        self.engine = tables.connect(url)
        tables.prepare(self.engine)

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    # -- the port --------------------------------------------------------------------------
    def devices(self, selector: str = "") -> Iterator[Device]:
        """Devices matching the selector, ordered by id, read in pages; ``Malformed``.

        No transaction stays open between pages, so a slow reader blocks nobody.
        """
        wanted = selectors.parse(selector)
        return self._pages(wanted)

    def _pages(self, wanted: selectors.Selector) -> Iterator[Device]:
        last = ""
        query = sa.select(*rows.COLUMNS).order_by(devices.c.id).limit(_PAGE)
        while True:
            with tables.reading(self.engine) as conn:
                page = conn.execute(query.where(devices.c.id > last)).all()
            for row in page:
                found = rows.device(row)
                if wanted.matches_device(found.id, found.state, found.courier, found.labels):
                    yield found
            if len(page) < _PAGE:
                return
            last = page[-1][0]

    def device(self, device_id: str) -> Device:
        """One device, or ``NotFound``."""
        with tables.reading(self.engine) as conn:
            return _device(conn, device_id)

    def record(self, envelope: bytes, now: datetime) -> Received:
        """Verify and store one report (rule 13); raises ``Refusal``."""
        verdict = self.record_all([envelope], now)[0]
        if isinstance(verdict, Refusal):
            raise verdict
        return verdict

    def record_all(self, envelopes: Sequence[bytes], now: datetime) -> list[Received | Refusal]:
        """Many reports in one transaction, each judged by itself; answers in the same order.

        Devices are locked in the order of their ids, so that two processes can not wait for
        each other; the reports of one device keep their order.
        """
        order = sorted(range(len(envelopes)), key=lambda n: recording.claimed_device(envelopes[n]))
        verdicts: dict[int, Received | Refusal] = {}
        with tables.writing(self.engine) as conn:
            for n in order:
                verdicts[n] = recording.record(conn, envelopes[n], now)
        return [verdicts[n] for n in range(len(envelopes))]

    def latest(self, rollout: str) -> Mapping[str, Report]:
        """Device -> its newest counted report about an order of this rollout; one query."""
        query = (
            sa.select(standings.c.device, reports.c.envelope)
            .join(reports, reports.c.id == standings.c.report)
            .where(standings.c.rollout == rollout)
        )
        with tables.reading(self.engine) as conn:
            return {device: rows.report(data) for device, data in conn.execute(query)}

    def newest(self) -> Iterator[Report]:
        """The newest counted report of each device about each rollout, read in pages."""
        query = sa.select(reports.c.id, reports.c.envelope).order_by(reports.c.id).limit(_PAGE)
        query = query.join(standings, reports.c.id == standings.c.report)
        last = 0
        while True:
            with tables.reading(self.engine) as conn:
                page = conn.execute(query.where(reports.c.id > last)).all()
            yield from (rows.report(row.envelope) for row in page)
            if len(page) < _PAGE:
                return
            last = page[-1].id

    # -- joining and leaving ---------------------------------------------------------------
    def register(
        self,
        enrolment: bytes,
        allow: AllowList | None,
        labels: Mapping[str, str],
        courier: str,
        now: datetime,
    ) -> tuple[str, Registration]:
        """Register one device; idempotent for the same key. See :mod:`ota.fleet.enrol`."""
        with tables.writing(self.engine) as conn:
            return enrol.register(conn, enrolment, allow, labels=labels, courier=courier, now=now)

    def register_all(
        self,
        enrolments: Iterable[bytes],
        allow: AllowList | None,
        labels: Mapping[str, str],
        courier: str,
        now: datetime,
        *,
        write: bool = True,
    ) -> list[tuple[str, Registration] | OtaError]:
        """Many enrolments in one transaction: each one registered, or its named error.

        Without ``write`` it says the same, and takes all of it back.
        """
        results: list[tuple[str, Registration] | OtaError] = []
        with contextlib.suppress(_TakenBack), tables.writing(self.engine) as conn:
            for data in enrolments:
                try:
                    done = enrol.register(
                        conn, data, allow, labels=labels, courier=courier, now=now
                    )
                except OtaError as error:
                    results.append(error)
                else:
                    results.append(done)
            if not write:
                raise _TakenBack
        return results

    def replace(self, enrolment: bytes) -> str:
        """Give a registered device a new key, by a person's decision; returns its id."""
        with tables.writing(self.engine) as conn:
            return enrol.replace(conn, enrolment)

    def retire(self, device_id: str, now: datetime) -> None:
        """Take a device out of service: no plans, no reports; its history stays. Idempotent."""
        with tables.writing(self.engine) as conn:
            retiring.retire(conn, _locked(conn, device_id), now)

    def retire_with_receipt(self, device_id: str, receipt: bytes, now: datetime) -> None:
        """The same, with the device's last word; see :mod:`ota.fleet.retiring`.

        A device that was retired before gets its receipt added. Raises ``Refusal`` ``receipt-*``
        and ``statement-*``, and ``NotPermitted("receipt-again")``; nothing has changed then.
        """
        with tables.writing(self.engine) as conn:
            found = _locked(conn, device_id)
            retiring.checked(conn, found, receipt)
            retiring.retire(conn, found, now, receipt)

    def check_receipt(self, device_id: str, receipt: bytes) -> Receipt:
        """What :meth:`retire_with_receipt` would verify; nothing is written."""
        with tables.reading(self.engine) as conn:
            found = _device(conn, device_id)
            retiring.not_again(conn, found)
            return retiring.checked(conn, found, receipt)

    def accept(self, device_id: str, state_id: str = "") -> Device:
        """Make the held incarnation of a ``restored`` device its current one.

        Its held reports count from now on; every other incarnation is a former one. With
        ``state_id`` given, exactly that one, so that what was looked at is what is accepted.
        Raises ``Misuse`` when nothing (or another one) is held.
        """
        with tables.writing(self.engine) as conn:
            found = _locked(conn, device_id)
            if found.state != "restored" or not found.held_state_id:
                raise Misuse(
                    f"{device_id}: nothing is held", code="nothing-held", subject=device_id
                )
            if state_id not in {"", found.held_state_id}:
                raise Misuse(
                    f"{device_id}: {found.held_state_id!r} is held, not {state_id!r:.80}",
                    code="other-held",
                    subject=device_id,
                    remedy=f"ota fleet show {device_id}",
                )
            counting.promote(conn, device_id, found.held_state_id)
            return _device(conn, device_id)

    # -- what the operator says ------------------------------------------------------------
    def label(self, device_id: str, changes: Mapping[str, str | None]) -> None:
        """Set labels; ``None`` removes one. ``Malformed``, ``NotFound``."""
        self.update([Entry(device_id, labels=changes)])

    def update(self, entries: Iterable[Entry]) -> int:
        """Apply imported rows, all or nothing; returns how many devices they name.

        A row sets its labels (``None`` removes) and its courier unless that is empty. A row's
        ``key`` must be the registered one. Raises ``Malformed`` or ``NotFound`` naming the row.
        """
        number = 0
        with tables.writing(self.engine) as conn:
            for entry in sorted(entries, key=lambda e: e.id):
                values = _changes(entry, lambda name: _locked(conn, name))
                conn.execute(devices.update().where(devices.c.id == entry.id).values(**values))
                number += 1
        return number

    def check(self, entries: Iterable[Entry]) -> int:
        """Raise what :meth:`update` would raise now, and write nothing."""
        with tables.reading(self.engine) as conn:
            return sum(bool(_changes(entry, lambda name: _device(conn, name))) for entry in entries)

    # -- looking back ----------------------------------------------------------------------
    def history(self, device_id: str, limit: int = 100) -> list[Stored]:
        """The newest ``limit`` reports of a device, newest first; ``NotFound``."""
        r = reports.c
        query = (
            sa.select(r.envelope, r.status, r.received)
            .where(r.device == device_id)
            .order_by(r.id.desc())
            .limit(limit)
        )
        with tables.reading(self.engine) as conn:
            _device(conn, device_id)
            found = conn.execute(query).all()
        return [
            Stored(rows.report(data), data, status, strict.instant(received))
            for data, status, received in found
        ]

    def retirements(self, device_id: str) -> list[Retirement]:
        """Every end of a device, oldest first, receipts verified once more; ``Malformed``."""
        with tables.reading(self.engine) as conn:
            return retiring.all_of(conn, device_id)

    def with_receipt(self) -> frozenset[str]:
        """Devices whose newest retirement has a receipt; they may have come back since."""
        with tables.reading(self.engine) as conn:
            return retiring.with_receipt(conn)

    def evidence(self, device_id: str) -> list[tuple[str, bytes]]:
        """(refusal code, exact bytes) of signed reports that contradict stored ones."""
        e = evidence.c
        query = sa.select(e.code, e.envelope).where(e.device == device_id).order_by(e.id)
        with tables.reading(self.engine) as conn:
            return [(code, data) for code, data in conn.execute(query)]


def _device(conn: sa.Connection, device_id: str) -> Device:
    row = conn.execute(sa.select(*rows.COLUMNS).where(devices.c.id == device_id)).first()
    if row is None:
        raise NotFound(
            f"{device_id!r:.140}: not registered", subject=device_id, remedy="ota fleet list"
        )
    return rows.device(row)


def _locked(conn: sa.Connection, device_id: str) -> Device:
    conn.execute(sa.select(devices.c.id).where(devices.c.id == device_id).with_for_update())
    return _device(conn, device_id)


def _changes(entry: Entry, read: Callable[[str], Device]) -> dict[str, str]:
    """Columns of a device as a row of an import sets them; the error names the row."""
    where = f"{entry.where}: " if entry.where else ""
    try:
        found = read(entry.id)
    except NotFound as e:
        raise NotFound(f"{where}{e}", subject=entry.id, remedy=e.remedy) from e
    if entry.key and entry.key != found.key.keyid:
        raise Malformed(
            f"{where}{entry.id}: registered with another key ({found.key.keyid[:12]})",
            subject=entry.id,
            remedy="an import never changes keys: ota fleet replace ENROLMENT",
        )
    try:
        labels = merged(found.labels, entry.labels)
        courier = check_courier(entry.courier) or found.courier
    except Malformed as e:
        raise Malformed(f"{where}{e}", subject=entry.id) from e
    return {"labels": rows.json_text(labels), "courier": courier}
