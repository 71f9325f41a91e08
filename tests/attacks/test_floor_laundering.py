"""Floor laundering: first an empty assignment, so that a device forgets its floor; then the old."""

from __future__ import annotations

import pytest
from simulators.plant import Plant
from simulators.thief import Thief
from simulators.threats import ordered, threat

KEEPS = ("director", "image")


def fixed(plant: Plant) -> None:
    """The floor of both devices is at the security fix."""
    for gateway in plant.devices.values():
        gateway.toml.write_text("security_soak = 0\n" + gateway.toml.read_text())
    plant.publish(plant.build("2.0.1", security_fix=True), plant.build("2.1.0"))
    assert plant.roll_out("fix", "2.0.1")["state"] == "COMPLETED"
    plant["a"].look()
    assert plant["a"].floor == 2


@pytest.mark.parametrize("empty", [1, 3])
def test_through_an_empty_assignment(plant: Plant, empty: int) -> None:
    """Nothing assigned means: keep what runs. The floor does not move, however often."""
    fixed(plant)
    with threat(plant, "below-floor", keeps=KEEPS, next_is="2.1.0") as gateway:
        thief = Thief(plant)
        for _ in range(empty):
            thief.publish("a")
            assert (gateway.look(), gateway.running, gateway.floor) == ([], b"app 2.0.1", 2)
        thief.assign("a", thief.release("1.0.0"))


def test_through_a_removed_component(plant: Plant) -> None:
    """Taken out of the configuration and put in again, a component is where it was."""
    fixed(plant)
    with threat(plant, "below-floor", keeps=KEEPS, next_is="2.1.0") as gateway:
        Thief(plant).publish("a")
        text = gateway.toml.read_text()
        gateway.toml.write_text(text.partition("[components.app]")[0])
        gateway.look()
        gateway.toml.write_text(text)
        thief = Thief(plant)
        thief.assign("a", thief.release("1.0.0"))


def test_through_a_withdrawal_by_operators(plant: Plant) -> None:
    """An honest order, withdrawn honestly, leaves no gap for an old one either."""
    fixed(plant)
    rollout = ordered(plant, version="2.1.0")
    with threat(plant, "below-floor", keeps=KEEPS, next_is="2.1.0"):
        plant.wiring.campaign.abort(rollout, plant.now(), "leave")
        thief = Thief(plant)
        thief.assign("a", thief.release("2.0.0"))
