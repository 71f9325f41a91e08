"""Expired at each level: old signatures that still hold. No accusation, and no update either."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief, next_root, only
from simulators.threats import ROOTS, ordered, threat
from tuf.api.metadata import Signed, Snapshot, Targets, Timestamp

from ota.repositories.opened import Repository

KINDS: dict[str, type[Any]] = {"timestamp": Timestamp, "snapshot": Snapshot, "targets": Targets}


def past(plant: Plant) -> Any:
    """Ended an hour ago."""

    def lie(signed: Signed) -> None:
        signed.expires = plant.now() - timedelta(hours=1)

    return lie


@pytest.mark.parametrize("role", KINDS)
def test_of_the_director(plant: Plant, role: str) -> None:
    """Each director role."""
    with threat(plant, "stale", event="stale"):
        thief = Thief(plant)
        thief.publish("a", [thief.target()], only(KINDS[role], past(plant)))


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_of_the_image_repositorys_online_roles(plant: Plant, role: str) -> None:
    """Timestamp and snapshot, while an honest order waits."""
    ordered(plant)
    with threat(plant, "stale", event="stale"):
        ImageThief(plant).publish(only(KINDS[role], past(plant)))


@pytest.mark.parametrize("role", ["targets", "app"])
def test_of_the_offline_roles(plant: Plant, role: str) -> None:
    """The list of components, and one component's list of releases."""
    ordered(plant)
    with threat(plant, "stale", event="stale"):
        thief = ImageThief(plant, "targets-1", "targets-2")
        thief.publish(only(Targets, past(plant)), {role: thief.read(role)})


@pytest.mark.parametrize("repository", ROOTS)
def test_of_a_root(plant: Plant, repository: Repository) -> None:
    """A root that nobody renewed in time stops updates, not devices; its successor ends that."""

    def renewed() -> None:
        repos = plant.wiring.repositories
        repos.change(plant.now(), renew=[(repository, "root")])
        for name in ROOTS[repository]:
            repos.sign(name, plant.now())
        repos.publish(plant.now())

    soon = plant.now() + timedelta(minutes=30)
    next_root(plant, repository, lambda r: setattr(r, "expires", soon), *ROOTS[repository])
    ordered(plant)
    with threat(plant, "stale", event="stale", heal=renewed):
        plant.later(minutes=31)
