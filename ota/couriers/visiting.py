"""What couriers that visit devices share: books of who is expected to say what, and when.

Such a courier can only run a command on a device (``ota-agent relay``) and read what it prints.
What this side must not forget lies in ``visit_memory.py`` before a device is contacted; what a
device has received, its own relay remembers. So a visit that breaks off anywhere is made again.

>>> class Ssh(Visiting): ...    # adds dispatch and collect
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from ota.couriers import spool_tree, turns
from ota.couriers.orders import checked
from ota.couriers.visit_memory import Memory
from ota.errors import OtaError
from ota.ports import Clock, Delivery, Followed, Order

HURRY: Final = 20
"""Most visits to one device without a pause between them."""
_SLOWER: Final = 1.5


class Receipt(NamedTuple):
    """Which report of which device."""

    device: str
    name: str


@dataclass
class Came:
    """What came of a visit. ``told``: orders handed over or withdrawn. ``pushing``: not all is there."""

    told: list[str] = field(default_factory=list)
    acked: tuple[str, ...] = ()
    reports: list[tuple[str, bytes]] = field(default_factory=list)
    more: bool = False
    pushed: str = ""
    pushing: bool = False
    agent: str = ""
    look: str = ""


@dataclass(frozen=True)
class Pace:
    """Seconds between two looks at a device that has an order: at least, and at most."""

    least: float
    most: float


class Visiting:
    """The half of ``ports.Courier`` and ``ports.Follower`` that needs no device.

    ``name`` stands before the source of each delivery.
    """

    def __init__(self, name: str, memory: Memory, clock: Clock, pace: Pace) -> None:
        self._name = name
        self._memory = memory
        self._clock = clock
        self._pace = pace
        self._waiting: dict[Receipt, Delivery] = {}

    # -- orders --------------------------------------------------------------------------------
    def cancel(self, order: Order) -> None:
        """Withdraw the hint at the next visit; one that never arrived is not sent any more."""
        checked(order)
        for device in order.devices:
            known = self._memory.load(device)
            changed = known.without(order.id)
            if changed != known:
                self._memory.save(device, changed)

    def follow(self, order: Order, waiting: Sequence[str], *, close: bool) -> Followed:
        """Why devices without an outcome can not be visited. There is nothing to be closed."""
        states = {device: self._memory.load(device) for device in waiting}
        lost = {
            device: f"{known.code}: {known.reason}"
            for device, known in states.items()
            if known.code and order.id in known.orders
        }
        return Followed(lost, closed=close)

    def tidy(self, order: Order) -> bool:
        """Forget an order that is over; nothing of it is left."""
        for device in order.issued or order.devices:
            known = self._memory.load(device)
            if order.id in known.orders:
                self._memory.save(device, known.forgotten(order.id))
        return True

    def _intend(self, order: Order) -> list[str]:
        """Remember an order durably; the devices that do not have its hint yet."""
        checked(order)
        for device in order.devices:
            known = self._memory.load(device)
            if order.id not in known.orders:
                self._memory.save(device, known.with_order(order))
        now = self._clock()
        return [d for d in order.devices if order.id in self._memory.load(d).hints(now)]

    def _due(self, now: datetime) -> list[str]:
        """Devices that there is a reason to visit now, the longest waiting first."""
        known = {device: self._memory.load(device) for device in self._memory.devices()}
        due = [device for device, state in known.items() if state.is_due(now)]
        return sorted(due, key=lambda device: known[device].due)

    # -- reports -------------------------------------------------------------------------------
    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Remember to tell the device that its report is durable on this side."""
        piles: dict[str, list[str]] = {}
        for delivery in deliveries:
            receipt: Receipt = delivery.receipt
            piles.setdefault(receipt.device, []).append(receipt.name)
        for device, names in piles.items():
            self._acknowledge(device, names)

    def quarantine(self, delivery: Delivery, reason: str) -> None:
        """Keep it in ``.quarantine`` here with the reason beside it; the device may drop it."""
        receipt: Receipt = delivery.receipt
        folder = spool_tree.folder_name(receipt.device)
        spool_tree.keep(self._memory.folder, folder, receipt.name, delivery.data, reason)
        self._acknowledge(receipt.device, [receipt.name])

    def _acknowledge(self, device: str, names: Iterable[str]) -> None:
        known = self._memory.load(device)
        self._memory.save(device, known.acknowledged(names))
        for name in names:
            self._waiting.pop(Receipt(device, name), None)

    def _deliveries(self, limit: int) -> Sequence[Delivery]:
        """Reports not acknowledged yet: oldest of each device first, round-robin over devices."""
        piles: dict[str, list[Delivery]] = {}
        for receipt in sorted(self._waiting):
            piles.setdefault(receipt.device, []).append(self._waiting[receipt])
        return list(islice(turns.round_robin(map(iter, piles.values())), limit))

    # -- what came of visits -------------------------------------------------------------------
    def _failed(self, device: str, error: OtaError, now: datetime) -> None:
        known = self._memory.load(device)
        known = known.failed(error, now, self._pace.least, self._pace.most)
        self._memory.save(device, known)

    def _came(self, device: str, came: Came, now: datetime) -> None:
        known = self._memory.load(device)
        acked = set(known.acks)
        news = [
            (name, data)
            for name, data in came.reports
            if name not in acked and Receipt(device, name) not in self._waiting
        ]
        for name, data in news:
            receipt = Receipt(device, name)
            self._waiting[receipt] = Delivery(data, f"{self._name}:{device}/{name}", receipt)
        moving = bool(news or came.told or came.more or came.pushing)
        slower = min(known.pause * _SLOWER + 0.1, self._pace.most)
        pause = self._pace.least if moving else slower
        known = known.told(came.told).heard(data for _, data in news).took(came.acked)
        # what has more to say is heard at once, but no device can keep this side for itself
        hurry = (came.pushing or came.more) and known.hurried < HURRY
        quiet = not moving and not came.reports
        known = known.answered(now, 0.0 if hurry else pause, pause, quiet=quiet)
        hurried = known.hurried + 1 if hurry else 0
        known = msgspec.structs.replace(known, pushed=came.pushed, hurried=hurried)
        self._memory.save(device, known)


def reasons(errors: Mapping[str, OtaError]) -> dict[str, str]:
    """Device -> why it could not be reached, for the journal and for people."""
    return {device: f"{error.code}: {error}" for device, error in errors.items()}
