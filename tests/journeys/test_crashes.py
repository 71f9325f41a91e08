"""The operators' side killed at what it persists, really, by SIGKILL; and full disks on devices.

An ``ota`` process is killed at a system call that makes something durable. Then another goes on,
and the end is the one of the undisturbed run: same state, same bytes on devices, one assignment
for each order, a sound journal, a sound store.
"""

from __future__ import annotations

import io
import os
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from simulators.disks import small_disk
from simulators.images import tar
from simulators.killing import Traced, traced
from simulators.plant import ALL, Part, Plant

from ota.cli.app import run
from ota.errors import NotFound
from ota.quickstart.devices import HARDWARE
from ota.rollout.journal import SqlJournal

ONE, TWO = b"app 1.0.0", b"app 2.0.0"
FLEET = ("a", "b", "c")
WAVES = ({"name": "canary", "devices": ["a", "b"]}, {"name": "rest", "rest": True})
STRIDE = int(os.environ.get("STRIDE", "5"))
"""Of all calls that persist something every fifth is tried; ``STRIDE=1`` tries each."""


# -- the engine --------------------------------------------------------------------------------
def first_orders(plant: Plant, rollout: str) -> None:
    """Nothing was ordered yet."""


def next_wave(plant: Plant, rollout: str) -> None:
    """Both canaries have committed and reported; the next wave is due."""
    plant.step(rollout)
    plant.look()


def way_back(plant: Plant, rollout: str) -> None:
    """One canary committed, the other reverted: the gate sends the first one back."""
    plant["b"].be("sick")
    next_wave(plant, rollout)


def paused(plant: Plant, rollout: str) -> None:
    """Two devices are pending when an operator pauses."""
    plant.step(rollout)


@dataclass(frozen=True)
class Moment:
    """What was done before, and the command that dies."""

    before: Callable[[Plant, str], None]
    verb: tuple[str, ...]


RUN = ("run", "--time-limit", "0s")
MOMENTS = [
    Moment(first_orders, RUN),
    Moment(next_wave, RUN),
    Moment(way_back, RUN),
    Moment(paused, ("pause",)),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=[m.before.__name__ for m in MOMENTS])
