"""Repeated or unknown component: orders that a device can not follow as they are."""

from __future__ import annotations

from simulators.plant import Plant
from simulators.thief import Thief
from simulators.threats import threat


def test_a_component_twice(plant: Plant) -> None:
    """Which of two is meant is nobody's guess: neither is installed."""
    with threat(plant, "component-repeated"):
        thief = Thief(plant)
        thief.publish("a", [thief.target("2.0.0"), thief.target("3.0.0")])


def test_an_unknown_component(plant: Plant) -> None:
    """An order for a part that this device lacks spoils the whole set, also its good order."""
    with threat(plant, "component-unknown"):
        thief = Thief(plant)
        mcu = thief.assignment(thief.release("1.0.0", "mcu")).to_target()
        thief.publish("a", [thief.target("2.0.0"), mcu])
