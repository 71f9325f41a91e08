"""A small whole plant in one folder: a real workspace, a real store, real agents in-process.

Nothing is played: keys, both repositories, registry, journal, spool, trust rooms, installers and
probes are the product's own, put together as ``ota`` and ``ota-agent`` put them together. Only
two clocks can be moved: the operators' (``plant.later``) and each device's (``gateway.skew``).
The store is served as ``file://``, so a test lies by editing files.

>>> plant = Plant(tmp_path, ["a", "b"])
>>> plant.publish(plant.build("1.0.0"))
>>> plant.roll_out("one", "1.0.0", [{"name": "all", "rest": True}])["state"]
'COMPLETED'
>>> plant["a"].running
b'app 1.0.0'
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from ota.agent import build, provision
from ota.agent.agent import Agent
from ota.agent.config import Config, load
from ota.agent.endings import Result
from ota.agent.status import verify
from ota.errors import OtaError
from ota.quickstart import stage
from ota.quickstart.devices import HARDWARE
from ota.repositories.release import Build
from ota.rollout.engine import Step
from ota.settings import settings
from ota.wiring.wiring import Wiring
from signing import layout, report, statement
from signing.report import Report

TREE = Path(__file__).resolve().parents[2]
PATIENCE = "30.0"
"""Seconds for health: the machine under the tests may be slow. Sick devices need not wait."""
ALL = ({"name": "all", "rest": True},)
MOVING = frozenset({"RUNNING", "ROLLING_BACK"})
_HEAD = """\
device = "{id}"
state_dir = "{home}/state"
store = "{store}"
[feed]
kind = "spool"
path = "{spool}"
[may_install]
argv = ["test", "!", "-e", "{home}/busy"]
"""
_APP = """\
[components.{component}]
hardware_id = "{hardware}"
installer = "{installer}"
[components.{component}.options]
path = "{home}/{component}"
[components.{component}.health]
kind = "command"
argv = ["test", "!", "-e", "{home}/sick"]
interval = 0.05
timeout = 10.0
deadline = {patience}
"""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@functools.cache
def _template() -> Path:
    """One prepared workspace for this test process; plants are copies of it."""
    base = Path(tempfile.mkdtemp(prefix="plant-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    stage.Stage(base / "workspace").prepare()
    return base / "workspace"


@dataclass(frozen=True)
class Part:
    """One component of every device: its name and its installer."""

    component: str = "app"
    installer: str = "single-file"


class Gateway:
    """One device: a folder, a configuration, and an agent that starts anew for every look."""

    def __init__(self, plant: Plant, device: str, parts: Sequence[Part]) -> None:
        self.id = device
        self.plant = plant
        self.home = plant.folder / "devices" / device
        self.home.mkdir(parents=True)
        self.spool = plant.spool / device
        self.toml = self.home / "agent.toml"
        self.skew = timedelta(0)
        self.off = False
        self.codes: list[str] = []
        words = {"id": device, "home": self.home, "store": plant.url, "spool": self.spool}
        text = _HEAD.format(**words)
        for part in parts:
            text += _APP.format(hardware=HARDWARE, patience=PATIENCE, **words, **vars(part))
        self.toml.write_text(text)

    @property
    def config(self) -> Config:
        return load(self.toml)

    def clock(self) -> datetime:
        return self.plant.now() + self.skew

    def enrol(self) -> bytes:
        """Provision with both roots from files; the enrolment's bytes."""
        director, image = (Path(root["file"]) for root in self.plant.wiring.first_roots())
        roots = provision.read_roots(director, image)
        return provision.provision(self.config, roots, self.clock()).read_bytes()

    @contextmanager
    def opened(self) -> Iterator[Agent]:
        with mock.patch.object(build, "wall_clock", self.clock), build.opened(self.config) as agent:
            yield agent

    def look(self) -> list[Result]:
        """One cycle as ``ota-agent once``; what it raises is kept in ``codes``."""
        try:
            with self.opened() as agent:
                results = agent.look(agent.feed.next(0))
        except OtaError as e:
            self.codes.append(e.code)
            return []
        self.codes += [r.code for r in results if r.code]
        return results

    def process(self, *words: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """``ota-agent`` as a process of its own."""
        return run(
            [*prefix, sys.executable, "-m", "ota.agent.main", *words, "--config", str(self.toml)]
        )

    # -- what is really there ------------------------------------------------------------------
    @property
    def running(self) -> bytes | None:
        return self.slot()

    def slot(self, component: str = "app") -> bytes | None:
        file = self.home / component
        return file.read_bytes() if file.is_file() else None

    @property
    def floor(self) -> int:
        with self.opened() as agent:
            return agent.state.floors()["app"]

    @property
    def denied(self) -> set[tuple[str, str]]:
        with self.opened() as agent:
            return set(agent.state.denials())

    def sound(self) -> bool:
        """Slots, journal and trust agree with each other, without the network."""
        return not verify(self.config)

    @property
    def hinted(self) -> bool:
        """Whether a hint lies in its spool."""
        return any((self.spool / "orders").glob("[!.]*"))

    def waiting(self) -> list[Path]:
        """Reports that lie in the spool and were not collected."""
        folder = self.spool / "reports"
        return sorted(folder.iterdir()) if folder.exists() else []

    def reports(self) -> list[Report]:
        """Everything that the registry accepted from it, oldest first."""
        return [stored.report for stored in reversed(self.plant.wiring.registry.history(self.id))]

    def told(self) -> list[str]:
        """Codes of its signed reports, oldest first, whether they were collected or not."""
        key = self.plant.wiring.registry.device(self.id).key
        late = [
            report.read(statement.verify("report", p.read_bytes(), [key])) for p in self.waiting()
        ]
        return [r.code for r in [*self.reports(), *late] if r.code]

    def be(self, state: str, *, now: bool = True) -> None:
        """``sick``: its health probe fails; ``busy``: its interlock says no."""
        flag = self.home / state
        flag.touch() if now else flag.unlink(missing_ok=True)
        if state == "sick":
            before, after = (PATIENCE, "0.1") if now else ("0.1", PATIENCE)
            text = self.toml.read_text()
            self.toml.write_text(text.replace(f"deadline = {before}", f"deadline = {after}"))

    def director(self, file: str) -> Path:
        """A file of its director metadata in the store."""
        return self.plant.store / layout.director_metadata(self.id, file)


class Plant:
    """See the module. ``fresh`` makes a workspace with keys of its own, which takes longer."""

    def __init__(
        self,
        folder: Path,
        devices: Sequence[str] = (),
        parts: Sequence[Part] = (Part(),),
        *,
        fresh: bool = False,
    ) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self.spool = self.workspace / "spool"
        self.store = self.workspace / "store"
        self.url = self.store.as_uri()
        self._ahead = timedelta(0)
        if fresh:
            stage.Stage(self.workspace).prepare()
        else:
            shutil.copytree(_template(), self.workspace, symlinks=True)
        self.reopen()
        self.devices: dict[str, Gateway] = {}
        self.join(devices, parts)

    def freeze(self) -> None:
        """Keep the whole plant as it stands, for :meth:`thaw`."""
        self.wiring.close()
        shutil.copytree(self.folder, self._frozen, symlinks=True)
        self._frozen_ahead = self._ahead

    def thaw(self) -> None:
        """Everything is again as it was frozen, in the same folder."""
        self.wiring.close()
        shutil.rmtree(self.folder)
        shutil.copytree(self._frozen, self.folder, symlinks=True)
        self._ahead = self._frozen_ahead
        self.reopen()
        for gateway in self.devices.values():
            gateway.skew, gateway.off, gateway.codes = timedelta(0), False, []

    @property
    def _frozen(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.frozen")

    def reopen(self) -> None:
        """The operator's program starts anew over what is on the disk."""
        self.wiring = Wiring(settings.load(self.workspace, {}), _nobody, self.now)

    def join(
        self, devices: Sequence[str], parts: Sequence[Part] = (Part(),), **labels: str
    ) -> None:
        """Provision and register devices."""
        made = [self.gateway(device, parts) for device in devices]
        joined = self.wiring.join([g.enrol() for g in made], None, labels, "spool")
        assert [j.result for j in joined] == ["registered"] * len(made), joined
        self.devices |= {g.id: g for g in made}

    def gateway(self, device: str, parts: Sequence[Part]) -> Gateway:
        """A device that is not provisioned yet."""
        return Gateway(self, device, parts)

    def __getitem__(self, device: str) -> Gateway:
        return self.devices[device]

    # -- time ----------------------------------------------------------------------------------
    def now(self) -> datetime:
        return stage.now() + self._ahead

    def later(self, **time: float) -> None:
        """Let time pass for everybody."""
        self._ahead += timedelta(**time)

    # -- the operators -------------------------------------------------------------------------
    def build(
        self, version: str, data: bytes | None = None, component: str = "app", **words: Any
    ) -> Build:
        """A build of one file; ``words`` are those of :class:`Build`."""
        folder = self.folder / "builds"
        folder.mkdir(exist_ok=True)
        file = folder / f"{component}-{version}.bin"
        file.write_bytes(f"{component} {version}".encode() if data is None else data)
        hardware = words.pop("hardware_ids", (HARDWARE,))
        return Build(file, component, version, hardware, **words)

    def publish(self, *builds: Build) -> None:
        """Two keyholders sign; published."""
        for item in builds:
            self.wiring.releases.add(item, self.now())
        for name in stage.SIGN_RELEASES:
            self.wiring.releases.sign(name, self.now())
        self.wiring.releases.publish(self.now())

    def plan(self, slug: str, version: str, waves: Sequence[Any] = ALL, **spec: Any) -> bytes:
        """A plan signed by its author. ``version`` of ``app``, or ``component@version``."""
        release = version if "@" in version or "/" in version else f"app@{version}"
        words = {"soak": "0s", "deadline": "10m"} | spec
        body = {"rollout": slug, "release": release, "waves": list(waves)} | words
        made = self.wiring.plan(json.dumps(body).encode(), f"{slug}.yaml")
        return self.wiring.sign_plan(made, "author")

    def approve(self, plan: bytes) -> bytes:
        return self.wiring.sign_approval(plan, "approver", self.now() + timedelta(days=1))

    def start(self, slug: str, version: str, waves: Sequence[Any] = ALL, **spec: Any) -> str:
        """Plan, approve, start; the rollout's id."""
        plan = self.plan(slug, version, waves, **spec)
        approval = self.approve(plan)
        found = self.wiring.campaign.start(plan, [approval], self.now())
        return str(found["rollout"])

    def step(self, rollout: str) -> Step:
        return self.wiring.campaign.step(rollout, self.now())

    def status(self, rollout: str) -> dict[str, Any]:
        return self.wiring.campaign.status(rollout, self.now())

    def drive(
        self,
        rollout: str,
        rounds: int = 40,
        until: Callable[[dict[str, Any]], bool] = lambda _status: False,
    ) -> dict[str, Any]:
        """Step, and let devices that have a hint look, until it is neither forward nor back."""
        for _ in range(rounds):
            self.step(rollout)
            status = self.status(rollout)
            if status["state"] not in MOVING or until(status):
                return status
            self.look(hinted=True)
            self.later(seconds=1)
        return self.status(rollout)

    def look(self, *, hinted: bool = False) -> None:
        """Every device that is on looks once; ``hinted``: only those with something to look at."""
        for gateway in self.devices.values():
            if not gateway.off and (gateway.hinted or not hinted):
                gateway.look()

    def roll_out(
        self, slug: str, version: str, waves: Sequence[Any] = ALL, **spec: Any
    ) -> dict[str, Any]:
        """Start and drive."""
        return self.drive(self.start(slug, version, waves, **spec))

    def runs(self) -> dict[str, str]:
        """Device -> what its slot holds, as text."""
        return {d: (g.running or b"").decode() for d, g in self.devices.items()}

    def ota(
        self, *words: str, prefix: Sequence[str] = (), timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """``ota`` as a process of its own, in this workspace."""
        command = [*prefix, sys.executable, "-m", "ota", "-C", str(self.workspace), *words]
        return run(command, timeout)

    def damage(self) -> list[str]:
        """What ``ota repo verify`` finds wrong."""
        return [f"{f.name}: {f.code}" for f in self.wiring.verify() if f.code]

    def evidence(self, device: str) -> list[str]:
        """First words of the reasons for which the spool set reports of a device aside."""
        folder = self.spool / ".quarantine" / device
        found = sorted(folder.glob("*.reason")) if folder.exists() else []
        return [p.read_text().partition(":")[0].strip() for p in found]


def run(words: Sequence[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """A process that is given what a shell would give it, and no terminal."""
    return subprocess.run(
        list(words), check=False, capture_output=True, text=True, timeout=timeout, cwd=TREE
    )


def _nobody(prompt: str) -> str:
    raise AssertionError(f"asked a person: {prompt}")
