"""Devices that nothing reaches but what is carried: through a one-way diode, or on a stick.

Inward a mover copies a folder that ``ota store mirror`` made, and the spool's orders, file by file,
in whatever order it likes; outward another one copies reports, or nobody does. Real agents, real
gates; nobody who carries is believed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from simulators.disks import small_disk
from simulators.plant import Plant
from simulators.plants import fixtures
from simulators.threats import ONE, TWO

from ota.cli import session as sessions
from ota.cli.app import run as cli

FAR = ("far-1", "far-2")
SOONEST: dict[str, Callable[[str], object]] = {
    "sorted": lambda name: name,
    "timestamps first": lambda name: (not name.endswith("timestamp.json"), name),
    "images last": lambda name: ("targets/" in name, name),
    "director first": lambda name: (not name.startswith("director"), name),
    **{f"dice {n}": lambda name, n=n: random.Random(f"{n}{name}").random() for n in range(2)},
}


class Diode:
    """``near`` is this side, where the folder is made; ``far`` is what devices read."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.near = plant.folder / "near"
        self.far = plant.folder / "far"
        self.spool = plant.folder / "far-spool"
        self.near.mkdir(exist_ok=True)
        for device in FAR:
            gateway = plant[device]
            text = gateway.toml.read_text().replace(plant.url, (self.far / "store").as_uri())
            gateway.toml.write_text(text.replace(str(plant.spool), str(self.spool)))
            (self.spool / device).mkdir(parents=True, exist_ok=True)
        (self.far / "store").mkdir(parents=True, exist_ok=True)

    def mirror(self, *words: str) -> dict[str, int]:
        """``ota store mirror`` into the near folder, as a person types it."""
        done = self.plant.ota("store", "mirror", str(self.near), "-o", "json", *words)
        assert done.returncode == 0, done.stderr
        found: dict[str, int] = json.loads(done.stdout)
        return found

    def names(self) -> list[str]:
        found = (p for p in self.near.rglob("*") if p.is_file())
        names = (p.relative_to(self.near).as_posix() for p in found)
        return sorted(name for name in names if not name.startswith("."))

    def changed(self) -> list[str]:
        return [n for n in self.names() if not self.there(n).exists() or self.differs(n)]

    def there(self, name: str) -> Path:
        return self.far / "store" / name

    def differs(self, name: str) -> bool:
        return self.there(name).read_bytes() != (self.near / name).read_bytes()

    def arrive(self, name: str, *, half: bool = False) -> None:
        """One file, whole under its name at once; or its first half, as a bad mover leaves it."""
        data = (self.near / name).read_bytes()
        self.there(name).parent.mkdir(parents=True, exist_ok=True)
        self.there(name).write_bytes(data[: len(data) // 2] if half else data)

    def inward(self) -> None:
        """Everything, and the orders."""
        for name in self.changed():
            self.arrive(name)
        for device in FAR:
            _copy(self.plant.spool / device / "orders", self.spool / device / "orders")

    def outward(self) -> None:
        """Reports go the other way, by somebody else."""
        for device in FAR:
            _copy(self.spool / device / "reports", self.plant.spool / device / "reports")

    def look(self) -> None:
        for device in FAR:
            self.plant[device].look()


def _copy(source: Path, target: Path) -> None:
    """Each file once, as a mover does that cannot ask what became of it."""
    moved = target.parent / f".moved-{target.name}"
    known = set(moved.read_text().split()) if moved.exists() else set()
    new = [path for path in source.glob("[!.]*") if path.name not in known]
    target.mkdir(parents=True, exist_ok=True)
    for path in new:
        shutil.copyfile(path, target / path.name)
    moved.write_text("\n".join(known | {path.name for path in new}))


def made(folder: Path) -> Plant:
    """Two devices behind the diode that run 1.0.0, one that is not; 2.0.0 is published."""
    plant = Plant(folder, (*FAR, "near"))
    plant.publish(plant.build("1.0.0"))
    diode = Diode(plant)
    rollout = plant.start("one", "1.0.0")
    carried(diode, rollout)
    assert plant.status(rollout)["state"] == "COMPLETED"
    plant.publish(plant.build("2.0.0"))
    return plant


frozen, plant = fixtures(made)


@pytest.fixture
def diode(plant: Plant) -> Diode:
    return Diode(plant)


def carried(diode: Diode, rollout: str, steps: int = 6) -> None:
    """Step, carry, look, carry back, until nothing moves any more."""
    plant = diode.plant
    for _ in range(steps):
        plant.step(rollout)
        diode.mirror()
        diode.inward()
        diode.look()
        diode.outward()
        if not plant["near"].off:
            plant["near"].look()
        plant.later(seconds=1)


def running(diode: Diode) -> set[bytes | None]:
    return {diode.plant[device].running for device in FAR}


def test_a_rollout_through_the_diode(diode: Diode) -> None:
    """One gate counts devices on both sides; who is behind the diode says so in signed reports."""
    waves = ({"name": "canary", "devices": ["far-1"]}, {"name": "rest", "rest": True})
    rollout = diode.plant.start("two", "2.0.0", waves)
    carried(diode, rollout, 8)
    assert diode.plant.status(rollout)["state"] == "COMPLETED"
    assert diode.plant.runs() == dict.fromkeys((*FAR, "near"), TWO.decode())
    assert {d: diode.plant[d].told() for d in FAR} == {d: [] for d in FAR}


@pytest.mark.parametrize("order", SOONEST)
def test_files_that_arrive_in_any_order(diode: Diode, order: str) -> None:
    """Between any two files devices run what they ran or what is new, and accuse nobody."""
    plant = diode.plant
    rollout = plant.start("two", "2.0.0")
    plant.step(rollout)
    diode.mirror()
    coming = sorted(diode.changed(), key=SOONEST[order])  # type: ignore[arg-type,type-var]  # any sortable
    assert len(coming) > 8
    for name in coming:
        diode.arrive(name)
        diode.look()
        assert running(diode) <= {ONE, TWO}, name
    diode.look()
    assert running(diode) == {TWO}
    assert all(plant[device].sound() for device in FAR)
    assert {code for d in FAR for code in plant[d].codes} <= {"missing", "image-stale"}


def test_files_that_arrive_torn(diode: Diode) -> None:
    """Half of a file is never taken for it; with the other half everything goes on."""
    plant = diode.plant
    rollout = plant.start("two", "2.0.0")
    plant.step(rollout)
    diode.mirror()
    for name in diode.changed():
        diode.arrive(name, half=True)
        diode.look()
        assert running(diode) <= {ONE, TWO}, name
        diode.arrive(name)
    diode.look()
    assert running(diode) == {TWO}
    assert all(plant[device].sound() for device in FAR)


def test_nothing_comes_back(diode: Diode) -> None:
    """Without a way out devices update all the same; no gate takes that for success."""
    plant = diode.plant
    rollout = plant.start("two", "2.0.0", deadline="1h", on_failure="hold")
    for _ in range(4):
        plant.step(rollout)
        diode.mirror()
        diode.inward()
        diode.look()
        plant["near"].look()
        plant.later(minutes=20)
    status = plant.status(rollout)
    assert running(diode) == {TWO}
    assert status["state"] == "HELD"
    assert status["held_on"] == {"far-1": "silent", "far-2": "silent"}
    assert status["waves"][0]["committed"] == 1
    diode.outward()
    plant.step(rollout)
    assert plant.status(rollout)["waves"][0]["committed"] == 3


def test_whoever_carries_can_not_change_it(diode: Diode) -> None:
    """Another image, another device's order, an older set: refused, named, and healed."""
    plant = diode.plant
    rollout = plant.start("two", "2.0.0")
    plant.step(rollout)
    diode.mirror()
    diode.inward()
    (image,) = [n for n in diode.names() if "targets/" in n and "2.0.0" in n]
    diode.there(image).write_bytes(bytes(len(TWO)))
    own = "director/devices/far-1/timestamp.json"
    diode.there(own).write_bytes((diode.near / own.replace("far-1", "far-2")).read_bytes())
    diode.look()
    assert running(diode) == {ONE}
    assert set(plant["far-1"].codes) == {"director-wrong-device"}
    assert set(plant["far-2"].codes) == {"image-mismatch"}
    diode.inward()
    for _ in range(2):
        diode.look()
    assert running(diode) == {TWO}


def test_a_stick_is_brought_up_to_date(diode: Diode) -> None:
    """Only what is new is written; ``--prune`` takes off what nobody needs; nothing twice."""
    plant = diode.plant
    first = diode.mirror()
    assert (first["devices"], first["removed"]) == (3, 0)
    whole = first["written"] + first["unchanged"]
    assert diode.mirror() == first | {"written": 0, "bytes": 0, "unchanged": whole}
    rollout = plant.start("two", "2.0.0")
    plant.step(rollout)
    dry = diode.mirror("--dry-run", "--prune")
    assert not any("2.0.0" in name for name in diode.names())
    done = diode.mirror("--prune")
    assert done | {"removed": 0} == dry | {"removed": 0}
    assert done["bytes"] > len(TWO)
    assert done["removed"] == dry["removed"] > 0
    images = [name.rpartition(".app-")[2] for name in diode.names() if "targets/app" in name]
    assert images == ["2.0.0.bin"]


def files(folder: Path) -> dict[str, bytes]:
    found: Sequence[Path] = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


@pytest.mark.parametrize("place", ["image", "director/devices/far-1", ".tmp", "image/targets/app"])
def test_a_stick_with_links_is_not_written_to(diode: Diode, place: str) -> None:
    """What strangers had in their hands can not lead into the operator's own folders."""
    diode.mirror()
    own = diode.plant.folder / "own"
    own.mkdir()
    (own / "timestamp.json").write_text("mine")
    target = diode.near / place
    shutil.rmtree(target)
    target.symlink_to(own)
    before = files(own), files(diode.near)
    done = diode.plant.ota("store", "mirror", str(diode.near), "--prune")
    assert done.returncode == 4
    assert "code: link\n" in done.stderr
    assert (files(own), files(diode.near)) == before


def test_what_was_torn_on_the_stick_is_written_anew(diode: Diode) -> None:
    """By a stick that was pulled out, or by somebody: the next run mends it."""
    diode.mirror()
    honest = files(diode.near)
    for name in diode.names()[::2]:
        path = diode.near / name
        path.write_bytes(path.read_bytes()[:-3] + b"???")
    assert files(diode.near) != honest
    assert diode.mirror()["written"] == len(diode.names()[::2])
    assert files(diode.near) == honest


def test_one_devices_trouble_is_its_own(diode: Diode) -> None:
    """It is named, exit 1, the others are carried, and nothing is pruned: who knows what it needs."""
    diode.mirror()
    stray = diode.near / "image" / "metadata" / "9.gone.json"
    stray.write_text("{}")
    plant = diode.plant
    (plant.store / "director/devices/far-1/timestamp.json").write_bytes(b"{}")
    done = plant.ota("store", "mirror", str(diode.near), "--prune", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["devices"]) == (1, 2)
    assert "far-1: " in done.stderr
    assert stray.exists()


def test_what_has_expired_is_carried_and_said(
    diode: Diode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1 with the way out; after a refresh the same command is content."""
    plant = diode.plant
    assert diode.mirror()["expires"]
    plant.later(days=40)
    done = plant.wiring.carry(diode.near, FAR, prune=False, dry_run=False)
    assert done.ends is not None
    assert done.ends < plant.now()
    monkeypatch.setattr(sessions, "now", plant.now)
    assert cli(["-C", str(plant.workspace), "store", "mirror", str(diode.near)]) == 1
    assert "code: expired\nnext: ota repo refresh" in capsys.readouterr().err
    plant.wiring.refresh(every=True)
    done = plant.wiring.carry(diode.near, FAR, prune=False, dry_run=False)
    assert done.ends is not None
    assert done.ends > plant.now()


def test_a_full_stick(diode: Diode) -> None:
    """Named; nothing half-written stands under a name."""
    small = diode.plant.folder / "small"
    with small_disk(small, 256 * 1024):
        diode.near = small
        diode.plant.publish(diode.plant.build("3.0.0", os.urandom(400_000)))
        diode.plant.step(diode.plant.start("three", "3.0.0"))
        done = diode.plant.ota("store", "mirror", str(small))
        assert done.returncode == 1
        assert "code: no-space\n" in done.stderr
        assert not any("3.0.0" in name for name in diode.names())


@pytest.mark.parametrize(
    ("words", "code"),
    [(("nowhere",), 2), ((".", "-l", "site=nowhere"), 2), ((".", "-l", "==="), 2)],
)
def test_what_can_not_be_mirrored(diode: Diode, words: tuple[str, ...], code: int) -> None:
    """Said, and nothing is made."""
    before = files(diode.near)
    done = diode.plant.ota("store", "mirror", str(diode.near / words[0]), *words[1:])
    assert done.returncode == code, done.stderr
    assert "\nnext: " in done.stderr
    assert files(diode.near) == before
