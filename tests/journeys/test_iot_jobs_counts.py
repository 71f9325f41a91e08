"""AWS calls are counted: what a wave costs, what a quiet poll costs, and what an agent sends."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from simulators.awsfake import FakeAws
from simulators.iotworld import REPORTS, IotWorld
from simulators.plant import Plant

from signing.plan import Gate, Limits

DEVICES = 200


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    made = FakeAws()
    made.environment(monkeypatch)
    return made


def cost(world: IotWorld, batch: int) -> float:
    """Calls a device, from the first order until nothing is left at AWS."""
    count = len(world.devices)
    world.start(count, limits=Limits(in_flight=count, batch=batch))
    assert world.drive() == "COMPLETED"
    world.tick(8 * 86400)
    for _ in range(count):
        if not world.campaign.tidy(world.now, timedelta(days=7), 100):
            break
    assert (world.fake.jobs, world.fake.groups) == ({}, {})
    assert all(runs == "2.0.0" for runs in world.runs().values())
    return world.fake.calls.total() / count


@pytest.mark.parametrize("batch", [50, 100])
def test_a_wave_costs_at_most_one_call_and_a_fifth(
    fake: FakeAws, tmp_path: Path, batch: int
) -> None:
    """A device, in all: orders, four reports each, books, and tidying up after it."""
    world = IotWorld(tmp_path, fake, DEVICES)
    assert cost(world, batch) <= 1.2
    assert fake.calls["CreateJob"] == DEVICES // batch


def test_a_plan_of_large_batches_costs_no_more(fake: FakeAws, tmp_path: Path) -> None:
    """Whatever the plan allows, an order over this courier has a hundred devices at most."""
    world = IotWorld(tmp_path, fake, DEVICES)
    assert cost(world, DEVICES) <= 1.2
    assert fake.calls["CreateJob"] == DEVICES // 100
    assert fake.calls["CreateThingGroup"] == 0


def test_orders_of_more_than_a_hundred_cost_one_call_more(fake: FakeAws, tmp_path: Path) -> None:
    """Where somebody asks for them: each device beyond the first 99 is put into a group."""
    world = IotWorld(tmp_path, fake, DEVICES, order_size=DEVICES)
    assert cost(world, DEVICES) <= 1.2 + 1
    assert fake.calls["AddThingToThingGroup"] == DEVICES - 99


@pytest.mark.parametrize("devices", [10, 200])
def test_a_quiet_poll_costs_the_same(fake: FakeAws, tmp_path: Path, devices: int) -> None:
    """However many devices have not changed: one call a step, while nothing is due."""
    world = IotWorld(tmp_path, fake, devices)
    for device in world.devices.values():
        device.mood = "off"
    limits = Limits(in_flight=devices, batch=10)
    world.start(devices, limits=limits, deadline=86400, gate=Gate(silent="100%"))
    world.step()
    for _ in range(20):
        fake.calls.clear()
        world.tick(10)
        world.step()
        assert fake.calls == {"ReceiveMessage": 1}
    fake.calls.clear()
    for _ in range(24 * 6):
        world.tick(600)
        world.step()
    assert fake.calls.pop("ReceiveMessage") == 24 * 6
    assert fake.calls.total() <= 6 * (devices // 10), "books are looked up seldom in a whole day"


def test_an_agent_sends_four_reports_for_an_update(ground: Path) -> None:
    """What the counts above stand on, taken from a real agent."""
    plant = Plant(ground / "plant", ("a",))
    plant.publish(plant.build("1.0.0"), plant.build("2.0.0"))
    plant.roll_out("one", "1.0.0")
    before = len(plant["a"].reports())
    plant.roll_out("two", "2.0.0")
    assert len(plant["a"].reports()) - before == REPORTS
    plant.wiring.close()
