"""Another device's timestamp or snapshot: honestly signed, newer, and for somebody else."""

from __future__ import annotations

import shutil

import pytest
from simulators.plant import Plant
from simulators.thief import Thief, listed, newest, only, put
from simulators.threats import ordered, threat
from tuf.api.metadata import Timestamp


def ahead(plant: Plant) -> None:
    """The neighbour's versions are all above the victim's."""
    for _ in range(3):
        Thief(plant).publish("b")


@pytest.mark.parametrize("files", ["*", "timestamp.json"])
def test_of_a_neighbour(plant: Plant, files: str) -> None:
    """The whole set, or its timestamp alone: refused, and forgotten with its higher versions."""
    ahead(plant)
    with threat(plant, "director-wrong-device") as gateway:
        for file in plant["b"].director("").glob(files):
            put(gateway.director(file.name), file.read_bytes())


def test_its_snapshot_in_our_place(plant: Plant) -> None:
    """Without a key it is not what our timestamp lists."""
    ahead(plant)
    ordered(plant)
    with threat(plant, "metadata-mismatch", "oversize", unseen=True) as gateway:
        theirs = newest(plant["b"].director(""), "snapshot")
        put(newest(gateway.director(""), "snapshot"), theirs.read_bytes())


def test_its_snapshot_under_a_stolen_key(plant: Plant) -> None:
    """Listed by a timestamp that names us, the neighbour's snapshot still names the neighbour."""
    ahead(plant)
    with threat(plant, "director-wrong-device") as gateway:
        theirs = newest(plant["b"].director(""), "snapshot")
        version = int(theirs.name.partition(".")[0]) + 1
        shutil.copyfile(theirs, gateway.director(theirs.name))
        meta = listed(version - 1, theirs.read_bytes())
        Thief(plant).stamp("a", only(Timestamp, lambda s: setattr(s, "snapshot_meta", meta)))
