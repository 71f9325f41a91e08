"""What counting a stored report means: the newest word of its device, and of its rollout.

Held reports are stored without being counted; when a person accepts their incarnation they are
counted then, in the order of their counters, as if they had just come.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ota.fleet import rows
from ota.fleet.tables import devices, incarnations, reports, standings
from signing.report import Report


def count(conn: sa.Connection, report: Report, number: int, seen: str) -> None:
    """Make a stored report the newest word of its device, and of its rollout."""
    conn.execute(
        devices.update()
        .where(devices.c.id == report.device)
        .values(
            counter=report.counter,
            components=rows.components_text(report.components),
            last_seen=seen,
        )
    )
    if report.update is None:
        return
    s = standings.c
    values: dict[str, Any] = {"rollout": report.update.rollout, "device": report.device}
    changed = conn.execute(
        standings.update()
        .where(s.rollout == values["rollout"], s.device == values["device"])
        .values(report=number)
    )
    if changed.rowcount == 0:
        conn.execute(standings.insert().values(**values, report=number))


def promote(conn: sa.Connection, device_id: str, state_id: str) -> None:
    """Make a held incarnation the current one, all others former, and count its reports."""
    i, r, d = incarnations.c, reports.c, devices.c
    conn.execute(incarnations.update().where(i.device == device_id).values(status="former"))
    mine = (i.device == device_id, i.state_id == state_id)
    conn.execute(incarnations.update().where(*mine).values(status="current"))
    conn.execute(
        devices.update()
        .where(d.id == device_id)
        .values(state="active", state_id=state_id, held_state_id="")
    )
    held = (r.device == device_id, r.state_id == state_id)
    stored = sa.select(r.id, r.envelope, r.received).where(*held).order_by(r.counter)
    for number, data, received in conn.execute(stored).all():
        count(conn, rows.report(data), number, received)
    conn.execute(reports.update().where(*held).values(status="accepted"))
