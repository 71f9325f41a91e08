"""Couriers as the contract suite sees them: where hints arrive, where devices leave reports.

A bench is one courier's whole world: ``courier()`` is what a new process of the operator's has.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from simulators.sshfleet import SshFleet

from ota.couriers.spool import Spool
from ota.ports import Courier
from signing import strict


class Bench(Protocol):
    """What the contract needs of a courier's world."""

    def courier(self) -> Courier: ...

    def join(self, *devices: str) -> None:
        """These devices are there and can be reached."""

    def spool(self, device: str) -> Path:
        """Where hints arrive at a device, and where it leaves its reports."""

    def lose(self, device: str) -> None:
        """From now on this device can not be reached."""

    def quarantine(self, device: str) -> list[tuple[bytes, str]]:
        """What was set aside of a device: its bytes, and the reason."""


class SpoolBench:
    """Folders."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "spool"

    def courier(self) -> Courier:
        return Spool(self.root)

    def join(self, *devices: str) -> None:
        for device in devices:
            (self.root / quote(device, safe="")).mkdir(parents=True)

    def spool(self, device: str) -> Path:
        return self.root / quote(device, safe="")

    def lose(self, device: str) -> None:
        shutil.rmtree(self.spool(device))
        self.spool(device).write_text("not a folder")

    def quarantine(self, device: str) -> list[tuple[bytes, str]]:
        return list(set_aside(self.root, device))

    def close(self) -> None:
        """Nothing runs."""


class SshBench:
    """Real servers on loopback: a good one, and one that is down."""

    def __init__(self, folder: Path, fleet: SshFleet | None = None) -> None:
        self.fleet = fleet or SshFleet(folder)
        self._up = self.fleet.serve()

    def courier(self) -> Courier:
        return self.fleet.courier()

    def join(self, *devices: str) -> None:
        for device in devices:
            self.fleet.join(device, self._up)

    def spool(self, device: str) -> Path:
        return self.fleet.home(device) / "spool"

    def lose(self, device: str) -> None:
        self.fleet.hosts[device]["port"] = 1

    def quarantine(self, device: str) -> list[tuple[bytes, str]]:
        return list(set_aside(self.fleet.memory.folder, device))

    def close(self) -> None:
        self.fleet.close()


def set_aside(root: Path, device: str) -> Iterator[tuple[bytes, str]]:
    folder = root / ".quarantine" / quote(device, safe="")
    for path in sorted(folder.glob("*.reason")):
        yield Path(str(path).removesuffix(".reason")).read_bytes(), path.read_text().strip()


def put(bench: Bench, device: str, counter: int, data: bytes) -> Path:
    """What a device's feed leaves."""
    folder = bench.spool(device) / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{counter:010}-{strict.digest(data)[:8]}.json"
    path.write_bytes(data)
    return path


def hints(bench: Bench, device: str) -> list[str]:
    """Orders whose hints lie at a device."""
    return sorted(p.stem for p in (bench.spool(device) / "orders").glob("[!.]*.json"))
