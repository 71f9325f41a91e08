"""A killed publisher that signs again: one version number must never get two contents."""

from __future__ import annotations

import shutil
from contextlib import suppress

import pytest
from simulators.killing import traced
from simulators.plant import Plant
from simulators.thief import ImageThief, only
from simulators.threats import contents, honest, ordered, threat
from tuf.api.metadata import Signed, Timestamp

from ota.errors import NotFound
from signing.layout import IMAGE

ENGINEERS = ("targets-1", "targets-2")
KILLED_AT = (2, 4, 5)
"""Renames of ``ota release publish``: something of it is public, or all but its own memory."""


def killed(plant: Plant, at: int) -> dict[str, bytes]:
    """A release is signed, and its publisher dies; what a device can see now, by file."""
    add(plant)
    plant.wiring.close()
    words = ["-C", str(plant.workspace), "release", "publish"]
    assert traced(words, f"inject=rename:signal=KILL:when={at}").killed
    plant.reopen()
    plant["a"].look()
    return contents(plant.store / IMAGE)


def add(plant: Plant) -> None:
    """Describe it and sign it."""
    plant.wiring.releases.add(plant.build("4.0.0"), plant.now())
    for name in ENGINEERS:
        plant.wiring.releases.sign(name, plant.now())


def one_content_each(plant: Plant, seen: dict[str, bytes]) -> None:
    """Every versioned file that was public is as it was; no device ever saw a contradiction."""
    after = contents(plant.store / IMAGE)
    assert {n for n in seen if after.get(n) != seen[n]} <= {"timestamp.json"}
    assert plant.damage() == []
    plant.look()
    assert [g.codes for g in plant.devices.values()] == [[], []]


@pytest.mark.parametrize("at", KILLED_AT)
def test_started_again(plant: Plant, at: int) -> None:
    """Hours later it completes with the bytes that it had finished, and signs nothing anew."""
    ordered(plant)
    seen = killed(plant, at)
    plant.later(hours=3)
    with suppress(NotFound):  # it died with everything public
        plant.wiring.releases.publish(plant.now())
    one_content_each(plant, seen)
    honest(plant)
    honest(plant, version="4.0.0")


@pytest.mark.parametrize("at", KILLED_AT)
def test_started_again_without_its_memory(plant: Plant, at: int) -> None:
    """Its outbox is lost, so it must sign again: under numbers that were never public."""
    ordered(plant)
    seen = killed(plant, at)
    shutil.rmtree(plant.workspace / "state" / "outbox")
    plant.reopen()
    plant.later(hours=3)
    if "app@4.0.0" not in {f"{r.component}@{r.version}" for r in listed(plant)}:
        with suppress(NotFound):
            plant.wiring.releases.publish(plant.now())
    one_content_each(plant, seen)
    honest(plant)
    honest(plant, version="4.0.0")


def listed(plant: Plant) -> list[object]:
    """Published releases."""
    return [i.release for i in plant.wiring.releases.listing(plant.now()) if i.state == "published"]


def test_one_that_does(plant: Plant) -> None:
    """Another program with the same keys signs its version again: every device says so."""

    def again(stamp: Signed) -> None:
        stamp.version -= 1
        stamp.expires = stamp.expires.replace(hour=(stamp.expires.hour + 1) % 24)

    ordered(plant)
    with threat(plant, "equivocation"):
        ImageThief(plant).publish(only(Timestamp, again))
