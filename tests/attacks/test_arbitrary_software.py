"""Arbitrary software: bytes that nobody signed, put in the place of bytes that somebody did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief, put
from simulators.threats import ONE, TWO, ordered, threat

from signing import layout

EVIL = b"app evil!"
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "the old release": lambda _data: ONE,
    "as long, all other": lambda _data: EVIL,
}


def image(plant: Plant) -> Path:
    """The file of 2.0.0 in the store."""
    (release,) = plant.wiring.releases.resolve("app@2.0.0", plant.now())
    return plant.store / layout.image_target(release.path, release.sha256)


@pytest.mark.parametrize("what", BYTES)
def test_image_bytes_changed(plant: Plant, what: str) -> None:
    """Hashed in full before a slot is touched; the order stays good for the honest bytes."""
    ordered(plant)
    with threat(plant, "image-mismatch"):
        put(image(plant), BYTES[what](TWO))


@pytest.mark.parametrize("key", ["image-online", "targets-1", "director-root-1", "author"])
def test_an_order_signed_by_another_key(plant: Plant, key: str) -> None:
    """No key but the director's online key orders anything, whatever else it may sign."""
    with threat(plant, "signature"):
        thief = Thief(plant, key)
        thief.assign("a", thief.release("2.0.0"))


def test_a_listing_signed_by_an_online_key(plant: Plant) -> None:
    """The key that dates the image repository lists nothing, though the director's thief orders."""
    with threat(plant, "signature", keeps=("director",)):
        director, thief = Thief(plant), ImageThief(plant)
        honest = director.release("2.0.0")
        evil = thief.lists("app/evil.bin", EVIL)
        listed = evil.targets["app/evil.bin"]
        wanted = {"path": listed.path, "length": listed.length, "hashes": listed.hashes}
        director.assign("a", honest, **wanted)
        thief.publish(roles={"app": evil})
