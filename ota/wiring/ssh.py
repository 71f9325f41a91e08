"""The SSH courier of a workspace, put together from its settings and its inventory.

>>> SshParts(settings, clock, mirror).courier.dispatch(order)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from ota.couriers.ssh import Ssh
from ota.couriers.ssh_inventory import LIMIT, Inventory, read
from ota.couriers.ssh_keys import Keys
from ota.couriers.ssh_native import SshShells
from ota.couriers.ssh_tools import Tools
from ota.couriers.visit_memory import Memory
from ota.errors import NotFound
from ota.ports import Clock, Mirror
from ota.settings.settings import Settings
from signing import durable


class SshParts:
    """Everything of one workspace that speaks SSH. ``mirror`` is asked for when it is needed."""

    def __init__(self, settings: Settings, clock: Clock, mirror: Callable[[], Mirror]) -> None:
        self._settings = settings
        self._clock = clock
        self._mirror = mirror

    @cached_property
    def inventory(self) -> Inventory:
        """The hosts; ``NotFound`` or ``Malformed`` (file, table and key)."""
        path = self._settings.ssh_inventory
        if path is None:
            raise NotFound(
                "this workspace reaches no device by SSH",
                subject="couriers.ssh",
                remedy="[couriers.ssh] in ota.toml, and the inventory that it names",
            )
        data = durable.read(path, LIMIT, "SSH inventory")
        if data is None:
            raise NotFound(f"there is no {path}", subject=str(path), remedy=f"write {path}")
        return read(data, path.name)

    @cached_property
    def keys(self) -> Keys:
        """The operator's keys, read when a hop needs them."""
        return Keys(self._settings.secret)

    @cached_property
    def memory(self) -> Memory:
        """What is remembered of each device."""
        return Memory(self._settings.state / "ssh")

    @cached_property
    def _wanted_mirror(self) -> Mirror | None:
        return self._mirror() if any(h.mirror for h in self.inventory.hosts.values()) else None

    @cached_property
    def courier(self) -> Ssh:
        """The courier ``ssh``."""
        return Ssh(self.inventory, self.keys, self.memory, self._clock, self._wanted_mirror)

    @cached_property
    def tools(self) -> Tools:
        """What people do by hand, and connections for whoever runs something on many hosts."""
        return Tools(self.inventory, self.keys, self.memory, self._wanted_mirror)

    @cached_property
    def shells(self) -> SshShells:
        """Commands on hosts, agent or not."""
        return SshShells(self.tools)
