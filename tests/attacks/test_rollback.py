"""Rollback: an older version of any role, offered to a device that has seen a newer one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief, listed, newest, only, put, root_folder
from simulators.threats import ordered, threat
from tuf.api.metadata import MetaFile, Snapshot, Timestamp

from signing.layout import IMAGE


def director_snapshot(plant: Plant) -> None:
    """The online key's thief: a newer timestamp that lists an older snapshot."""
    old = plant.wiring.desk.state("a").versions.snapshot - 1
    data = plant["a"].director(f"{old}.snapshot.json").read_bytes()
    Thief(plant).stamp(
        "a", only(Timestamp, lambda s: setattr(s, "snapshot_meta", listed(old, data)))
    )


def director_targets(plant: Plant) -> None:
    """The online key's thief: a newer snapshot that lists older targets."""
    old = plant.wiring.desk.state("a").versions.targets - 1
    data = plant["a"].director(f"{old}.targets.json").read_bytes()
    lie = only(Snapshot, lambda s: s.meta.update({"targets.json": listed(old, data)}))
    Thief(plant).publish("a", [], lie)


def image_snapshot(plant: Plant) -> None:
    """The online key's thief: a newer timestamp that lists an older snapshot."""
    folder = plant.store / IMAGE
    old = int(newest(folder, "snapshot").name.partition(".")[0]) - 1
    data = (folder / f"{old}.snapshot.json").read_bytes()
    lie = only(Timestamp, lambda s: setattr(s, "snapshot_meta", listed(old, data)))
    ImageThief(plant).publish(lie)


def _image_role(role: str) -> Callable[[Plant], None]:
    def lie(plant: Plant) -> None:
        older = MetaFile(1, None, None)
        ImageThief(plant).publish(only(Snapshot, lambda s: s.meta.update({f"{role}.json": older})))

    return lie


def _root(repository: str) -> Callable[[Plant], None]:
    def lie(plant: Plant) -> None:
        folder = root_folder(plant, repository)
        put(folder / "2.root.json", (folder / "1.root.json").read_bytes())

    return lie


BY: dict[str, Callable[[Plant], None]] = {
    "director root": _root("director"),
    "director snapshot": director_snapshot,
    "director targets": director_targets,
    "image root": _root("image"),
    "image snapshot": image_snapshot,
    "image targets": _image_role("targets"),
    "image role": _image_role("app"),
}


@pytest.mark.parametrize("role", BY)
def test_rollback(plant: Plant, role: str) -> None:
    """Refused by whoever has seen newer, also under a newer parent signed with a stolen key."""
    ordered(plant)
    with threat(plant, "metadata-rollback"):
        BY[role](plant)


@pytest.mark.parametrize("repository", ["director", "image"])
def test_timestamp_of_yesterday(plant: Plant, repository: str) -> None:
    """A courier needs no key to show yesterday's timestamp again; it gains nothing."""
    folder = plant["a"].director("") if repository == "director" else plant.store / IMAGE
    before = (folder / "timestamp.json").read_bytes()
    plant.publish(plant.build("4.0.0"))
    ordered(plant)
    with threat(plant, "metadata-rollback"):
        put(folder / "timestamp.json", before)
