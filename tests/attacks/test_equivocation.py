"""Equivocation: one version number signed twice, with two contents, by the right key."""

from __future__ import annotations

from typing import Any

import pytest
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief, only
from simulators.threats import ordered, threat
from tuf.api.metadata import Signed, Snapshot, Targets, Timestamp

KINDS: dict[str, type[Any]] = {"timestamp": Timestamp, "snapshot": Snapshot, "targets": Targets}


def again(version: int) -> Any:
    """The same version, and other content."""

    def lie(signed: Signed) -> None:
        signed.version = version
        signed.unrecognized_fields["note"] = "another content"

    return lie


@pytest.mark.parametrize("role", KINDS)
def test_of_the_director(plant: Plant, role: str) -> None:
    """Each director role: what this device has seen under a number is what stands."""
    ordered(plant)
    with threat(plant, "equivocation"):
        versions = plant.wiring.desk.state("a").versions
        Thief(plant).publish("a", [], only(KINDS[role], again(getattr(versions, role))))


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_of_the_image_repositorys_online_key(plant: Plant, role: str) -> None:
    """Its timestamp and snapshot."""
    ordered(plant)
    with threat(plant, "equivocation"):
        thief = ImageThief(plant)
        thief.publish(only(KINDS[role], again(thief.read(role).version)))


@pytest.mark.parametrize("role", ["targets", "app"])
def test_of_the_release_engineers(plant: Plant, role: str) -> None:
    """A threshold of offline keys, and the online key with them, are held to it too."""
    ordered(plant)
    with threat(plant, "equivocation"):
        thief = ImageThief(plant, "targets-1", "targets-2")
        signed = thief.read(role)
        thief.publish(only(Targets, again(signed.version)), {role: signed})
