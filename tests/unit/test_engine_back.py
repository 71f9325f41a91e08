"""The way back: who is ordered back, who only loses an assignment, who needs a human."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulators.fleet_sim import World, outage


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, devices=6)


def test_pending_devices_only_lose_their_assignment_on_the_way_back(world: World) -> None:
    """Who never activated it gets no return order."""
    world.devices["d000"].mood = "sick"
    world.devices["d001"].mood = "off"
    world.start(3, 3)
    assert world.drive() == "ROLLED_BACK"
    assert ("withdraw", "d001", "ota-app-2-x7k2m9-u1-w0-b0") in world.desk.log
    assert not any("-r1-" in o and d == "d001" for _, d, o in world.desk.log)


def test_a_blocked_way_back_ends_held_and_partial_ends_it(world: World) -> None:
    """The floor closes one device's way: the eligible go back, a human decides about the rest."""
    world.devices["d001"].mood = "slow"
    world.start(3, 3)
    world.step()
    world.poll("d000", "d001", "d002")
    world.devices["d000"].floor = 1
    world.devices["d000"].done.clear()
    world.poll("d000")
    world.devices["d001"].mood = "sick"
    world.poll("d001")
    assert world.drive() == "HELD"
    assert world.runs()["d002"] == "1.0.0"
    assert world.runs()["d000"] == "2.0.0"
    assert "floor" in " ".join(world.status()["reasons"])
    world.campaign.rollback("app-2-x7k2m9", world.now, partial=True)
    assert world.drive() == "ROLLED_BACK"


def test_a_device_that_does_not_come_back_holds_the_way_back(world: World) -> None:
    """A failing return is for a human; another attempt uses another order id."""
    world.devices["d001"].mood = "sick"
    world.start(2, 4, deadline=60)
    world.step()
    world.poll("d000", "d001")
    world.devices["d000"].mood = "broken"
    assert world.drive() == "HELD"
    assert world.outcomes()["d000"] == "stranded"
    world.devices["d000"].mood = "ok"
    world.campaign.rollback("app-2-x7k2m9", world.now)
    assert world.drive() == "ROLLED_BACK"
    assert world.runs()["d000"] == "1.0.0"
    assert any("-r2-" in o for o, _ in world.courier.hints)


def test_a_half_activated_device_is_stuck_and_held(world: World) -> None:
    """NEEDS_HUMAN counts as failed and as having taken the release."""
    world.devices["d000"].mood = "stuck"
    world.start(2, 4)
    assert world.drive() == "ROLLED_BACK"
    assert any("-r1-" in o and d == "d000" for o, d in world.courier.hints)


def test_an_outage_on_the_way_back_only_delays(world: World) -> None:
    """Neither ends nor holds: catalogue, then one device's desk, then all is well again."""
    world.devices["d001"].mood = "sick"
    world.devices["d002"].mood = "off"
    world.start(3, 3)
    world.step()
    world.poll()
    world.desk.faults = {"d000": outage(), "d002": outage()}
    world.catalogue.fault = outage()
    assert [world.step().state for _ in range(2)] == ["ROLLING_BACK"] * 2
    world.catalogue.fault = None
    world.step()
    world.poll()
    assert world.step().state == "ROLLING_BACK"
    del world.desk.faults["d000"]
    world.step()
    world.poll()
    assert world.step().state == "ROLLING_BACK", "an assignment could not be withdrawn yet"
    world.desk.faults = {}
    assert world.drive() == "ROLLED_BACK"
    assert world.runs()["d000"] == "1.0.0"
    assert world.desk.assignments("d002") == {}
