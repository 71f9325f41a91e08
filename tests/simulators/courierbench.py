"""Couriers as the contract suite sees them: where hints arrive, where devices leave reports.

A bench is one courier's whole world: ``courier()`` is what a new process of the operator's has.
"""

from __future__ import annotations

import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import pytest
from simulators.identities import START
from simulators.iotthings import Plant, eventually
from simulators.ministack import Account
from simulators.sshfleet import SshFleet
from simulators.ssmfake import FakeSsm

from ota.aws.api import Api
from ota.couriers import sqs_reports, ssm_calls
from ota.couriers.spool import Spool
from ota.couriers.ssm import Options, Ssm
from ota.ports import Courier
from signing import strict


class Bench(Protocol):
    """What the contract needs of a courier's world."""

    def courier(self) -> Courier: ...

    def join(self, *devices: str) -> None:
        """These devices are there and can be reached."""

    def lose(self, device: str) -> None:
        """From now on this device can not be reached."""

    def hints(self, device: str) -> list[str]:
        """Orders whose hints wait for a device."""

    def take(self, device: str) -> bytes:
        """The device takes the hint that waits, and is done with it."""

    def put(self, device: str, counter: int, data: bytes) -> None:
        """What a device's feed hands over."""

    def waiting(self, device: str) -> int:
        """Reports of a device that are still there, wherever that is."""

    def later(self) -> None:
        """What a process that died had taken is offered again."""

    def quarantine(self, device: str) -> list[tuple[bytes, str]]:
        """What was set aside of a device: its bytes, and the reason."""

    def close(self) -> None:
        """End what runs."""


class FolderBench(ABC):
    """Both ends meet in a folder: hints arrive there, and reports are left there."""

    @abstractmethod
    def spool(self, device: str) -> Path:
        """The folder."""

    def hints(self, device: str) -> list[str]:
        return sorted(p.stem for p in (self.spool(device) / "orders").glob("[!.]*.json"))

    def take(self, device: str) -> bytes:
        (path,) = (self.spool(device) / "orders").glob("[!.]*.json")
        data = path.read_bytes()
        path.unlink()
        return data

    def put(self, device: str, counter: int, data: bytes) -> None:
        self.put_file(device, counter, data)

    def put_file(self, device: str, counter: int, data: bytes) -> Path:
        """The same, and where it lies."""
        folder = self.spool(device) / "reports"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{counter:010}-{strict.digest(data)[:8]}.json"
        path.write_bytes(data)
        return path

    def waiting(self, device: str) -> int:
        return len(list((self.spool(device) / "reports").glob("*.json")))

    def later(self) -> None:  # noqa: B027 - nothing is to be done: files wait for everybody
        """Files wait for everybody."""


class SpoolBench(FolderBench):
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


class SshBench(FolderBench):
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


class SsmBench(FolderBench):
    """A Systems Manager on loopback, and nodes that run its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fake = FakeSsm(folder).__enter__()
        self._patch = pytest.MonkeyPatch()
        self.fake.use(self._patch)

    def courier(self) -> Courier:
        api = Api(ssm_calls.CALLS, ssm_calls.ROLE, rates=dict.fromkeys(ssm_calls.CALLS, 1000.0))
        options = Options(visit=0.0, visit_max=0.0, look=False, patience=1.0, wait=0)
        nodes, folder = self.fake.node_ids, self.folder / "state" / "ssm"
        return Ssm(api, nodes, folder, lambda: START, options)

    def join(self, *devices: str) -> None:
        for device in devices:
            self.fake.join(device)

    def spool(self, device: str) -> Path:
        return self.fake.node(device).folder / "spool"

    def lose(self, device: str) -> None:
        self.fake.node(device).ping = "ConnectionLost"

    def quarantine(self, device: str) -> list[tuple[bytes, str]]:
        return list(set_aside(self.folder / "state" / "ssm", device))

    def close(self) -> None:
        self._patch.undo()
        self.fake.__exit__()


class IotJobsBench:
    """An emulated AWS account. What was taken and not deleted comes again after two seconds."""

    def __init__(self, aws: Account, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqs_reports, "VISIBILITY", 2)
        self.plant = Plant(aws, folder, monkeypatch)

    def courier(self) -> Courier:
        return self.plant.courier()

    def join(self, *devices: str) -> None:
        self.plant.things(*devices)

    def lose(self, device: str) -> None:
        self.plant.iot.delete_thing(thingName=device)

    def hints(self, device: str) -> list[str]:
        return self.plant.pending(device)

    def take(self, device: str) -> bytes:
        (job,) = self.plant.pending(device)
        data = self.plant.take(device)
        assert data is not None
        self.plant.end(device, job)
        return data

    def put(self, device: str, counter: int, data: bytes) -> None:
        self.plant.publish(device, data)

    def waiting(self, device: str) -> int:
        return sum(self._counts())

    def later(self) -> None:
        eventually(lambda: self._counts()[1] == 0)

    def quarantine(self, device: str) -> list[tuple[bytes, str]]:
        found = []
        for path in (self.plant.folder / "quarantine").glob("*.reason"):
            where, reason = re.fullmatch(r"(sqs:[^/]+)/[^:]+: (.*)\n", path.read_text()).groups()  # type: ignore[union-attr] # else the test fails
            if where == f"sqs:{device}":
                found.append((path.with_suffix(".json").read_bytes(), reason))
        return found

    def close(self) -> None:
        """The account is left as it is."""

    def _counts(self) -> tuple[int, int]:
        """Messages that wait, and messages that somebody has taken."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        sqs = self.plant.aws.client("sqs")
        found = sqs.get_queue_attributes(QueueUrl=self.plant.queue, AttributeNames=names)
        return int(found["Attributes"][names[0]]), int(found["Attributes"][names[1]])


def set_aside(root: Path, device: str) -> Iterator[tuple[bytes, str]]:
    folder = root / ".quarantine" / quote(device, safe="")
    for path in sorted(folder.glob("*.reason")):
        yield Path(str(path).removesuffix(".reason")).read_bytes(), path.read_text().strip()
