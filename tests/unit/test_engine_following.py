"""Couriers that keep books: asked seldom, never believed, closed at the end, tidied after it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from simulators.fleet_sim import BookCourier, World, outage
from simulators.stopping import Killed

from ota.errors import Busy, Malformed, NotFound, NotPermitted, OtaError, Outage, Refusal
from ota.rollout import following
from ota.rollout.tidying import Tidied
from signing.plan import Gate, Limits

FIRST = "ota-app-2-x7k2m9-u1-w0-b0"
HOUR = 3600
LENIENT = Gate(silent="100%", unreachable="100%")


@pytest.fixture
def courier() -> BookCourier:
    return BookCourier()


@pytest.fixture
def world(tmp_path: Path, courier: BookCourier) -> World:
    return World(tmp_path, devices=6, courier=courier)


def minutes_of_questions(world: World, courier: BookCourier, until: int) -> list[tuple[int, bool]]:
    """Minute and ``close`` of each question, one step a minute."""
    found = []
    for minute in range(until):
        before = len(courier.asked)
        world.step()
        found += [(minute, close) for _, _, close in courier.asked[before:]]
        world.tick(60)
    return found


def tidy(world: World, days: float = 0, limit: int = 100) -> list[Tidied]:
    return world.campaign.tidy(world.now, timedelta(days=days), limit)


# -- when ----------------------------------------------------------------------------------------
def test_a_silent_order_is_asked_about_ever_more_seldom(world: World, courier: BookCourier) -> None:
    """After an eighth of the deadline, twice that, four times; then it is closed, and that is all."""
    for device in world.devices.values():
        device.mood = "off"
    world.start(6, deadline=8 * HOUR, gate=LENIENT)
    found = minutes_of_questions(world, courier, 12 * 60)
    assert found == [(60, False), (120, False), (240, False), (480, True)]
    assert courier.opened == set()


def test_an_order_that_has_ended_is_closed_soon(world: World, courier: BookCourier) -> None:
    """Nobody is waited for: asked a minute later, and again while its books are still open."""
    world.start(1, 5, deadline=8 * HOUR, soak=8 * HOUR)
    world.step()
    world.poll()
    found = minutes_of_questions(world, courier, 10)
    assert found == [(1, False), (3, False), (7, False)]
    courier.opened.clear()
    assert minutes_of_questions(world, courier, 100) == [(5, False)]
    assert {waiting for _, waiting, _ in courier.asked} == {()}


def test_a_step_asks_about_few_orders(tmp_path: Path, courier: BookCourier) -> None:
    """A hundred orders that are due at once are asked about over several steps, each once."""
    world = World(tmp_path, devices=25, courier=courier)
    for device in world.devices.values():
        device.mood = "off"
    world.start(25, deadline=HOUR, gate=LENIENT, limits=Limits(batch=1))
    world.step()
    world.tick(HOUR)
    for expected in (10, 20, 25, 25):
        world.step()
        assert len(courier.asked) == expected
    assert len({order for order, _, _ in courier.asked}) == 25


def test_couriers_without_books_are_not_asked(tmp_path: Path) -> None:
    """The journal of a rollout over them has no such events."""
    world = World(tmp_path, devices=2)
    world.start(2, deadline=HOUR, gate=LENIENT)
    assert world.drive() == "COMPLETED"
    assert "followed" not in world.kinds()
    assert tidy(world) == []


# -- what ----------------------------------------------------------------------------------------
def test_what_was_lost_is_named_and_counts_for_nothing(world: World, courier: BookCourier) -> None:
    """A device that the books call through is named in status until it reports; no outcome."""
    world.devices["d000"].mood = "off"
    world.start(3, 3, deadline=8 * HOUR)
    courier.says = {"d000": "AWS says SUCCEEDED", "d001": "never mind", "d005": "not in it"}
    world.step()
    world.poll("d001", "d002")
    world.tick(HOUR)
    step = world.step()
    assert courier.asked == [(FIRST, ("d000",), False)]
    assert step.problems == ["d000: no report: AWS says SUCCEEDED"]
    assert world.status()["lost"] == {"d000": "AWS says SUCCEEDED"}
    assert world.outcomes()["d000"] == "pending"
    world.tick(2 * HOUR)
    assert world.step().problems == [], "news is told once"
    world.devices["d000"].mood = "ok"
    world.poll("d000")
    world.step()
    assert world.status()["lost"] == {}


def test_a_note_about_an_order_stands_in_status(world: World, courier: BookCourier) -> None:
    """Such as a job that somebody deleted."""
    world.devices["d000"].mood = "off"
    world.start(6, deadline=8 * HOUR)
    courier.note = "its job was deleted by hand"
    world.step()
    world.tick(HOUR)
    assert world.step().problems == [f"sim: {FIRST}: its job was deleted by hand"]
    assert world.status()["courier_notes"] == {FIRST: "its job was deleted by hand"}


def test_later_orders_speak_for_a_device(world: World, courier: BookCourier) -> None:
    """An order that was withdrawn waits for nobody, and is closed; the new one is asked about."""
    for device in world.devices.values():
        device.mood = "off"
    world.start(2, 4, deadline=8 * HOUR)
    world.step()
    world.campaign.pause("app-2-x7k2m9", world.now)
    world.campaign.resume("app-2-x7k2m9", world.now)
    world.step()
    world.tick(HOUR)
    world.step()
    second = FIRST.replace("-u1-", "-u2-")
    assert sorted(courier.asked) == [(FIRST, (), False), (second, ("d000", "d001"), False)]


# -- what goes wrong ------------------------------------------------------------------------------
def test_what_fails_is_a_problem_and_is_done_later(world: World, courier: BookCourier) -> None:
    """With the next command to try; the step itself goes on."""
    for device in world.devices.values():
        device.mood = "off"
    world.start(6, deadline=8 * HOUR)
    world.step()
    world.tick(HOUR)
    courier.fault = NotPermitted("not allowed: iot:DescribeJob", remedy="allow it")
    assert world.step().problems == [f"sim: {FIRST}: not allowed: iot:DescribeJob; next: allow it"]
    assert "followed" not in world.kinds()
    courier.fault = None
    assert world.step().problems == []
    assert world.kinds().count("followed") == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_while_asking(world: World, courier: BookCourier, *, after: bool) -> None:
    """Dying at any call of that step and stepping again leaves one record of it."""
    for device in world.devices.values():
        device.mood = "off"
    world.start(6, deadline=HOUR, gate=LENIENT)
    world.step()
    world.tick(HOUR)
    for at in range(1, 40):
        world.fuse.at, world.fuse.after, world.fuse.calls = at, after, 0
        try:
            world.step()
        except Killed:
            world.campaign = world.fresh()
    world.fuse.at = 0
    world.step()
    assert world.kinds().count("followed") == 1
    assert courier.opened == set()


FAULTS: list[OtaError] = [
    NotPermitted("the credentials have expired", remedy="renew them"),
    Outage("AWS asks for patience", remedy="it is tried again"),
    NotFound("the queue is not there", remedy="compare region and account"),
    Malformed("AWS does not take the request", remedy="correct the label"),
    Refusal("ssm-document", "the document at Systems Manager is not ours", remedy="delete it"),
    Busy("somebody else is at it", remedy="try again"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__)
def test_a_courier_in_trouble_stops_no_pause(
    world: World, courier: BookCourier, fault: OtaError
) -> None:
    """Whatever its account says, or somebody did to it: what is not activated is withdrawn."""
    for device in world.devices.values():
        device.mood = "off"
    world.start(6)
    world.step()

    def denied(limit: int) -> list[object]:
        raise fault

    courier.collect = denied  # type: ignore[assignment,method-assign] # a fault
    step = world.campaign.pause("app-2-x7k2m9", world.now)
    assert step.state == "PAUSED"
    assert any(str(fault) in p and f"next: {fault.remedy}" in p for p in step.problems)
    assert all(not assigned for assigned in world.desk.current.values())


# -- afterwards ----------------------------------------------------------------------------------
def test_tidy_closes_at_once_and_removes_later(world: World, courier: BookCourier) -> None:
    """Of ended rollouts only; what is gone is recorded, and is not asked for again."""
    world.start(6)
    world.step()
    assert tidy(world) == []
    world.poll()
    assert world.drive() == "COMPLETED"
    assert tidy(world, days=7) == []
    assert courier.opened == {FIRST}, "devices get a minute to end it themselves"
    world.tick(60)
    assert tidy(world, days=7) == []
    assert courier.opened == set()
    assert courier.tidied == []
    world.tick(7 * 86400)
    week = timedelta(days=7)
    tried = world.campaign.tidy(world.now, week, 100, write=False)
    assert tried == [Tidied("app-2-x7k2m9", "COMPLETED", [FIRST])]
    assert courier.tidied == []
    assert tidy(world, days=7) == tried
    assert tidy(world, days=7) == []
    assert courier.tidied == [FIRST]
    assert world.status()["state"] == "COMPLETED"


def test_tidy_is_bounded_and_goes_on(tmp_path: Path, courier: BookCourier) -> None:
    """So many orders in one call; an outage ends it; nothing is recorded that was not done."""
    world = World(tmp_path, devices=25, courier=courier)
    world.start(25, limits=Limits(batch=1))
    assert world.drive() == "COMPLETED"
    world.tick(60)
    courier.fault = outage()
    (row,) = tidy(world, limit=3)
    assert len(row.problems) == 3
    courier.fault = None
    assert len(courier.asked) == 0
    removed: list[str] = []
    for _ in range(40):
        for row in tidy(world, limit=5):
            removed += row.removed
    assert len(removed) == len(set(removed)) == 25
    assert courier.opened == set()


def test_questions_are_spread_by_a_pure_function(world: World, courier: BookCourier) -> None:
    """However often an order was asked about, its next time can be told."""
    for device in world.devices.values():
        device.mood = "off"
    world.start(6, deadline=10 * 365 * 86400, gate=LENIENT)
    world.step()
    case = world.campaign._engine.case("app-2-x7k2m9", world.now)
    case.view.orders[FIRST].follows = 10**6
    assert following.due(case, {"sim": courier}) == []
