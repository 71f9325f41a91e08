"""Settings -> what people do with Systems Manager: nodes, associations, compliance, activation.

>>> SsmParts(settings, registry, courier, assignments).sync(write=True, now=now)
[('press-07', 'mi-0123456789abcdef0')]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from ota.aws.api import Api
from ota.couriers import ssm_calls, ssm_tools
from ota.couriers.ssm_tools import Activation, Standing, Tools
from ota.errors import NotFound
from ota.fleet.entries import Entry
from ota.settings.couriers import SsmSettings
from ota.wiring import couriers as wiring_couriers
from signing.assignment import Assignment

if TYPE_CHECKING:
    from ota.couriers.ssm import Ssm
    from ota.fleet.registry import Registry
    from ota.ports import Clock, Device
    from ota.settings.settings import Settings
    from signing.playbooks.run import PlaybookRun


class SsmParts:
    """Everything of one workspace that speaks to Systems Manager besides rollouts."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        clock: Clock,
        assignments: Callable[[str], Mapping[str, Assignment | PlaybookRun]],
    ) -> None:
        self._settings, self._registry, self._clock = settings, registry, clock
        self._assignments = assignments

    @property
    def told(self) -> SsmSettings:
        """``[couriers.ssm]``; ``NotFound`` where this workspace does not use it."""
        found = self._settings.ssm
        if found is None:
            raise NotFound(
                "this workspace reaches no device by Systems Manager",
                subject="couriers.ssm",
                remedy="write [couriers.ssm] into ota.toml",
            )
        return found

    @cached_property
    def courier(self) -> Ssm:
        """The courier, for its document."""
        return wiring_couriers.ssm(self._settings, self.told, lambda: self._registry, self._clock)

    @cached_property
    def tools(self) -> Tools:
        """By hand."""
        api = wiring_couriers.ssm_api(self._settings, self.told)
        return Tools(api, lambda: self.courier.document, self.told.prefix)

    def sync(self, *, write: bool) -> list[tuple[str, str]]:
        """(device, node) of registered devices whose label differs; set when ``write``."""
        label = self.told.node_label
        nodes = self.tools.nodes()
        found = [
            (device.id, nodes[device.id])
            for device in self._registry.devices("state!=retired")
            if device.id in nodes and device.labels.get(label) != nodes[device.id]
        ]
        if write and found:
            self._registry.update(Entry(d, labels={label: node}) for d, node in found)
        return found

    def comply(self, selector: str) -> list[tuple[str, str, int]]:
        """(device, node, components shown) of devices that have a node."""
        found = []
        for device in self._registry.devices(selector):
            node = device.labels.get(self.told.node_label, "")
            if node and device.state != "retired":
                standings = list(self._standings(device))
                found.append((device.id, node, self.tools.comply(node, standings, self._clock())))
        return found

    def _standings(self, device: Device) -> Iterator[Standing]:
        """What the device signed, beside what its director assigns."""
        assigned = self._assignments(device.id)
        for name, state in sorted(device.components.items()):
            running = state.current
            found = assigned.get(name)
            wanted = found if isinstance(found, Assignment) else None
            fits = wanted is None or (running is not None and running.sha256 == wanted.sha256)
            version = (running.version or running.sha256[:12]) if running else "nothing"
            why = "" if fits or wanted is None else f"assigned: {wanted.path} by {wanted.order}"
            yield Standing(name, version, fits and device.state == "active", why or device.state)

    def activate(self, device: str, lifetime: timedelta) -> Activation:
        """A hybrid activation for one registered device."""
        self._registry.device(device)
        api = Api(ssm_calls.ACTIVATION, "enrol", region=self._settings.aws.region, rates=None)
        prefix = self.told.prefix
        return ssm_tools.activate(api, device, prefix, lifetime, self._clock())
