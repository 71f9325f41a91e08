"""Taking devices out of service, with their last word (``signing/receipt.py``) or without it.

The procedure of :func:`checked`, in this order; the numbers stand in the code:

1. The receipt names this device; one of another device is ``receipt-wrong-device``.
2. It is signed by this device's registered key, and says so itself.
3. It is of the state that counts, and no copy of the device waits for a person.
4. The device has said nothing since, but of the receipt's very order: otherwise it lives.

That the order was given to this device at all is for the rollouts' journal to say
(``Campaign.require_order``).

A retirement is a row that is never changed but once: a receipt may come later than the word of a
person. A device that came back (``ota fleet replace``) keeps its former retirements. The exact
bytes are kept and verified again whenever they are read.

>>> checked(conn, device, data)        # the Receipt, or Refusal("receipt-...")
>>> retire(conn, device, now, data)    # inside the caller's transaction
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from ota.errors import Malformed, NotPermitted, OtaError, Refusal
from ota.fleet import rows
from ota.fleet.tables import devices, incarnations, reports, retirements
from ota.ports import Device
from signing import receipt as receipts
from signing import statement, strict
from signing.enrolment import key_from_dict
from signing.receipt import Receipt


@dataclass(frozen=True)
class Retirement:
    """One end of a device. ``receipt`` is None where only a person said so.

    ``since``: when it was taken out of service here; ``verified``: when its receipt came, whose
    exact bytes are ``envelope``.
    """

    keyid: str
    since: datetime
    receipt: Receipt | None = None
    verified: datetime | None = None
    envelope: bytes = field(default=b"", repr=False)


def checked(conn: sa.Connection, device: Device, data: bytes) -> Receipt:
    """The device's verified last word; ``Refusal`` otherwise. See the module."""
    # (1)
    name = _claimed(data)
    if name != device.id:
        raise Refusal(
            "receipt-wrong-device",
            f"receipt: it is of {name!r}, not of {device.id!r}",
            subject=device.id,
        )
    # (2)
    found = _verified(device, _key_text(conn, device.id), data)
    # (3)
    held = (incarnations.c.device == device.id, incarnations.c.status == "held")
    copies = conn.scalar(sa.select(sa.func.count()).select_from(incarnations).where(*held))
    if found.state_id != device.state_id or copies:
        why = "a copy of the device waits to be accepted" if copies else "of a former state"
        raise Refusal("receipt-state", f"receipt of {device.id!r}: {why}", subject=device.id)
    # (4)
    later = _spoke_since(conn, found)
    if later:
        raise Refusal(
            "receipt-outlived",
            f"receipt of {device.id!r}, signed at {found.time}: it reported again at {later}",
            subject=device.id,
        )
    return found


def _claimed(data: bytes) -> str:
    try:
        return strict.identifier(statement.peek("receipt", data).body["device"], "receipt: device")
    except (Malformed, KeyError, TypeError) as e:
        raise Refusal("statement-malformed", "receipt: it names no device") from e


def _key_text(conn: sa.Connection, device_id: str) -> str:
    text = conn.scalar(sa.select(devices.c.key).where(devices.c.id == device_id))
    return str(text)


def _verified(device: Device, key_text: str, data: bytes) -> Receipt:
    key = key_from_dict(msgspec.json.decode(key_text))
    try:
        found = receipts.read(statement.verify("receipt", data, [key]))
    except Refusal as refusal:
        refusal.subject = device.id
        raise
    if found.keyid != key.keyid:
        raise Refusal(
            "statement-malformed",
            f"receipt: it says that another key signed it ({found.keyid[:12]!r})",
            subject=device.id,
        )
    return found


def _spoke_since(conn: sa.Connection, receipt: Receipt) -> str:
    """The time of a newer word than the receipt, or ""; the order's own outcome is none."""
    r = reports.c
    mine = (r.device == receipt.device, r.state_id == receipt.state_id)
    query = sa.select(r.envelope, r.order_id).where(*mine).order_by(r.counter.desc()).limit(1)
    row = conn.execute(query).first()
    if row is None or row.order_id == receipt.order:
        return ""
    said = rows.report(row.envelope).time
    return said if strict.instant(said) > strict.instant(receipt.time) else ""


def retire(conn: sa.Connection, device: Device, now: datetime, data: bytes | None = None) -> None:
    """Out of service from now on; repeated, it changes nothing but to add a receipt.

    Raises ``NotPermitted("receipt-again")`` when this retirement has one.
    """
    said: dict[str, Any] = {}
    if data is not None:
        not_again(conn, device)
        said = {"receipt": data, "verified": strict.stamp(now)}
    row = _current(conn, device)
    if row is None:
        key = {"keyid": device.key.keyid, "key": _key_text(conn, device.id)}
        made = retirements.insert()
        conn.execute(made.values(device=device.id, since=strict.stamp(now), **key, **said))
    elif said:
        conn.execute(retirements.update().where(retirements.c.id == row.id).values(**said))
    conn.execute(
        devices.update().where(devices.c.id == device.id).values(state="retired", held_state_id="")
    )


def not_again(conn: sa.Connection, device: Device) -> None:
    """``NotPermitted("receipt-again")`` when the device's retirement has its receipt."""
    row = _current(conn, device)
    if row is not None and row.receipt is not None:
        raise NotPermitted(
            f"{device.id}: its verified receipt was taken in at {row.verified}",
            code="receipt-again",
            subject=device.id,
            remedy=f"ota fleet show {device.id}",
        )


def _current(conn: sa.Connection, device: Device) -> Any:
    """The retirement in force, or None; former ones of a device that came back are none."""
    if device.state != "retired":
        return None
    r = retirements.c
    query = sa.select(retirements).where(r.device == device.id).order_by(r.id.desc()).limit(1)
    return conn.execute(query.where(r.keyid == device.key.keyid)).first()


def all_of(conn: sa.Connection, device_id: str) -> list[Retirement]:
    """Every retirement of a device, oldest first, each receipt verified once more.

    ``Malformed`` when the database was edited.
    """
    r = retirements.c
    query = sa.select(retirements).where(r.device == device_id).order_by(r.id)
    return [_read(row) for row in conn.execute(query)]


def _read(row: Any) -> Retirement:
    try:
        since = strict.instant(row.since)
        if row.receipt is None:
            return Retirement(row.keyid, since)
        key = key_from_dict(msgspec.json.decode(row.key))
        found = receipts.read(statement.verify("receipt", row.receipt, [key]))
        verified = strict.instant(row.verified)
    except (OtaError, msgspec.MsgspecError, TypeError) as e:
        raise Malformed(
            f"registry: a retirement of device {row.device!r:.80} is damaged: {e}",
            subject=str(row.device),
            remedy="restore the registry from a backup",
        ) from e
    return Retirement(row.keyid, since, found, verified, bytes(row.receipt))


def with_receipt(conn: sa.Connection) -> frozenset[str]:
    """Devices whose newest retirement has a receipt."""
    r = retirements.c
    newest = sa.select(sa.func.max(r.id)).group_by(r.device)
    query = sa.select(r.device).where(r.id.in_(newest), r.receipt.is_not(None))
    return frozenset(conn.execute(query).scalars())


def gave_last_word(conn: sa.Connection, keyid: str) -> str | None:
    """The device whose key this was when it signed a receipt: a last word is the last."""
    r = retirements.c
    return conn.scalar(sa.select(r.device).where(r.keyid == keyid, r.receipt.is_not(None)).limit(1))
