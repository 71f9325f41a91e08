"""Taking in signed reports (rule 13), one at a time, inside the caller's transaction.

The procedure, in this order; the numbers stand in the code:

1. Find the device that the report names. Not registered, or retired: refused.
2. Verify with that device's registered key; a report never brings a key along. Signed by
   another registered device's key: ``report-wrong-device``.
3. Read the typed body.
4. Its ``state_id``: the current incarnation counts; a new one is held, uncounted, and makes the
   device ``restored`` until a person accepts it; a former one is a replay.
5. Its counter must rise within the incarnation. A counter seen before with the same payload is
   a duplicate (couriers deliver twice; an ECDSA signature may differ over one payload), with
   another payload it is equivocation, and both are kept. A lower, unseen one is a replay.
6. Store the exact bytes; if it counts, update what is known of the device.

Whether the signed order and targets version fit the rollout is for the engine to say.
A refusal is returned, not raised, so that the caller can commit the evidence with it.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from ota.errors import Malformed, Refusal
from ota.fleet import counting, rows
from ota.fleet.tables import devices, evidence, incarnations, reports
from ota.ports import Received
from signing import report as body
from signing import statement, strict
from signing.enrolment import key_from_dict

MAX_HELD = 8
"""Unaccepted incarnations of one device; more than a person would look at."""
MAX_EVIDENCE = 64
"""Contradicting envelopes kept for one device."""
_ORDER_LENGTH = 64


def record(conn: sa.Connection, envelope: bytes, now: datetime) -> Received | Refusal:
    """Judge and store one envelope; see the module. Refusals are returned."""
    try:
        return _record(conn, envelope, now)
    except Refusal as refusal:
        return refusal


def claimed_device(envelope: bytes) -> str:
    """The device an envelope names, unverified; "" when it names none."""
    try:
        return _claimed(statement.peek("report", envelope))
    except Refusal:
        return ""


def _record(conn: sa.Connection, envelope: bytes, now: datetime) -> Received | Refusal:
    # (1)
    seen = statement.peek("report", envelope)
    name = _claimed(seen)
    columns = (devices.c.key, devices.c.state)
    row = conn.execute(sa.select(*columns).where(devices.c.id == name).with_for_update()).first()
    if row is None:
        raise Refusal("report-unknown-device", f"report: {name!r} is not registered", subject=name)
    if row.state == "retired":
        raise Refusal("report-retired-device", f"report: {name!r} was retired", subject=name)
    # (2)
    signed = _verified(conn, name, row.key, envelope)
    # (3)
    report = _typed(signed, envelope)
    # (4)
    incarnation = _incarnation(conn, report)
    # (5)
    stored = _stored_digest(conn, report)
    if stored == signed.digest:
        return Received(report, "duplicate")
    if stored is not None:
        return _equivocation(conn, report, signed.digest, envelope, now)
    if report.counter <= incarnation.counter:
        return _replay(report, f"counter {report.counter}, already at {incarnation.counter}")
    if incarnation.status == "former":
        return _replay(report, "from an incarnation that was replaced")
    # (6)
    counts = incarnation.status == "current"
    return _store(conn, report, signed.digest, envelope, counts=counts, now=now)


def _claimed(seen: statement.Statement) -> str:
    try:
        return strict.identifier(seen.body["device"], "report: device")
    except (Malformed, KeyError, TypeError) as e:
        raise Refusal("statement-malformed", "report: it names no device") from e


def _verified(conn: sa.Connection, name: str, key: str, data: bytes) -> statement.Statement:
    registered = key_from_dict(msgspec.json.decode(key))
    try:
        return statement.verify("report", data, [registered])
    except Refusal as refusal:
        other = _other_signer(conn, name, data)
        if other is None:
            refusal.subject = name
            raise
        raise Refusal(
            "report-wrong-device",
            f"report: it names {name!r} but is signed by the key of {other!r}",
            subject=other,
        ) from refusal


def _other_signer(conn: sa.Connection, name: str, data: bytes) -> str | None:
    """The other registered device whose key did sign these bytes, if there is one."""
    outer = strict.loads(data, limit=len(data), what="report")
    claims = [s.get("keyid") for s in outer["signatures"] if isinstance(s, dict)]
    ids = [c for c in claims if isinstance(c, str)]
    query = sa.select(devices.c.id, devices.c.key)
    query = query.where(devices.c.keyid.in_(ids), devices.c.id != name)
    found: list[tuple[str, str]] = [(row.id, row.key) for row in conn.execute(query)]
    for other, key in found:
        try:
            statement.verify("report", data, [key_from_dict(msgspec.json.decode(key))])
        except Refusal:
            continue
        return other
    return None


def _typed(signed: statement.Statement, envelope: bytes) -> body.Report:
    report = body.read(signed)
    try:
        if rows.report(envelope) != report:  # what is stored must be what was judged
            raise Malformed("two readers see two reports")
        rows.components_text(report.components)
        for component, state in report.components.items():
            strict.identifier(component, "components")
            strict.identifier(state.hardware_id, f"{component}: hardware_id")
        if report.update is not None:
            strict.identifier(report.update.rollout, "rollout")
            strict.identifier(report.update.order[:_ORDER_LENGTH], "order")
    except (Malformed, UnicodeError) as e:
        raise Refusal("statement-malformed", f"report: {e}", subject=report.device) from e
    if not _storable(report):
        raise Refusal("statement-malformed", "report: a number is too large", subject=report.device)
    return report


def _storable(report: body.Report) -> bool:
    update = report.update
    return report.counter < 2**63 and (
        update is None
        or (len(update.order) <= _ORDER_LENGTH and 0 <= update.targets_version < 2**63)
    )


class _Incarnation(NamedTuple):
    """``current``, ``held`` or ``former``, and the highest counter stored in it."""

    status: str
    counter: int


def _incarnation(conn: sa.Connection, report: body.Report) -> _Incarnation:
    """The report's incarnation; a new one is entered as held."""
    i = incarnations.c
    query = sa.select(i.state_id, i.status, i.counter).where(i.device == report.device)
    known = {row[0]: _Incarnation(row[1], row[2]) for row in conn.execute(query)}
    if report.state_id in known:
        return known[report.state_id]
    if sum(other.status == "held" for other in known.values()) >= MAX_HELD:
        raise Refusal(
            "report-incarnations",
            f"report: {MAX_HELD} new incarnations of {report.device!r} wait already",
            subject=report.device,
        )
    values = {"device": report.device, "state_id": report.state_id}
    conn.execute(incarnations.insert().values(**values, counter=0, status="held"))
    conn.execute(
        devices.update()
        .where(devices.c.id == report.device)
        .values(state="restored", held_state_id=report.state_id)
    )
    return _Incarnation("held", 0)


