"""The story of the demo, and the check that it went as the README says.

1. A fresh workspace and a fleet of devices, each its own process.
2. Release 1.0.0 in three waves to all; 2.0.0 likewise, over it.
3. 3.0.0, whose health truly fails: stopped at the canary, rolled back by itself, everyone else
   untouched.
4. Six attacks, each refused with its code (``attacks.py``).
5. Release 4.0.0, honestly, to the whole fleet: every victim is still updatable.

>>> Demo(folder, 24, show).run()["attacks"][0]
{'name': 'image-bytes-changed', 'victim': 'gw-01', 'refused': True, 'code': 'image-mismatch'}
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ota.errors import OtaError
from ota.quickstart import program
from ota.quickstart.attacks import EXPECTED, TOLD, Attack, Attacker
from ota.quickstart.devices import HARDWARE, Devices
from ota.quickstart.stage import Stage, now
from ota.repositories.release import Build
from signing.refusals import REFUSALS

LEAST = 10
WAVES: tuple[dict[str, Any], ...] = (
    {"name": "canary", "count": 3},
    {"name": "half", "percent": 50},
    {"name": "rest", "rest": True},
)
_OTHER_HARDWARE = "gw-rev-a"


class Show(Protocol):
    """How a person follows it."""

    def say(self, text: str) -> None:
        """One line: what begins or what came of it."""

    def step(self, status: dict[str, Any]) -> None:
        """A rollout's status after one step of the engine."""


