"""Registering devices: an enrolment, an allow-list, and the rule that keys are never replaced.

The procedure of :func:`register`, inside the caller's transaction:

1. The enrolment is self-signed by the key it carries (``Refusal`` otherwise), and the key is one
   that a device may have.
2. A known id with the same key: nothing changes. With another key, or retired: ``NotPermitted``,
   because a key is replaced only by a person who says so (``ota fleet replace``).
3. The key belongs to no other device: one key, one purpose. Nor did it sign a last word.
4. The allow-list, if there is one, lists the id, and its fingerprint when it gives one.
5. The signed components become the device's first known state; its incarnation is current.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from ota.errors import Malformed, NotFound, NotPermitted, Refusal
from ota.fleet import retiring, rows
from ota.fleet.allow import AllowList
from ota.fleet.entries import check_courier, merged
from ota.fleet.tables import devices, incarnations
from signing import enrolment, strict
from signing.enrolment import Enrolment

Registration = Literal["registered", "unchanged"]
SCHEMES = frozenset({"ecdsa-sha2-nistp256", "ed25519"})
"""Signature schemes of device identity keys."""


def read(data: bytes) -> Enrolment:
    """Verify an enrolment and the form of all that it says; ``Refusal``."""
    found = enrolment.verify(data)
    try:
        for state in found.components.values():
            strict.identifier(state.hardware_id, "hardware_id")
        _identity(found)  # what can not be stored can not be enrolled
    except (Malformed, UnicodeError) as e:
        raise Refusal("statement-malformed", f"enrolment: {e}", subject=found.device) from e
    scheme = found.public_key.scheme
    if scheme not in SCHEMES:
        raise Refusal(
            "statement-malformed", f"enrolment: keys of scheme {scheme!r:.40} are not taken"
        )
    return found


def register(
    conn: sa.Connection,
    data: bytes,
    allow: AllowList | None,
    *,
    labels: Mapping[str, str],
    courier: str,
    now: datetime,
) -> tuple[str, Registration]:
    """Register one device; returns its id and whether anything changed. See the module."""
    # (1)
    found = read(data)
    # (2)
    d = devices.c
    known = conn.execute(
        sa.select(d.keyid, d.state).where(d.id == found.device).with_for_update()
    ).first()
    if known is not None:
        _same(found, known.keyid, known.state)
        return found.device, "unchanged"
    # (3), (4)
    _unused(conn, found)
    entry = allow.entry(found.device, found.public_key.keyid) if allow is not None else None
    # (5)
    chosen = merged(merged({}, entry.labels if entry else {}), dict(labels))
    name = check_courier(courier) or (entry.courier if entry else "")
    conn.execute(
        devices.insert().values(
            id=found.device,
            courier=name,
            labels=rows.json_text(chosen),
            registered=strict.stamp(now),
            **_identity(found),
        )
    )
    _enter(conn, found, 0)
    return found.device, "registered"


def replace(conn: sa.Connection, data: bytes) -> str:
    """Give a known device the key of this enrolment; labels and courier stay.

    Raises ``NotFound`` for an unknown id, ``NotPermitted`` for a key of another device, for one
    that signed a last word, or for an enrolment of an incarnation that was replaced before.
    """
    found = read(data)
    d = devices.c
    known = conn.execute(
        sa.select(d.state_id, d.counter).where(d.id == found.device).with_for_update()
    ).first()
    if known is None:
        raise NotFound(
            f"{found.device}: not registered",
            subject=found.device,
            remedy="ota fleet register ENROLMENT",
        )
    _unused(conn, found)
    counter = _kept_counter(conn, found)
    conn.execute(
        devices.update()
        .where(d.id == found.device)
        .values(**_identity(found) | {"counter": counter})
    )
    _enter(conn, found, counter)
    return found.device


def _same(found: Enrolment, keyid: str, state: str) -> None:
    if keyid != found.public_key.keyid:
        raise NotPermitted(
            f"{found.device}: registered with another key ({keyid[:12]})",
            code="key-differs",
            subject=found.device,
            remedy="if its key was really renewed: ota fleet replace ENROLMENT",
        )
    if state == "retired":
        raise NotPermitted(
            f"{found.device}: it was retired",
            code="retired",
            subject=found.device,
            remedy="to bring it back: ota fleet replace ENROLMENT",
        )


def _unused(conn: sa.Connection, found: Enrolment) -> None:
    d = devices.c
    keyid = found.public_key.keyid
    other = conn.scalar(sa.select(d.id).where(d.keyid == keyid, d.id != found.device))
    if other is not None:
        raise NotPermitted(
            f"{found.device}: its key is the key of {other}",
            code="key-shared",
            subject=found.device,
            remedy="provision it with a key of its own: ota-agent provision",
        )
    ended = retiring.gave_last_word(conn, keyid)
    if ended is not None:
        raise NotPermitted(
            f"{found.device}: with its key {ended} signed that the key was destroyed",
            code="key-ended",
            subject=found.device,
            remedy="provision it with a new key: ota-agent provision",
        )


def _kept_counter(conn: sa.Connection, found: Enrolment) -> int:
    """The counter to go on from: an incarnation known before does not start again at 0."""
    i = incarnations.c
    row = conn.execute(
        sa.select(i.counter, i.status).where(i.device == found.device, i.state_id == found.state_id)
    ).first()
    if row is None:
        return 0
    if row.status == "former":
        raise NotPermitted(
            f"{found.device}: this enrolment is of an incarnation that was replaced",
            code="enrolment-old",
            subject=found.device,
            remedy="provision the device again: ota-agent provision",
        )
    return int(row.counter)


def _identity(found: Enrolment) -> dict[str, Any]:
    return {
        "keyid": found.public_key.keyid,
        "key": msgspec.json.encode(found.key).decode(),
        "state": "active",
        "state_id": found.state_id,
        "counter": 0,
        "held_state_id": "",
        "components": rows.components_text(found.components),
    }


def _enter(conn: sa.Connection, found: Enrolment, counter: int) -> None:
    """Make the enrolment's incarnation the current one; all others are former."""
    i = incarnations.c
    conn.execute(incarnations.update().where(i.device == found.device).values(status="former"))
    conn.execute(
        incarnations.delete().where(i.device == found.device, i.state_id == found.state_id)
    )
    conn.execute(
        incarnations.insert().values(
            device=found.device, state_id=found.state_id, counter=counter, status="current"
        )
    )
