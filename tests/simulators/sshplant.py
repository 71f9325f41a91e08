"""A plant some of whose devices are reached by SSH: two cells behind a jump host, over real sshd.

The cells are network namespaces that only the jump host reaches. Devices of the north can not
reach the store: their agents look into a mirror that is pushed to them.

>>> with Cells(folder) as cells:
...     plant = SshPlant(folder / "plant", cells, ["s-1"])
...     plant.join_cell("north", "n-1", "n-2")
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from simulators.plant import Gateway, Part, Plant
from simulators.sshd import USER, Door, Network, Server, keygen

from ota.settings import settings

_HEAD = """\
[defaults]
user = "{user}"
key = "file:{key}"
command = {command}
look = false
[limits]
visit = 0.0
connect = 5.0
"""


class Cells(contextlib.AbstractContextManager["Cells"]):
    """A jump host, and one server in each of two cells; they outlive a plant's freezing."""

    def __init__(self, folder: Path) -> None:
        self.key = keygen(folder / "operator")
        self._stack = contextlib.ExitStack()
        self._folder = folder
        self.far: dict[str, Server] = {}
        self.jump: Door

    def __enter__(self) -> Self:
        network = self._stack.enter_context(Network("north", "south"))
        self.jump = network.door(self._folder / "jump", self.key).start()
        for cell in network.cells:
            server = network.far(cell, self._folder / cell, self.key)
            self.far[cell] = self._stack.enter_context(server)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class SshPlant(Plant):
    """See the module. ``hosts`` are the rows of the inventory, changed by tests at will."""

    def __init__(self, folder: Path, cells: Cells, devices: Sequence[str] = ()) -> None:
        self.cells = cells
        self.hosts: dict[str, dict[str, Any]] = {}
        super().__init__(folder, devices)

    def reopen(self) -> None:
        """As ever, with the SSH courier and the inventory as it is now."""
        toml = self.workspace / settings.FILE
        text = toml.read_text()
        if "couriers.ssh" not in text:
            toml.write_text(f'{text}\n[couriers.ssh]\ninventory = "ssh.toml"\n')
        (self.workspace / "ssh.toml").write_text(self._inventory())
        super().reopen()

    def join_cell(self, cell: str, *devices: str, **words: Any) -> None:
        """Devices of a cell; those of the north have mirrors in place of the store."""
        for device in devices:
            made = Gateway(self, device, (Part(),))
            spool, mirror = made.home / "spool", made.home / "mirror"
            text = made.toml.read_text().replace(str(made.spool), str(spool))
            host = _place(self.cells.far[cell]) | {"site": cell, "config": str(made.toml)} | words
            if cell == "north":
                mirror.mkdir()
                text = text.replace(self.url, mirror.as_uri())
                host["mirror"] = str(mirror)
            made.toml.write_text(text)
            made.spool = spool
            self.devices[device] = made
            self.hosts[device] = host
        enrolments = [self.devices[device].enrol() for device in devices]
        joined = self.wiring.join(enrolments, None, {"cell": cell}, "ssh")
        assert [j.result for j in joined] == ["registered"] * len(devices), joined
        self.reopen()

    def mirror(self, device: str) -> Path:
        return self.devices[device].home / "mirror"

    def _inventory(self) -> str:
        command = json.dumps([sys.executable, "-m", "ota.agent.main"])
        text = _HEAD.format(user=USER, key=self.cells.key, command=command)
        for cell in self.cells.far:
            text += f'[sites.{cell}]\nparallel = 4\nvia = ["jump"]\n'
        rows = {"hops.jump": _place(self.cells.jump)}
        rows |= {f"hosts.{name}": words for name, words in self.hosts.items()}
        for name, words in rows.items():
            text += f"[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in words.items())
        return text


def _place(server: Server) -> dict[str, Any]:
    return {
        "address": server.address,
        "port": server.port,
        "fingerprints": [server.fingerprint],
    }
