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
``visit_memory.py`` before a device is contacted. So a visit that breaks off anywhere is simply made
again.

>>> courier = Ssh(inventory, keys, Memory(folder), clock)
>>> courier.dispatch(order)
{'press-09': 'ssh-unreachable: press-09 (10.20.0.9:22): Connection refused'}
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from ota.couriers import ssh_relay, visiting
from ota.couriers.ssh_inventory import Inventory
from ota.couriers.ssh_keys import Keys
from ota.couriers.ssh_links import Done, Link, Links
from ota.couriers.ssh_relay import Errands
from ota.couriers.visit_memory import Memory, State
from ota.couriers.visiting import Came, Pace, Visiting
from ota.ports import Clock, Delivery, Mirror, Order

BUDGET: Final = 20.0


class Ssh(Visiting):
    """Implements ``ports.Courier`` and ``ports.Follower``; see the module. ``mirror`` serves hosts that have one."""

    def __init__(
        self,
        inventory: Inventory,
        keys: Keys,
        memory: Memory,
        clock: Clock,
        mirror: Mirror | None = None,
    ) -> None:
        limits = inventory.limits
        super().__init__("ssh", memory, clock, Pace(limits.visit, limits.visit_max))
        self._inventory = inventory
        self._keys = keys
        self._mirror = mirror

    def dispatch(self, order: Order) -> Mapping[str, str]:
        """Visit each device with the hint; idempotent on the order's id.

        Returns device -> reason for those that could not be reached now. Raises ``Malformed``
        for an order id or device that is none, ``Outage`` when the memory can not be written.
        """
        found = self._visit(self._intend(order))
        return visiting.reasons({d.device: d.error for d in found if d.error is not None})

    def want(self, devices: Iterable[str]) -> None:
        """Have these devices visited by the next ``collect``, whatever is expected of them."""
        for device in devices:
            known = self._memory.load(self._inventory.host(device).name)
            self._memory.save(device, known.visit_now())

    def remembered(self) -> dict[str, State]:
        """What is remembered of each device of the inventory, for people to look at."""
        return {device: self._memory.load(device) for device in sorted(self._inventory.hosts)}

    def collect(self, limit: int) -> Sequence[Delivery]:
        """Visit what is due, then reports not acknowledged yet, oldest first, round-robin."""
        until = time.monotonic() + BUDGET
        self._visit(self._due(self._clock()), lambda: time.monotonic() > until)
        return self._deliveries(limit)

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
                if done.value is not None:
                    self._came(done.device, done.value, now)
                elif done.error is not None:
                    self._failed(done.device, done.error, now)
                found.append(done)
        return found

    def _errands(self, device: str, now: datetime) -> Errands:
        known = self._memory.load(device)
        return Errands(known.hints(now), known.cancels(), known.acks, known.pushed)
