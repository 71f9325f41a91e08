"""Use case: what AWS IoT knows of the fleet, brought into the registry as labels.

Rules:

1. AWS registers nobody, retires nobody, and changes no key and no courier: a device is what its
   own signed enrolment says, and a person takes it out of service.
2. What AWS says becomes labels of names of its own, ``aws/ATTRIBUTE``, ``aws/type`` and
   ``aws-group/GROUP``, so that it can not pass for what an operator said. Plans freeze devices, and
   people approve plans, so a label that somebody changed at AWS aims nothing by itself.
3. What can not be a label is left out, and named.
4. Only devices whose labels differ are written; all of them at once, or none.
5. Both sides are compared: things that are no devices, devices that are no things, and those
   whose state differs.

>>> sync(inventory, registry, write=True).rows[0]
Row(device='press-07', finding='labels', detail='aws/site=lyon')
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from ota.errors import Malformed
from ota.fleet.entries import MAX_LABELS, Entry, check_key, check_value
from ota.ports import Device
from ota.ports_aws import Inventory, Thing

Finding = Literal["labels", "left-out", "aws-only", "not-in-aws", "revoked-there", "retired-here"]
PREFIXES: Final = ("aws/", "aws-group/")


class Writable(Protocol):
    """What it needs of the registry."""

    def devices(self, selector: str = "") -> Iterable[Device]:
        """All devices, ordered by id."""

    def update(self, entries: Iterable[Entry]) -> int:
        """Set labels, all or nothing."""


@dataclass(frozen=True)
class Row:
    """One thing to know. ``aws-only`` is a thing's name, everything else a device's id."""

    device: str
    finding: Finding
    detail: str = ""


@dataclass(frozen=True)
class Synced:
    """``things`` and ``devices`` seen; ``written`` devices whose labels were set."""

    things: int
    devices: int
    written: int
    rows: tuple[Row, ...]


def sync(inventory: Inventory, registry: Writable, *, write: bool) -> Synced:
    """Compare both sides and bring labels over; without ``write`` only compare."""
    things = {thing.name: thing for thing in inventory.things()}
    devices = {device.id: device for device in registry.devices()}
    rows: list[Row] = []
    entries: list[Entry] = []
    for device in devices.values():
        thing = things.get(device.id)
        if thing is None:
            if device.state != "retired":
                rows.append(Row(device.id, "not-in-aws"))
            continue
        rows += _states(device, thing)
        wanted, left_out = labels(thing)
        rows += [Row(device.id, "left-out", text) for text in left_out]
        changes = _changes(device.labels, wanted)
        room = MAX_LABELS - sum(1 for name in device.labels if not name.startswith(PREFIXES))
        if len(wanted) > room:
            rows.append(
                Row(device.id, "left-out", f"{len(wanted)} labels; there is room for {room}")
            )
        elif changes:
            entries.append(Entry(device.id, labels=changes))
            rows.append(Row(device.id, "labels", _shown(changes)))
    rows += [Row(name, "aws-only") for name in things if name not in devices]
    if write and entries:
        registry.update(entries)
    order = sorted(rows, key=lambda row: (row.finding, row.device))
    return Synced(len(things), len(devices), len(entries) if write else 0, tuple(order))


def labels(thing: Thing) -> tuple[dict[str, str], list[str]]:
    """What a thing becomes in labels, and what of it can not."""
    found: dict[str, str] = {}
    left_out = []
    for name, value in _said(thing):
        try:
            found[check_key(name)] = check_value(value, name)
        except Malformed as e:
            left_out.append(str(e)[:200])
    return found, left_out


def _said(thing: Thing) -> Iterator[tuple[str, str]]:
    yield from ((f"aws/{name}", value) for name, value in sorted(thing.attributes.items()))
    if thing.type:
        yield "aws/type", thing.type
    yield from ((f"aws-group/{group}", "member") for group in thing.groups)


def _changes(now: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str | None]:
    """What to set, and what to remove of ours that AWS does not say any more."""
    changes: dict[str, str | None] = {
        name: value for name, value in wanted.items() if now.get(name) != value
    }
    changes |= dict.fromkeys(n for n in now if n.startswith(PREFIXES) and n not in wanted)
    return changes


def _states(device: Device, thing: Thing) -> Iterator[Row]:
    said = thing.attributes.get("ota", "")
    if said == "revoked" and device.state != "retired":
        yield Row(device.id, "revoked-there", f"here it is {device.state}")
    if device.state == "retired" and said != "revoked":
        yield Row(device.id, "retired-here", f"there it is {said or 'a thing without enrolment'}")


def _shown(changes: Mapping[str, str | None]) -> str:
    return ",".join(f"{k}={v}" if v is not None else f"{k}-" for k, v in sorted(changes.items()))
