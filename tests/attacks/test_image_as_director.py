"""Image metadata served as director's, and the other way round: two repositories, two trusts."""

from __future__ import annotations

import pytest
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief, listed, newest, only, put, says, write
from simulators.threats import ordered, threat
from tuf.api.metadata import Timestamp

from signing.layout import IMAGE


@pytest.mark.parametrize("files", ["*", "timestamp.json"])
def test_image_as_director(plant: Plant, files: str) -> None:
    """The image repository's files under the director's names: not its keys."""
    with threat(plant, "signature"):
        for file in (plant.store / IMAGE).glob(files):
            put(plant["a"].director(file.name), file.read_bytes())


def test_image_key_signing_as_director(plant: Plant) -> None:
    """Nor does it help when the image repository's key writes the device's name into it."""
    with threat(plant, "signature"):
        stamp = ImageThief(plant).read("timestamp")
        stamp.version = 1000
        says(device="a")(stamp)
        key = plant.wiring.keyring.signer("image-online")
        write(plant["a"].director("timestamp.json"), stamp, key)


def test_image_targets_under_a_stolen_director_key(plant: Plant) -> None:
    """Listed by the director's own timestamp and snapshot, but signed by the other's keys."""
    with threat(plant, "metadata-malformed", "metadata-mismatch", "signature") as gateway:
        theirs = newest(plant.store / IMAGE, "snapshot")
        version = int(theirs.name.partition(".")[0])
        put(gateway.director(theirs.name), theirs.read_bytes())
        meta = listed(version, theirs.read_bytes())
        Thief(plant).stamp("a", only(Timestamp, lambda s: setattr(s, "snapshot_meta", meta)))


def test_director_as_image(plant: Plant) -> None:
    """A thief of the director's key can not list what it orders."""
    ordered(plant)
    with threat(plant, "signature"):
        for file in plant["a"].director("").iterdir():
            put(plant.store / IMAGE / file.name, file.read_bytes())