def _stored_digest(conn: sa.Connection, report: body.Report) -> str | None:
    """SHA-256 of the payload that was stored under this counter, if there is one."""
    r = reports.c
    same = (r.state_id == report.state_id, r.counter == report.counter)
    query = sa.select(r.payload_sha256).where(r.device == report.device, *same)
    return conn.scalar(query)


def _replay(report: body.Report, why: str) -> Refusal:
    return Refusal("report-replayed", f"report of {report.device!r}: {why}", subject=report.device)


def _equivocation(
    conn: sa.Connection, report: body.Report, digest: str, envelope: bytes, now: datetime
) -> Refusal:
    """Keep the second envelope beside the stored first one, once and within a bound."""
    e = evidence.c
    kept = (
        conn.execute(sa.select(e.payload_sha256).where(e.device == report.device)).scalars().all()
    )
    if digest not in kept and len(kept) < MAX_EVIDENCE:
        conn.execute(
            evidence.insert().values(
                device=report.device,
                state_id=report.state_id,
                counter=report.counter,
                code="report-equivocation",
                payload_sha256=digest,
                envelope=envelope,
                received=strict.stamp(now),
            )
        )
    return Refusal(
        "report-equivocation",
        f"report of {report.device!r}: counter {report.counter} was signed with two contents",
        subject=report.device,
    )


def _store(
    conn: sa.Connection,
    report: body.Report,
    digest: str,
    envelope: bytes,
    *,
    counts: bool,
    now: datetime,
) -> Received:
    update = report.update
    made = conn.execute(
        reports.insert().values(
            device=report.device,
            state_id=report.state_id,
            counter=report.counter,
            payload_sha256=digest,
            envelope=envelope,
            status="accepted" if counts else "held",
            received=strict.stamp(now),
            rollout=update.rollout if update else "",
            order_id=update.order if update else "",
            outcome=update.outcome if update else "",
            targets_version=update.targets_version if update else 0,
        )
    )
    i = incarnations.c
    conn.execute(
        incarnations.update()
        .where(i.device == report.device, i.state_id == report.state_id)
        .values(counter=report.counter)
    )
    if counts:
        number = made.inserted_primary_key
        assert number is not None  # noqa: S101 - a single-row insert always has one
        counting.count(conn, report, number[0], strict.stamp(now))
    return Received(report, "accepted" if counts else "held")