class Demo:
    """See the module. ``count`` devices, at least :data:`LEAST`."""

    def __init__(self, folder: Path, count: int, show: Show) -> None:
        self._stage = Stage(folder)
        self._ids = [f"gw-{n:02d}" for n in range(1, count + 1)]
        self._show = show
        self._rollouts: list[dict[str, Any]] = []
        self._wrong: list[str] = []

    def run(self) -> dict[str, Any]:
        """Tell the whole story; the result's ``wrong`` lists whatever differed from it."""
        began = time.monotonic()
        attacks: list[Attack] = []
        with self._stage as stage:
            self._show.say(f"a workspace with keys and two signed repositories: {stage.folder}")
            devices = Devices(stage, self._ids)
            devices.provision(self._provisioned)
            with devices:
                self._show.say(f"{len(self._ids)} agents run; their store is {stage.url}")
                attacker = self._releases(devices)
                attacks = self._attacks(devices, attacker)
                self._honest("all-4", "4.0.0", devices, " (one has it already, from attack 3)")
        return {
            "devices": len(self._ids),
            "rollouts": [summary(status) for status in self._rollouts],
            "attacks": [dataclasses.asdict(attack) for attack in attacks],
            "seconds": round(time.monotonic() - began, 1),
            "workspace": str(stage.folder),
            "wrong": self._wrong,
        }

    def _provisioned(self, done: int) -> None:
        if done == len(self._ids):
            self._show.say(f"{done} devices provisioned: each has a key of its own and both roots")

    # -- acts --------------------------------------------------------------------------------------
    def _releases(self, devices: Devices) -> Attacker:
        self._publish("1.0.0", "2.0.0", "3.0.0")
        self._honest("all-1", "1.0.0", devices)
        attacker = Attacker(self._stage, devices, self._show.step)
        self._honest("all-2", "2.0.0", devices)
        self._show.say("\n3.0.0, whose health check fails: the first wave must go back by itself")
        status = self._roll_out("all-3", "3.0.0")
        self._expect(status["state"] == "ROLLED_BACK", f"3.0.0 ended {status['state']}")
        canary = status["waves"][0]
        untouched = all(w["state"] == "waiting" for w in status["waves"][1:])
        self._expect(canary["reverted"] > 0 and untouched, "3.0.0 went past its canary")
        if self._runs(devices, "2.0.0", self._ids):
            back = canary["reverted"]
            rest = len(self._ids) - back
            self._show.say(f"  {back} devices went back to 2.0.0; the other {rest} never ran it")
        return attacker

    def _attacks(self, devices: Devices, attacker: Attacker) -> list[Attack]:
        self._publish("4.0.0")
        foreign = f"app/app-4.0.0-{_OTHER_HARDWARE}.tar.gz"
        self._stage.publish(self._build("4.0.0", _OTHER_HARDWARE, foreign))
        self._show.say("\nsix attacks, from outside: by editing the store and the orders' folders")
        (release,) = self._stage.wiring.releases.resolve("app/app-4.0.0.tar.gz", now())
        path, sha256 = release.path, release.sha256
        one, two, three, four, five, donor = self._ids[:6]
        plans: dict[str, Callable[[], Attack]] = {
            "image-bytes-changed": lambda: attacker.change_image(one, path, path, sha256),
            "older-metadata-replayed": lambda: attacker.replay(two),
            "order-copied-to-another-device": lambda: attacker.copy_order(three, donor, path),
            "another-devices-director-metadata": lambda: attacker.foreign_director(self._ids[6:]),
            "wrong-hardware-by-director-key-thief": lambda: attacker.wrong_hardware(four, foreign),
            "forged-report": lambda: attacker.forge_report(five),
        }
        found = []
        for number, (name, attack) in enumerate(plans.items(), 1):
            self._show.say(f"{number}. {TOLD[name]}")
            result = attack()
            right = result.refused and result.code == EXPECTED[name]
            self._expect(right, f"{name} was answered by {result.code or 'nothing'}")
            if right:
                who = "the operator's side" if name == "forged-report" else result.victim
                cause = REFUSALS[result.code].cause
                self._show.say(f"   refused by {who}: {result.code} ({cause})")
            found.append(result)
        self._runs(devices, "2.0.0", [d for d in self._ids if d != donor])
        return found

    def _honest(self, slug: str, version: str, devices: Devices, more: str = "") -> None:
        self._show.say(f"\n{version} to all, in waves: 3 devices, half of all, the rest{more}")
        status = self._roll_out(slug, f"app/app-{version}.tar.gz")
        self._expect(status["state"] == "COMPLETED", f"{version} ended {status['state']}")
        if self._runs(devices, version, self._ids):
            self._show.say(f"  {len(self._ids)} devices run {version}")

    # -- means -------------------------------------------------------------------------------------
    def _publish(self, *versions: str) -> None:
        self._stage.publish(*(self._build(v, HARDWARE, f"app/app-{v}.tar.gz") for v in versions))

    def _build(self, version: str, hardware: str, path: str) -> Build:
        folder = self._stage.folder / "builds"
        folder.mkdir(exist_ok=True)
        file = program.build(version, folder / path.rpartition("/")[2])
        return Build(file, "app", version, (hardware,), path=path)

    def _roll_out(self, slug: str, release: str) -> dict[str, Any]:
        if "@" not in release and "/" not in release:
            release = f"app/app-{release}.tar.gz"
        status = self._stage.roll_out(slug, release, WAVES, self._show.step)
        self._rollouts.append(status)
        return status

    def _runs(self, devices: Devices, version: str, ids: Sequence[str]) -> bool:
        """Whether devices have installed it and their running programs answer with it."""
        before = len(self._wrong)
        for device in ids:
            installed, answers = devices.installed(device), devices.answers(device)
            self._expect(
                installed == answers == version,
                f"{device} has {installed or 'nothing'} and runs {answers or 'nothing'}, "
                f"not {version}",
            )
        return len(self._wrong) == before

    def _expect(self, true: bool, otherwise: str) -> None:
        if not true:
            self._wrong.append(otherwise)
            self._show.say(f"WRONG: {otherwise}")


class DemoFailed(OtaError):
    """The demo did not go as it is described."""

    code = "demo"


def summary(status: dict[str, Any]) -> dict[str, Any]:
    """What the result says of one rollout."""
    kept = ("name", "state", "size", "committed", "reverted", "failed", "refused", "silent")
    return {
        "name": status["rollout"],
        "state": status["state"],
        "releases": status["releases"],
        "waves": [{k: wave[k] for k in kept} for wave in status["waves"]],
    }