def test_engine_killed(ground: Path, moment: Moment) -> None:
    """Killed at every fifth call that persists something, it ends as if it had not been."""
    plant = Plant(ground / moment.before.__name__, FLEET)
    plant.publish(plant.build("1.0.0"), plant.build("2.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    rollout = plant.start("two", "2.0.0", WAVES)
    moment.before(plant, rollout)
    plant.freeze()

    def once(inject: str = "") -> tuple[Traced, dict[str, Any]]:
        plant.thaw()
        plant.wiring.close()
        verb, *switches = moment.verb
        words = ["-C", str(plant.workspace), "rollout", verb, rollout, *switches]
        ran = traced(words, inject)
        plant.reopen()
        if verb == "pause":
            if plant.status(rollout)["state"] == "RUNNING":  # the intent was not recorded
                plant.wiring.campaign.pause(rollout, plant.now())
            plant.step(rollout)
            assert all("2.0.0" not in p for p in assigned(plant).values())
            plant.wiring.campaign.resume(rollout, plant.now())
        plant.drive(rollout)
        return ran, end(plant, rollout)

    honest, wanted = once()
    assert wanted["state"] == ("ROLLED_BACK" if moment.before is way_back else "COMPLETED")
    assert sum(honest.calls.values()) > 10
    for call, at in honest.points(STRIDE):
        ran, found = once(f"inject={call}:signal=KILL:when={at}")
        assert ran.killed, (call, at)
        assert found == wanted, (call, at)


def assigned(plant: Plant) -> dict[str, str]:
    every = {d: plant.wiring.desk.assignments(d) for d in FLEET}
    return {d: a["app"].path for d, a in every.items() if a}


def end(plant: Plant, rollout: str) -> dict[str, Any]:
    """What must not depend on where it was killed."""
    status = plant.status(rollout)
    journal = SqlJournal(plant.wiring.registry.engine)
    assert journal.verify(rollout) == status["events"]
    kinds = Counter(
        (event["kind"], event["body"].get("id", ""))
        for event in plant.wiring.campaign.history(rollout)
        if event["kind"] in {"order", "dispatched"}
    )
    assert set(kinds.values()) == {1}, "an order was issued or handed over twice"
    ended = {
        device: [
            (r.update.order, r.update.outcome)
            for r in plant[device].reports()
            if r.update and r.update.outcome != "in_progress"
        ]
        for device in FLEET
    }
    assert all(max(Counter(orders).values()) == 1 for orders in ended.values())
    assert plant.damage() == []
    assert all(plant[d].sound() for d in FLEET)
    return {
        "state": status["state"],
        "runs": plant.runs(),
        "ended": ended,
        "orders": sorted(kinds),
        "assigned": assigned(plant),
        "editions": {d: len(list(plant[d].director("").glob("*.targets.json"))) for d in FLEET},
        "waves": [{k: v for k, v in w.items() if isinstance(v, int)} for w in status["waves"]],
    }


# -- the publisher -----------------------------------------------------------------------------
def test_publisher_killed(ground: Path) -> None:
    """Killed anywhere, readers see a whole store, and the next publish completes the same bytes."""
    plant = Plant(ground / "publisher", ["a"])
    plant.publish(plant.build("1.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    plant.wiring.releases.add(plant.build("2.0.0"), plant.now())
    for name in ("targets-1", "targets-2"):
        plant.wiring.releases.sign(name, plant.now())
    plant.freeze()
    words = ["-C", str(plant.workspace), "release", "publish"]

    def stands() -> None:
        """What a device may see at this moment: the old, or the new, and all of it."""
        assert plant["a"].look() == []
        assert plant["a"].codes == []

    plant.thaw()
    plant.wiring.close()
    honest = traced(words)
    assert honest.code == 0
    for call, at in honest.points(STRIDE):
        plant.thaw()
        plant.wiring.close()
        assert traced(words, f"inject={call}:signal=KILL:when={at}").killed
        seen = contents(plant)
        plant.reopen()
        stands()
        with suppress(NotFound):  # nothing waits: it died with everything done
            plant.wiring.releases.publish(plant.now())
        after = contents(plant)
        assert plant.damage() == [], (call, at)
        assert {r.version for r in plant.wiring.catalogue.releases().values()} == {"1.0.0", "2.0.0"}
        changed = {n for n in seen if after.get(n) != seen[n] and n != "timestamp.json"}
        assert changed == set(), (call, at)
    assert plant.roll_out("two", "2.0.0")["state"] == "COMPLETED"
    assert plant["a"].running == TWO


def contents(plant: Plant) -> dict[str, bytes]:
    folder = plant.store / "image" / "metadata"
    return {p.name: p.read_bytes() for p in folder.iterdir()}


# -- full disks --------------------------------------------------------------------------------
def fill(disk: Path, leave: int) -> Path:
    """Leave exactly so many bytes free."""
    filler = disk / "filler"
    found = os.statvfs(disk)
    with filler.open("wb") as out:
        out.truncate(0)
        os.posix_fallocate(out.fileno(), 0, max(1, found.f_bavail * found.f_frsize - leave))
    return filler


KIB = 1024
IMAGE = 2048 * KIB
FREE = [0, 4, 12, 32, 64, 128, 512, 1500, 2100, 2600]


@pytest.mark.parametrize("installer", ["single-file", "dir-symlink"])
def test_full_disk(ground: Path, installer: str) -> None:
    """With too little room the old version runs on, and says why; with room the next works."""
    folder = ground / f"full-{installer}"
    disk = folder / "devices"
    with small_disk(disk, 64 << 20):
        plant = Plant(folder, ["a"], [Part("app", installer)])
        one, two = archive("1.0.0", installer), archive("2.0.0", installer)
        plant.publish(plant.build("1.0.0", one), plant.build("2.0.0", two))
        assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
        rollout = plant.start("two", "2.0.0")
        plant.step(rollout)
        gateway = plant["a"]
        before = held(gateway.home)
        kept = shutil.copytree(gateway.home, folder / "kept", symlinks=True)
        for room in FREE:
            shutil.rmtree(gateway.home)
            shutil.copytree(kept, gateway.home, symlinks=True)
            shutil.rmtree(gateway.spool / "reports")  # it has not said yet what it says again
            gateway.codes.clear()
            filler = fill(disk, room * KIB)
            gateway.look()
            assert held(gateway.home) == before, f"{room} KiB"
            assert gateway.codes[0] in {"no-space", "disk", "state-damaged"}, f"{room} KiB"
            filler.unlink()
            assert gateway.sound(), f"{room} KiB"
            gateway.look()
            assert held(gateway.home) != before, f"{room} KiB: {gateway.codes}"
            assert gateway.sound(), f"{room} KiB"
        assert plant.drive(rollout)["state"] == "COMPLETED"


COMMANDS = (
    ("release", "add", "{build}", "--component", "app", "--version", "3.0.0", "--hardware",
     HARDWARE, "--sign", "targets-1", "--sign", "targets-2", "--publish"),
    ("repo", "refresh", "--all"),
    ("key", "generate", "late"),
    ("fleet", "label", "a", "site=lyon"),
    ("rollout", "plan", "{spec}", "--out", "{disk}/plan.json"),
    ("rollout", "run", "--time-limit", "0s"),
    ("rollout", "pause"),
    ("repo", "export", "{disk}/stick.json"),
)  # fmt: skip


def test_full_disk_of_a_workspace(ground: Path) -> None:
    """The operators' disk is full: each command says so, nothing is half-written, and it heals."""
    disk = ground / "full-workspace"
    with small_disk(disk, 32 << 20):
        plant = Plant(disk, ["a", "b"])
        plant.publish(plant.build("1.0.0"), plant.build("2.0.0"))
        assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
        rollout = plant.start("two", "2.0.0", [{"name": "a", "devices": ["a"]}, *ALL])
        spec = disk / "three.yaml"
        spec.write_text("rollout: x\nrelease: app@2.0.0\nwaves: [{name: all, rest: true}]\n")
        words = {"build": plant.build("3.0.0").file, "spec": spec, "disk": disk}
        plant.wiring.close()
        for room in (0, 8, 48):
            filler = fill(disk, room * KIB)
            for command in COMMANDS:
                code, said = ota(plant, *(word.format(**words) for word in command))
                assert code in {0, 1, 2, 4, 8}, (room, command, said)
                if room == 0 and command[0] != "repo":
                    assert code == 1, (command, said)
                    assert "code: no-space" in said or "registry: disk" in said, (command, said)
            filler.unlink()
            assert ota(plant, "repo", "verify")[0] == 0, room
        assert not list(plant.workspace.rglob(".tmp-*"))
        plant.reopen()
        if plant.status(rollout)["state"] == "PAUSED":
            plant.wiring.campaign.resume(rollout, plant.now())
        assert plant.drive(rollout)["state"] == "COMPLETED"
        assert plant.runs() == {"a": "app 2.0.0", "b": "app 2.0.0"}
        assert plant.damage() == []


def ota(plant: Plant, *words: str) -> tuple[int, str]:
    """The command line, in this process: exit code and what it said; a traceback fails the test."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        return run(["-C", str(plant.workspace), *words]), said.getvalue()


def test_disk_that_fills_meanwhile(ground: Path) -> None:
    """A real ``ota-agent once`` whose writes begin to fail at any moment; the next one succeeds."""
    plant = Plant(ground / "fills", ["a"])
    plant.publish(plant.build("1.0.0"), plant.build("2.0.0", os.urandom(IMAGE)))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    plant.step(plant.start("two", "2.0.0"))
    plant.freeze()
    for at in (1, 6, 20, 60):
        plant.thaw()
        gateway = plant["a"]
        inject = f"inject=write,pwrite64:error=ENOSPC:when={at}+"
        ran = gateway.process("once", prefix=["strace", "-qq", "-o", "/dev/null", "-e", inject])
        assert "Traceback" not in ran.stderr, ran.stderr
        if gateway.running == ONE:
            assert gateway.sound(), at
            gateway.look()
        assert gateway.running != ONE, (at, ran, gateway.codes)
        assert gateway.sound(), at


def archive(version: str, installer: str) -> bytes:
    data = version.encode() + os.urandom(IMAGE)
    if installer == "single-file":
        return data
    return tar(data, "image.bin")


def held(home: Path) -> bytes:
    """What the slot holds."""
    file = home / "app"
    return (file if file.is_file() else file / "current" / "image.bin").read_bytes()
