"""A thief of the image repository's online key, or of one release engineer's key.

The online key dates and orders what the offline keys have signed; one of two offline keys is
below their threshold. With either, or both, nothing new can be made to run, nothing can be taken
back to an older listing, and no device is led astray for longer than the lie lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from simulators.lies import memory
from simulators.plant import Plant, sha
from simulators.plants import fixtures
from simulators.thief import Thief
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from signing import layout, strict

ONE, TWO, EVIL = b"app 1.0.0", b"app 2.0.0", b"evil"


def _make(folder: Path) -> Plant:
    plant = Plant(folder, ["a"])
    plant.publish(plant.build("1.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    plant.publish(plant.build("2.0.0"))
    plant.step(plant.start("two", "2.0.0"))
    with plant["a"].opened() as agent:  # it has seen the listing, and installed nothing yet
        agent.trust.cycle(agent.known(), plant.now())
    return plant


frozen, plant = fixtures(_make)


class ImageThief:
    """Publishes image metadata with the keys that it has."""

    def __init__(self, plant: Plant, *engineers: str) -> None:
        self._plant = plant
        self._folder = plant.store / "image" / "metadata"
        self._online = plant.wiring.keyring.signer("image-online")
        self._engineers = [plant.wiring.keyring.signer(name) for name in engineers]

    def read(self, name: str) -> Any:
        found = max(self._folder.glob(f"*{name}.json"), key=lambda p: (len(p.name), p.name))
        return Metadata.from_bytes(found.read_bytes())

    def publish(self, edit: Callable[[Snapshot], None], *roles: tuple[str, Targets]) -> None:
        """New roles, a snapshot that lists them, a timestamp that lists that."""
        snapshot: Snapshot = self.read("snapshot").signed
        for name, role in roles:
            data = self._write(f"{role.version}.{name}.json", role, self._engineers)
            snapshot.meta[f"{name}.json"] = _meta(role.version, data)
        snapshot.version += 1
        edit(snapshot)
        data = self._write(f"{snapshot.version}.snapshot.json", snapshot, [self._online])
        stamp: Timestamp = self.read("timestamp").signed
        stamp.version += 1
        stamp.snapshot_meta = _meta(snapshot.version, data)
        self._write("timestamp.json", stamp, [self._online])

    def _write(self, file: str, signed: Any, signers: Sequence[Any]) -> bytes:
        metadata: Metadata[Any] = Metadata(signed)
        for signer in signers or [self._online]:
            metadata.sign(signer, append=True)
        data = metadata.to_bytes()
        (self._folder / file).write_bytes(data)
        return data


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": strict.digest(data)})


def _nothing(_snapshot: Snapshot) -> None:
    pass


def evil_role(thief: ImageThief, plant: Plant) -> Targets:
    """The role of ``app`` with one more release, whose bytes lie in the store."""
    role: Targets = thief.read("app").signed
    role.version += 1
    honest = next(iter(role.targets.values()))
    path = "app/evil.bin"
    hashes = {"sha256": sha(EVIL)}
    role.targets[path] = TargetFile(len(EVIL), hashes, path, dict(honest.unrecognized_fields))
    file = plant.store / layout.image_target(path, sha(EVIL))
    file.write_bytes(EVIL)
    return role


def refused(plant: Plant, code: str) -> None:
    """Refused by name; what runs and what is trusted stay; the honest store heals it."""
    gateway = plant["a"]
    known = memory(gateway, "image")
    gateway.look()
    assert (gateway.running, gateway.told()[-1]) == (ONE, code)
    assert memory(gateway, "image") == known
    assert not list(gateway.home.glob("app.*"))


def heals(plant: Plant, honest: dict[Path, bytes]) -> None:
    for path in (plant.store / "image" / "metadata").iterdir():
        if path in honest:
            path.write_bytes(honest[path])
        else:
            path.unlink()
    plant["a"].look()
    assert plant["a"].running == TWO


@pytest.fixture
def honest(plant: Plant) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in (plant.store / "image" / "metadata").iterdir()}


@pytest.mark.parametrize("engineers", [[], ["targets-1"], ["targets-2", "root-1", "image-online"]])
def test_a_release_below_the_threshold(
    plant: Plant, honest: dict[Path, bytes], engineers: list[str]
) -> None:
    """One engineer, or one among strangers, lists nothing, though a director's thief assigns it."""
    director = Thief(plant)
    evil = director.release("2.0.0")
    thief = ImageThief(plant, *engineers)
    thief.publish(_nothing, ("app", evil_role(thief, plant)))
    refused(plant, "signature")
    director.assign("a", evil, path="app/evil.bin", length=4, hashes={"sha256": sha(EVIL)})
    refused(plant, "signature")
    director.assign("a", evil, order="ota-two-aaaaaa-u1-w0-b9")
    heals(plant, honest)


def _older(snapshot: Snapshot) -> None:
    snapshot.meta["app.json"] = MetaFile(1, None, None)


def _gone(snapshot: Snapshot) -> None:
    del snapshot.meta["app.json"]


LISTINGS = {
    "an older role": (_older, {"metadata-rollback"}),
    "no role": (_gone, {"metadata-rollback", "metadata-mismatch"}),
}


@pytest.mark.parametrize("what", LISTINGS)
def test_a_listing_taken_back(plant: Plant, honest: dict[Path, bytes], what: str) -> None:
    """A newer snapshot can not unlist what a device has seen listed."""
    edit, codes = LISTINGS[what]
    ImageThief(plant).publish(edit)
    gateway = plant["a"]
    gateway.look()
    assert gateway.running == ONE
    assert gateway.told()[-1] in codes
    heals(plant, honest)


def test_a_frozen_store_is_stale_and_seen(plant: Plant) -> None:
    """Withholding everything is all that is left: the device says so, and runs on."""
    plant["a"].look()
    assert plant["a"].running == TWO
    plant.later(days=40)
    plant["a"].look()
    assert (plant["a"].running, plant["a"].told()[-1]) == (TWO, "stale")
    plant.wiring.refresh(every=True)
    plant["a"].codes.clear()
    plant["a"].look()
    assert plant["a"].codes == []
