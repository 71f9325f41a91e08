"""The SSH courier: hints and reports through a command, ``ota-agent relay``, on each device.

Devices are visited in parallel, within the limits of their sites, when they have something to be
told or something is expected of them:

* ``dispatch`` visits each device of an order at once. One that can not be reached is reported
  with its reason, and tried again, ever more rarely, while the order lives;
* ``collect`` visits devices that are due: often while an order moves, seldom while nothing does,
  not at all when it has ended and all is acknowledged. It begins no new visits after
  :data:`BUDGET` seconds, so that dead sites do not stop a rollout;
* ``acknowledge`` and ``cancel`` are taken along by the next visit.

What a device has received, its own relay remembers; what this side must not forget lies in
``ssh_memory.py`` before a device is contacted. So a visit that breaks off anywhere is simply made
again.

>>> courier = Ssh(inventory, keys, Memory(folder), clock)
>>> courier.dispatch(order)
{'press-09': 'ssh-unreachable: press-09 (10.20.0.9:22): Connection refused'}
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from ota.couriers import spool_tree, ssh_relay, turns
from ota.couriers.ssh_inventory import Inventory
from ota.couriers.ssh_keys import Keys
from ota.couriers.ssh_links import Done, Link, Links
from ota.couriers.ssh_memory import Memory, State
from ota.couriers.ssh_relay import Came, Errands
from ota.errors import Malformed
from ota.ports import Clock, Delivery, Followed, Mirror, Order
from signing import strict
from signing.assignment import ORDER

BUDGET: Final = 20.0
_SLOWER: Final = 1.5


class Receipt(NamedTuple):
    """Which report of which device."""

    device: str
    name: str


class Ssh:
    """Implements ``ports.Courier`` and ``ports.Follower``; see the module. ``mirror`` serves hosts that have one."""

    def __init__(
        self,
        inventory: Inventory,
        keys: Keys,
        memory: Memory,
        clock: Clock,
        mirror: Mirror | None = None,
    ) -> None:
        self._inventory = inventory
        self._keys = keys
        self._memory = memory
        self._clock = clock
        self._mirror = mirror
        self._waiting: dict[Receipt, Delivery] = {}

    # -- out -------------------------------------------------------------------------------------
    def dispatch(self, order: Order) -> Mapping[str, str]:
        """Visit each device with the hint; idempotent on the order's id.

        Returns device -> reason for those that could not be reached now. Raises ``Malformed``
        for an order id or device that is none, ``Outage`` when the memory can not be written.
        """
        _checked(order)
        for device in order.devices:
            known = self._memory.load(device)
            if order.id not in known.orders:
                self._memory.save(device, known.with_order(order))
        now = self._clock()
        open_ = [d for d in order.devices if order.id in self._memory.load(d).hints(now)]
        return {
            done.device: f"{done.error.code}: {done.error}"
            for done in self._visit(open_)
            if done.error is not None
        }

    def cancel(self, order: Order) -> None:
        """Withdraw the hint at the next visit; one that never arrived is not sent any more."""
        _checked(order)
        for device in order.devices:
            known = self._memory.load(device)
            changed = known.without(order.id)
            if changed != known:
                self._memory.save(device, changed)

    # -- books -----------------------------------------------------------------------------------
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

    def want(self, devices: Iterable[str]) -> None:
        """Have these devices visited by the next ``collect``, whatever is expected of them."""
        for device in devices:
            known = self._memory.load(self._inventory.host(device).name)
            self._memory.save(device, known.visit_now())

    def remembered(self) -> dict[str, State]:
        """What is remembered of each device of the inventory, for people to look at."""
        return {device: self._memory.load(device) for device in sorted(self._inventory.hosts)}

    # -- in --------------------------------------------------------------------------------------
    def collect(self, limit: int) -> Sequence[Delivery]:
        """Visit what is due, then reports not acknowledged yet, oldest first, round-robin."""
        now = self._clock()
        until = time.monotonic() + BUDGET
        due = [d for d in self._memory.devices() if self._memory.load(d).is_due(now)]
        due.sort(key=lambda device: self._memory.load(device).due)
        self._visit(due, lambda: time.monotonic() > until)
        piles: dict[str, list[Delivery]] = {}
        for receipt in sorted(self._waiting):
            piles.setdefault(receipt.device, []).append(self._waiting[receipt])
        return list(islice(turns.round_robin(map(iter, piles.values())), limit))

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

    # -- visits ------------------------------------------------------------------------------------
    def _visit(self, devices: Iterable[str], stop: Callable[[], bool] = bool) -> list[Done[Came]]:
        """Visit in parallel; what came is remembered device by device, in this thread."""
        now = self._clock()
        errands = {device: self._errands(device, now) for device in devices}

        def work(link: Link) -> Came:
            name = link.host.name
            return ssh_relay.visit(link, errands[name], self._mirror, self._memory.lock(name))

        found = []
        with Links(self._inventory, self._keys) as links:
            for done in links.each(errands, work, stop=stop):
                self._remember(done, now)
                found.append(done)
        return found

    def _errands(self, device: str, now: datetime) -> Errands:
        known = self._memory.load(device)
        return Errands(known.hints(now), known.cancels(), known.acks, known.pushed)

    def _remember(self, done: Done[Came], now: datetime) -> None:
        limits = self._inventory.limits
        known = self._memory.load(done.device)
        if done.value is None:
            if done.error is not None:
                known = known.failed(done.error, now, limits.visit, limits.visit_max)
                self._memory.save(done.device, known)
            return
        came = done.value
        acked = set(known.acks)
        news = [
            (name, data)
            for name, data in came.reports
            if name not in acked and Receipt(done.device, name) not in self._waiting
        ]
        for name, data in news:
            receipt = Receipt(done.device, name)
            self._waiting[receipt] = Delivery(data, f"ssh:{done.device}/{name}", receipt)
        moving = bool(news or came.told or came.more or came.pushing)
        pause = limits.visit if moving else min(known.pause * _SLOWER + 0.1, limits.visit_max)
        known = known.told(came.told).heard(data for _, data in news).took(came.acked)
        due = 0.0 if came.pushing or came.more else pause
        quiet = not moving and not came.reports
        known = known.answered(now, due, pause, quiet=quiet)
        self._memory.save(done.device, msgspec.structs.replace(known, pushed=came.pushed))


def _checked(order: Order) -> None:
    if not ORDER.fullmatch(order.id):
        raise Malformed(f"order: {order.id!r:.80} is not an order id", subject=order.id)
    for device in order.devices:
        strict.identifier(device, "device")
