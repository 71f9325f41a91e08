"""Whoever carries an update can not change it, aim it, or lie about it: store and spool as foes.

Everything here is done by editing files, as a courier could. The device refuses by name, goes on
running what it runs, and takes the honest update afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from simulators.lies import damaged, memory
from simulators.plant import Gateway, Plant
from simulators.plants import fixtures

from signing import layout

ONE, TWO = b"app 1.0.0", b"app 2.0.0"


def _make(folder: Path) -> Plant:
    plant = Plant(folder, ["a", "b"])
    plant.publish(plant.build("1.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    plant.publish(plant.build("2.0.0", os.urandom(5000)))
    return plant


frozen, plant = fixtures(_make)


def ordered(plant: Plant) -> str:
    """2.0.0 is ordered for ``a``; it has not looked yet."""
    rollout = plant.start("two", "2.0.0", [{"name": "a", "devices": ["a"]}])
    plant.step(rollout)
    return rollout


def image(plant: Plant) -> Path:
    (release,) = plant.wiring.releases.resolve("app@2.0.0", plant.now())
    return plant.store / layout.image_target(release.path, release.sha256)


def orders(gateway: Gateway) -> Path:
    folder = gateway.spool / "orders"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "the old release": lambda _data: ONE,
    "as long, all other": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("what", BYTES)
def test_image_bytes_changed(plant: Plant, what: str) -> None:
    """Hashed in full before a slot is touched; the order stays good for the honest bytes."""
    ordered(plant)
    gateway = plant["a"]
    with damaged(image(plant), BYTES[what]):
        gateway.look()
    assert gateway.running == ONE
    assert gateway.told()[-1] in {"image-mismatch", "cut"}
    assert not list(gateway.home.glob("app.staged*"))
    gateway.look()
    assert gateway.running == image(plant).read_bytes()
    assert gateway.sound()


def test_image_longer_than_signed(plant: Plant) -> None:
    """Never a byte beyond the signed length is kept; no disk is filled by a store."""
    ordered(plant)
    gateway = plant["a"]
    with damaged(image(plant), lambda data: data + bytes(50 << 20)):
        gateway.look()
        kept = sum(p.stat().st_size for p in gateway.home.rglob("*") if p.is_file())
        assert kept < 5 << 20
        assert gateway.running == ONE
    gateway.look()
    assert gateway.running == image(plant).read_bytes()


def test_another_devices_order(plant: Plant) -> None:
    """A copied hint is refused, set aside and reported; it aims nothing."""
    ordered(plant)
    source = next(orders(plant["a"]).iterdir())
    shutil.copyfile(source, orders(plant["b"]) / source.name)
    plant["b"].look()
    assert (plant["b"].running, plant["b"].told()[-1]) == (ONE, "hint-wrong-device")
    assert list((plant["b"].spool / "quarantine").glob("*.reason"))
    plant["a"].look()
    assert plant["a"].running != ONE


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


HINTS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: path.write_bytes(b""),
    "nonsense": lambda path: path.write_bytes(b"\xff" * 100),
    "huge": lambda path: path.write_bytes(b" " * (1 << 20)),
    "deep": lambda path: path.write_bytes(b"[" * 4000),
    "another schema": lambda path: path.write_text(json.dumps({"schema": 2, "device": "a"})),
    "a link out of the folder": _link,
    "a pipe": _pipe,
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("what", HINTS)
def test_a_hint_that_is_none(plant: Plant, what: str) -> None:
    """It wakes the agent and no more: refused by name, set aside, and the update goes on."""
    ordered(plant)
    gateway = plant["a"]
    HINTS[what](orders(gateway) / "000-evil.json")
    gateway.look()
    assert "hint-malformed" in gateway.told()
    assert gateway.running == image(plant).read_bytes()
    assert not (orders(gateway) / "000-evil.json").exists()


def test_orders_withheld(plant: Plant) -> None:
    """A courier that loses hints delays at most to the next poll; what is signed is found."""
    rollout = ordered(plant)
    shutil.rmtree(orders(plant["a"]))
    plant["a"].look()
    assert plant["a"].running == image(plant).read_bytes()
    assert plant.drive(rollout)["state"] == "COMPLETED"


def test_older_metadata_replayed(plant: Plant) -> None:
    """The director's answer of yesterday is refused by whoever has seen today's."""
    gateway = plant["a"]
    stamp = gateway.director("timestamp.json")
    old = stamp.read_bytes()
    ordered(plant)
    with gateway.opened() as agent:
        agent.trust.cycle(agent.known(), gateway.clock())
    known = memory(gateway, "director")
    with damaged(stamp, lambda _data: old):
        gateway.look()
    assert (gateway.running, gateway.codes) == (ONE, ["metadata-rollback"])
    assert memory(gateway, "director") == known
    gateway.look()
    assert gateway.running == image(plant).read_bytes()


def test_another_devices_director_metadata(plant: Plant) -> None:
    """Honestly signed, newer, and for somebody else: refused and forgotten."""
    for _ in range(3):
        plant.wiring.desk.refresh("b", plant.now())
    ours, theirs = plant["a"].director(""), plant["b"].director("")
    kept = shutil.copytree(ours, plant.folder / "kept")
    known = memory(plant["a"], "director")
    for file in theirs.iterdir():
        (ours / file.name).unlink(missing_ok=True)
        shutil.copyfile(file, ours / file.name)
    plant["a"].look()
    assert plant["a"].codes == ["director-wrong-device"]
    assert memory(plant["a"], "director") == known
    shutil.rmtree(ours)
    shutil.copytree(kept, ours)
    ordered(plant)
    plant["a"].look()
    assert plant["a"].running == image(plant).read_bytes()


def test_image_repository_of_yesterday(plant: Plant) -> None:
    """An order says from which snapshot on its release is listed: behind it is no attack, a wait."""
    folder = plant.store / "image" / "metadata"
    stamp = folder / "timestamp.json"
    yesterday = stamp.read_bytes()
    plant.publish(plant.build("3.0.0"))
    rollout = plant.start("three", "3.0.0", [{"name": "a", "devices": ["a"]}])
    plant.step(rollout)
    with damaged(stamp, lambda _data: yesterday):
        plant["a"].look()
        assert (plant["a"].running, plant["a"].told()[-1]) == (ONE, "image-stale")
    assert plant.drive(rollout)["state"] == "RUNNING" or plant["a"].running == b"app 3.0.0"
    plant["a"].look()
    assert plant["a"].running == b"app 3.0.0"


def test_a_withdrawn_order_replayed(plant: Plant) -> None:
    """Until the old timestamp expires a courier can replay it: counted as exposed, and it ends."""
    stamp = plant["a"].director("timestamp.json")
    rollout = ordered(plant)
    old = stamp.read_bytes()
    plant.wiring.campaign.pause(rollout, plant.now())
    assert plant.status(rollout)["exposed"].keys() == {"a"}
    plant["a"].look()
    with damaged(stamp, lambda _data: old):
        plant["a"].look()
    assert (plant["a"].running, plant["a"].codes[-1]) == (ONE, "metadata-rollback")
    plant.later(days=4)
    assert plant.status(rollout)["exposed"] == {}
    with damaged(stamp, lambda _data: old):
        plant["b"].codes.clear()
        plant["a"].look()
    assert plant["a"].running == ONE
