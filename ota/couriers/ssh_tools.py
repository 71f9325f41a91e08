"""What people do with SSH hosts by hand: see what works, push mirrors, see what is remembered.

>>> for done in Tools(inventory, keys, memory, mirror).check(["press-07"]):
...     print(done.device, done.error or done.value.agent)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ota.couriers import ssh_push, ssh_relay
from ota.couriers.ssh_inventory import Inventory
from ota.couriers.ssh_keys import Keys
from ota.couriers.ssh_links import Done, Link, Links
from ota.couriers.ssh_push import Pushed
from ota.couriers.visit_memory import Memory
from ota.errors import Outage
from ota.ports import Mirror
from signing import durable

Progress = Callable[[str, int, int], None]
"""A device, and how many bytes of how many are there."""


@dataclass(frozen=True)
class Checked:
    """What one device's host answers. ``seen``: type and fingerprint of its key."""

    seen: str
    agent: str


class Tools:
    """See the module."""

    def __init__(
        self, inventory: Inventory, keys: Keys, memory: Memory, mirror: Mirror | None
    ) -> None:
        self.inventory = inventory
        self._keys = keys
        self._memory = memory
        self._mirror = mirror

    def chosen(self, limit: Iterable[str]) -> list[str]:
        """The devices named, each in the inventory (``NotFound``); all of it where none is."""
        found = [self.inventory.host(device).name for device in dict.fromkeys(limit)]
        return found or sorted(self.inventory.hosts)

    def links(self) -> Links:
        """Connections for one run over many hosts; use it in a ``with`` statement."""
        return Links(self.inventory, self._keys)

    def check(self, devices: Iterable[str]) -> Iterator[Done[Checked]]:
        """Connect, authenticate, ask the agent who it is; nothing changes over there."""
        with self.links() as links:
            yield from links.each(devices, _check)

    def push(self, devices: Iterable[str], progress: Progress) -> Iterator[Done[Pushed]]:
        """Bring each device's mirror up to date, resumed where an earlier push stopped."""
        mirror = self._mirror
        limit = self.inventory.limits.push

        def work(link: Link) -> Pushed:
            name = link.host.name
            if not link.host.mirror or mirror is None:
                raise Outage(
                    f"{name} has no mirror",
                    code="ssh-no-mirror",
                    subject=name,
                    remedy=f'[hosts.{name}] mirror = "/folder" in the inventory',
                )
            with durable.locked(self._memory.lock(name)):
                return ssh_push.push(
                    link,
                    mirror.files(name),
                    mirror.piece,
                    until=time.monotonic() + limit,
                    progress=lambda done, of: progress(name, done, of),
                )

        with self.links() as links:
            yield from links.each(devices, work, total=limit + 60)

    def mirrored(self) -> list[str]:
        """Devices that have a mirror."""
        return sorted(name for name, host in self.inventory.hosts.items() if host.mirror)

    def status(self) -> list[dict[str, Any]]:
        """One row for each host: what is expected of it, and how its last visit went."""
        rows = []
        for device, host in sorted(self.inventory.hosts.items()):
            known = self._memory.load(device)
            rows.append(
                {
                    "device": device,
                    "site": host.site,
                    "address": f"{host.address}:{host.port}",
                    "via": [hop.name for hop in self.inventory.chain(device)],
                    "orders": sorted(known.orders),
                    "seen": known.seen,
                    "code": known.code,
                    "reason": known.reason,
                    "next": known.due if known.orders or known.acks else "",
                }
            )
        return rows


def _check(link: Link) -> Checked:
    name, mirror = link.host.name, link.host.mirror
    agent = ssh_relay.ask(link)
    if mirror and link.run(["test", "-d", mirror, "-a", "-w", mirror]).status:
        raise Outage(
            f"{name}: {mirror} is no folder that user {link.host.user} can write to",
            code="ssh-push",
            subject=name,
            remedy=f"install -d -o {link.host.user} {mirror}, there",
        )
    return Checked(link.seen, agent)
