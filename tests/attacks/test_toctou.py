"""TOCTOU between check and install: what was verified is changed before it is made active."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulators.images import tar
from simulators.plant import Gateway, Part, Plant
from simulators.thief import Thief, put
from simulators.threats import ONE, Remembered, honest, named, ordered, sees, threat, unchanged

from ota.agent.trust import TrustRoom, VerifiedImage

KEEPS = ("director", "image")
EVIL = b"app evil!"


def after_verifying(monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object]) -> None:
    """Somebody gets at the verified file, once, in the moment after its hash was right."""
    real = TrustRoom.verify
    left = [1]

    def verify(room: TrustRoom, *words: Any, **more: Any) -> VerifiedImage:
        image = real(room, *words, **more)
        if left:
            left.pop()
            act(image.path)
        return image

    monkeypatch.setattr(TrustRoom, "verify", verify)


def overwritten(path: Path) -> None:
    """In place, as long, with the times of before."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(EVIL)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    """Another file under its name."""
    put(path, EVIL)
    path.chmod(0o600)


def touched(path: Path) -> None:
    """Written, and put right again: whoever read it meanwhile read something else."""
    honest_bytes = path.read_bytes()
    path.write_bytes(EVIL)
    path.write_bytes(honest_bytes)


@pytest.mark.parametrize("act", [replaced, touched])
def test_the_file_after_its_hash(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object]
) -> None:
    """A slot that was written from another file than the verified one is never made active."""
    ordered(plant)
    with threat(plant, "image-mismatch"):
        after_verifying(monkeypatch, act)


def test_an_archive_while_it_is_unpacked(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacked from bytes that changed after their hash: dropped, and nothing of it runs."""
    plant = Plant(ground / "archive", ["a"], [Part("app", "dir-symlink")])
    plant.publish(
        plant.build("1.0.0", tar(ONE, "app.bin")), plant.build("2.0.0", tar(b"two", "app.bin"))
    )
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    gateway = plant["a"]
    rollout = ordered(plant)
    sees(gateway)
    before = Remembered.of(gateway)
    evil = tar(EVIL, "app.bin")
    after_verifying(monkeypatch, lambda path: path.write_bytes(evil))
    gateway.look()
    unchanged(gateway, before)
    assert runs(gateway) == ONE
    named(gateway, ("image-mismatch",), "refusal")
    gateway.look()
    assert runs(gateway) == b"two"
    assert gateway.sound()
    assert plant.drive(rollout)["state"] in {"COMPLETED", "HELD"}
    plant.wiring.close()


def runs(gateway: Gateway) -> bytes:
    """What the application's folder holds."""
    return (gateway.home / "app" / "current" / "app.bin").read_bytes()


@pytest.mark.parametrize("what", ["*.part", "app.staged*"])
def test_on_the_disk_while_the_agent_waits(plant: Plant, what: str) -> None:
    """The plant says: not now. What is changed meanwhile is hashed again before it is used."""
    ordered(plant)
    with threat(plant, "image-mismatch") as gateway:
        stage_then_wait(gateway)
        (found,) = gateway.home.rglob(what)
        overwritten(found)


def stage_then_wait(gateway: Gateway) -> None:
    """Everything is staged; the plant says: not now."""
    text = gateway.toml.read_text()
    count = gateway.home / "asked"
    script = f'["sh", "-c", "echo >> {count}; test $(wc -l < {count}) -lt 2"]'
    line = next(x for x in text.splitlines() if x.startswith('argv = ["test", "!", "-e"'))
    gateway.toml.write_text(text.replace(line, f"argv = {script}", 1))
    (result,) = gateway.look()
    assert (result.code, gateway.running) == ("interlock", ONE)
    gateway.toml.write_text(text)
    count.unlink()


def test_the_order_before_activation(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Withdrawn after the download, before the switch: the director is asked once more."""
    rollout = ordered(plant)
    gateway = plant["a"]
    sees(gateway)
    before = Remembered.of(gateway)
    after_verifying(
        monkeypatch, lambda _path: plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    )
    (result,) = gateway.look()
    assert (result.outcome, result.code) == ("failed", "withdrawn")
    unchanged(gateway, before, ("director",))
    named(gateway, ("withdrawn",), "outcome")
    honest(plant)


def test_older_director_metadata_before_activation(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second reading is held to the first: no older answer makes the switch happen."""
    stamp = plant["a"].director("timestamp.json")
    old = stamp.read_bytes()
    ordered(plant)
    with threat(plant, "metadata-rollback"):
        after_verifying(monkeypatch, lambda _path: put(stamp, old))


def test_another_order_before_activation(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The director's thief exchanges the order meanwhile: the first is not followed any more."""
    ordered(plant)
    thief = Thief(plant)
    other = thief.release("9.0.0")
    with threat(plant, "hardware-mismatch", keeps=KEEPS) as gateway:
        after_verifying(monkeypatch, lambda _path: thief.assign("a", other))
        (result,) = gateway.look()
        assert (result.code, gateway.running) == ("withdrawn", ONE)
