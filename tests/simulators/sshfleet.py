"""Devices behind real SSH servers, as the SSH courier sees them: one folder, one agent.toml each.

>>> fleet = SshFleet(tmp_path)
>>> fleet.join("press-07")
>>> fleet.courier().dispatch(order)
{}
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from simulators.identities import START
from simulators.sshd import USER, Server, keygen

from ota.couriers import ssh_inventory
from ota.couriers.ssh import Ssh
from ota.couriers.ssh_inventory import Inventory
from ota.couriers.ssh_keys import Keys
from ota.couriers.ssh_tools import Tools
from ota.couriers.visit_memory import Memory
from ota.ports import Mirror
from ota.settings import settings

AGENT = (sys.executable, "-m", "ota.agent.main")
_HEAD = """\
[defaults]
user = "{user}"
key = "file:{key}"
command = [{command}]
look = false
[limits]
{limits}
"""


class SshFleet:
    """See the module. ``hosts``, ``hops`` and ``sites`` are the tables of the inventory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = keygen(folder / "operator")
        self.hosts: dict[str, dict[str, Any]] = {}
        self.hops: dict[str, dict[str, Any]] = {}
        self.sites: dict[str, dict[str, Any]] = {}
        self.limits: dict[str, Any] = {"visit": 0.0, "command": 30.0, "connect": 20.0}
        self.defaults: dict[str, Any] = {}
        self.now = START
        self._servers: list[Server] = []

    # -- servers -----------------------------------------------------------------------------------
    def serve(self, name: str = "far", *, more: str = "") -> Server:
        """A server on loopback, stopped by :meth:`close`."""
        server = Server(self.folder / name, self.key, more=more).start()
        self._servers.append(server)
        return server

    def close(self) -> None:
        for server in self._servers:
            server.stop()

    def hop(self, name: str, server: Server, **words: Any) -> None:
        """A jump host."""
        self.hops[name] = _place(server) | words

    def join(self, device: str, server: Server, **words: Any) -> Path:
        """A device that answers at this server; returns its spool folder."""
        home = self.home(device)
        home.mkdir(parents=True, exist_ok=True)
        spool = home / "spool"
        (home / "agent.toml").write_text(
            f'device = "{device}"\nstate_dir = "{home}/state"\n'
            f'[feed]\nkind = "spool"\npath = "{spool}"\n'
        )
        self.hosts[device] = _place(server) | {"config": f"{home}/agent.toml"} | words
        return spool

    def home(self, device: str) -> Path:
        return self.folder / "devices" / quote(device, safe="")

    # -- the operator's side -----------------------------------------------------------------------
    @property
    def text(self) -> str:
        """The inventory."""
        command = ", ".join(f'"{word}"' for word in AGENT)
        limits = "".join(f"{k} = {_toml(v)}\n" for k, v in self.limits.items())
        text = _HEAD.format(user=USER, key=self.key, command=command, limits=limits)
        for table, rows in (("sites", self.sites), ("hops", self.hops), ("hosts", self.hosts)):
            for name, words in rows.items():
                text += f'[{table}."{name}"]\n'
                text += "".join(f"{k} = {_toml(v)}\n" for k, v in words.items())
        return text

    @property
    def inventory(self) -> Inventory:
        return ssh_inventory.read(self.text.encode(), "ssh.toml")

    @property
    def keys(self) -> Keys:
        """Read as a workspace's settings read them."""
        return Keys(_settings(self.folder).secret)

    @property
    def memory(self) -> Memory:
        return Memory(self.folder / "state" / "ssh")

    def clock(self) -> datetime:
        return self.now

    def courier(self, mirror: Mirror | None = None) -> Ssh:
        """A courier as a new process of the operator's has it."""
        return Ssh(self.inventory, self.keys, self.memory, self.clock, mirror)

    def tools(self, mirror: Mirror | None = None) -> Tools:
        return Tools(self.inventory, self.keys, self.memory, mirror)


def _place(server: Server) -> dict[str, Any]:
    return {
        "address": server.address,
        "port": server.port,
        "fingerprints": [server.fingerprint],
    }


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)


def _settings(folder: Path) -> settings.Settings:
    (folder / settings.FILE).write_text(settings.TEMPLATE)
    return settings.load(folder, {})


Make = Callable[[Path], SshFleet]
