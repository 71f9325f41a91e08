"""A plant by every road but the broker: spool, SSH behind a jump host, Systems Manager.

>>> plant = EdgePlant(folder, cells, ssm, ["s-1"])
>>> plant.join_nodes("w-1", "w-2")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simulators.plant import Gateway, Part
from simulators.sshplant import Cells, SshPlant
from simulators.ssm_node import Node
from simulators.ssmfake import FakeSsm

from ota.settings import settings
from signing import strict

_SSM = """
[couriers.ssm]
look = false
wait = 0
patience = 1.0
visit = 1.0
visit_max = 1.0
"""


class EdgePlant(SshPlant):
    """See the module. ``ssm`` outlives a plant's freezing, as AWS would."""

    first = ""
    """The rollout that all took before the tests."""

    def __init__(
        self, folder: Path, cells: Cells, ssm: FakeSsm, devices: Sequence[str] = ()
    ) -> None:
        self.ssm = ssm
        super().__init__(folder, cells, devices)

    def reopen(self) -> None:
        """As ever, with the courier ``ssm``."""
        toml = self.workspace / settings.FILE
        text = toml.read_text()
        if "couriers.ssm" not in text:
            toml.write_text(text + _SSM)
        super().reopen()

    def join_nodes(self, *devices: str) -> None:
        """Devices that are managed nodes; who is which node is taken from Systems Manager."""
        for device in devices:
            made = Gateway(self, device, (Part(),))
            spool = made.home / "spool"
            made.toml.write_text(made.toml.read_text().replace(str(made.spool), str(spool)))
            made.spool = spool
            self.devices[device] = made
            node = f"mi-{strict.digest(device.encode())[:17]}"
            self.ssm.nodes[node] = Node(node, made.home, device)
        enrolments = [self.devices[device].enrol() for device in devices]
        joined = self.wiring.join(enrolments, None, {"cell": "west"}, "ssm")
        assert [j.result for j in joined] == ["registered"] * len(devices), joined
        assert [d for d, _ in self.wiring.ssm.sync(write=True)] == sorted(devices)
