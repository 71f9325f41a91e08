"""One device in a folder: real state, identity, trust room, downloader, installer and spool.

Only the world around it is played: the health probe and the machine (boots, clock, interlock).
``process()`` is what starting ``ota-agent`` is: a new agent over what is on the disk.

>>> box = Box(tmp_path)
>>> box.ship("app/app-1.bin", b"one")
>>> box.process().cycle()
>>> box.running
b'one'
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from simulators.repos import NOW, World

from ota.agent import identity
from ota.agent.agent import Agent
from ota.agent.apply import Applier
from ota.agent.build import text_of
from ota.agent.download import Downloader, DownloadLimits
from ota.agent.endings import Result
from ota.agent.feeds.spool import SpoolFeed
from ota.agent.installers.single_file import SingleFile
from ota.agent.parts import Component
from ota.agent.report import Reporter
from ota.agent.runs.packages import Packages
from ota.agent.runs.runner import Runner
from ota.agent.runs.services import Services
from ota.agent.runs.steps import Steps
from ota.agent.runs.updating import Updating
from ota.agent.runs.wiping import Wiping
from ota.agent.state import State
from ota.agent.trust import TrustRoom
from ota.ports_device import Healthy, Unhealthy
from signing import layout, report, statement
from signing.report import Report

HARDWARE = "gw-rev-b"


@dataclass
class PlayedProbe:
    """Healthy unless ``sick`` says why not; ``asked`` counts."""

    sick: str = ""
    asked: list[float] = field(default_factory=list)

    def check(self, deadline: float) -> Healthy | Unhealthy:
        self.asked.append(deadline)
        return Unhealthy(self.sick) if self.sick else Healthy()


@dataclass
class PlayedMachine:
    """Boots when told; says no when told."""

    boot: str = "boot-1"
    seconds: float = 1000.0
    busy: str = ""
    reboots: int = 0

    def boot_id(self) -> str:
        return self.boot

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def may_install(self) -> str:
        return self.busy

    def reboot(self) -> None:
        self.reboots += 1


class Box:
    """See the module. ``installer`` may be replaced before ``process()`` is called."""

    def __init__(self, folder: Path, device: str = "press-07") -> None:
        self.folder = folder
        self.world = World(device)
        self.device = device
        self.now = NOW
        self.probe = PlayedProbe()
        self.machine = PlayedMachine()
        self.slot = folder / "slots" / "app.bin"
        self.own = folder / "state"
        self.own.mkdir(mode=0o700)
        self.spool = folder / "spool"
        self.soak = timedelta(hours=1)
        self.limits = DownloadLimits(minimum_rate=0)
        self.deadline = 30.0
        self.keeps = True
        self.playbooks = True
        self.platform = frozenset({"linux"})
        self.services = Services.here(None)
        self.packages = Packages.here(None)
        self.installer: Any = SingleFile.create(
            {"path": str(self.slot)}, self.own / "components" / "app", "component app"
        )
        self.signer = identity.make(self.own / "identity")
        self.publish()
        self.room().provision(
            self.world.director.files["1.root.json"], self.world.image.files["1.root.json"]
        )
        with self.opened(create=True) as state:
            state.put("state_id", "incarnation-1")
            state.put("provisioned", "1")

    # -- the operators -------------------------------------------------------------------------
    def publish(self) -> None:
        """Copy the world's files into the store folder."""
        store = self.folder / "store"
        for repo, name in (
            (self.world.director, lambda n: layout.director_metadata(self.device, n)),
            (self.world.image, layout.image_metadata),
        ):
            for file, data in repo.files.items():
                _write(store / name(file), data)
        for role in self.world.image.delegated.values():
            for path, target in role.targets.items():
                sha256 = target.hashes["sha256"]
                _write(store / layout.image_target(path, sha256), self.world.images[sha256])

    def ship(self, path: str = "app/app-1.bin", data: bytes = b"one", **custom: Any) -> str:
        """List a release, assign it, publish both; ``release_counter`` goes into both."""
        words = {"version", "security_fix", "hardware_ids", "format", "release_counter"}
        signed = {k: v for k, v in custom.items() if k in words}
        sha256 = self.world.release(path, data, **signed)
        self.order(
            path, **{k: v for k, v in custom.items() if k == "release_counter" or k not in words}
        )
        return sha256

    def order(self, path: str, **custom: Any) -> None:
        """Assign a listed release and publish."""
        self.world.assign(path, **custom)
        self.publish()

    def playbook(
        self, body: dict[str, Any], parameters: dict[str, str] | None = None, **custom: Any
    ) -> str:
        """List a playbook, order it, publish both; returns the order."""
        self.world.playbook(body)
        order = self.world.run(body, parameters or {}, **custom)
        self.publish()
        return order

    def withdraw(self) -> None:
        """Assign nothing."""
        self.world.director.targets.targets = {}
        self.world.director.publish()
        self.publish()

    # -- the device ----------------------------------------------------------------------------
    def room(self) -> TrustRoom:
        store = Downloader((self.folder / "store").as_uri(), self.own / "downloads", self.limits)
        return TrustRoom(
            self.device,
            {"app": HARDWARE},
            self.own / "trust",
            lambda name, limit: store.metadata(layout.director_metadata(self.device, name), limit),
            lambda name, limit: store.metadata(layout.image_metadata(name), limit),
        )

    @contextmanager
    def opened(self, *, create: bool = False) -> Iterator[State]:
        state = State.open(self.own, create=create)
        try:
            yield state
        finally:
            state.close()

    def process(self, state: State | None = None) -> Agent:
        """A freshly started agent."""
        state = state or State.open(self.own)
        room = self.room()
        components = {
            "app": Component("app", HARDWARE, self.installer, self.probe, self.deadline, self.keeps)
        }
        reporter = Reporter(
            self.device,
            self.signer,
            state,
            components,
            room.versions,
            lambda: max(self.now, state.clock_floor),
        )
        applier = Applier(
            state=state,
            trust=room,
            downloader=Downloader(
                (self.folder / "store").as_uri(), self.own / "downloads", self.limits
            ),
            components=components,
            reporter=reporter,
            machine=self.machine,
            known=lambda: agent.known(),  # noqa: PLW0108 - agent is bound below
            clock=self.clock,
            flush=lambda: agent.flush(),  # noqa: PLW0108 - the same
        )
        source = applier.downloader
        runner = Runner(
            state=state,
            trust=room,
            reporter=reporter,
            machine=self.machine,
            steps=Steps(self.services, self.packages, self.platform),
            updating=Updating(components, state, lambda c: agent.one_cycle(c)),  # noqa: PLW0108 - the same
            wiping=Wiping(self.own, self.device, self.signer, state, self.clock, courier=True),
            fetch=lambda wanted: text_of(source, wanted),
            known=applier.known,
            clock=self.clock,
            flush=applier.flush,
            allowed=self.playbooks,
        )
        agent = Agent(
            self.device,
            applier,
            room,
            SpoolFeed(self.spool, self.device),
            self.clock,
            self.soak,
            runner,
        )
        return agent

    def cycle(self) -> list[Result]:
        """One cycle of a fresh process that ends with it: nothing stays open."""
        with self.opened() as state:
            return self.process(state).cycle()

    def clock(self) -> datetime:
        return self.now

    @property
    def running(self) -> bytes | None:
        """What the slot holds."""
        return self.slot.read_bytes() if self.slot.exists() else None

    def reports(self) -> list[Report]:
        """Every report that was handed over, verified with the device's key, in order."""
        folder = self.spool / "reports"
        found = sorted(folder.glob("[0-9]*")) if folder.exists() else []
        return [
            report.read(statement.verify("report", p.read_bytes(), [self.signer.public_key]))
            for p in found
        ]

    def said(self) -> list[tuple[str, str, str]]:
        """(event, outcome, code) of every report."""
        return [(r.event, r.update.outcome if r.update else "", r.code) for r in self.reports()]

    def copy(self, folder: Path) -> Path:
        """The device's disk, for a later comparison."""
        shutil.copytree(self.own, folder, symlinks=True)
        return folder


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
