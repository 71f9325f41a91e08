"""Oversize of every file: more bytes than were signed, or than anybody would need."""

from __future__ import annotations

import os

import pytest
from simulators.plant import Plant
from simulators.thief import Thief, listed, only, put
from simulators.threats import FILES, TWO, before, files, news, ordered, threat
from tuf.api.metadata import Timestamp

from signing import layout, strict


@pytest.mark.parametrize("what", FILES)
def test_longer_than_allowed(plant: Plant, what: str) -> None:
    """The right file with a tail, or a new one that is nothing but long."""
    news(plant)
    with threat(plant, "oversize", unseen=True, keeps=before(what)):
        file = files(plant)[what]
        honest = file.read_bytes() if file.exists() else b"{}"
        put(file, honest + b" " * 600_000)


def test_an_image_longer_than_signed(plant: Plant) -> None:
    """Never a byte beyond the signed length is kept."""
    ordered(plant)
    with threat(plant, "image-oversize") as gateway:
        put(plant.store / layout.image_target("app/app-2.0.0.bin", strict.digest(TWO)), TWO * 2)
        gateway.look()
        assert not list((gateway.home / "state" / "downloads").glob("*.part"))


def test_metadata_that_a_thief_lists_as_huge(plant: Plant) -> None:
    """Whatever length the online key signs, there is an end to what a device reads."""
    with threat(plant, "oversize") as gateway:
        thief = Thief(plant)
        thief.publish("a")
        huge = listed(1000, b"")
        huge.length = 1 << 40
        with gateway.director("1000.snapshot.json").open("wb") as file:
            os.truncate(file.fileno(), (64 << 20) + 2)
        thief.stamp("a", only(Timestamp, lambda s: setattr(s, "snapshot_meta", huge)))
