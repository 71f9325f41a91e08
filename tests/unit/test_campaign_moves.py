"""Pausing, resuming, aborting, going back, and how ``ota rollout run`` ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from simulators.fleet_sim import World, outage

from ota.errors import (
    Misuse,
    NeedsHuman,
    StillRunning,
    StoppedByGate,
)
from ota.rollout import drive

R = "app-2-x7k2m9"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, devices=4)


def run(world: World, **more: Any) -> dict[str, Any]:
    """``ota rollout run`` with simulated time and devices that poll while it sleeps."""

    def sleep(seconds: float) -> None:
        world.poll()
        world.tick(seconds)

    clock = lambda: world.now  # noqa: E731 - simulated time
    return drive.run(world.campaign, R, clock, interval=10, sleep=sleep, **more)


# -- stopping ------------------------------------------------------------------------------------
def test_pause_withdraws_and_resume_orders_again(world: World) -> None:
    """Rule 10: metadata first, exposure counted; resumed under a new order id."""
    world.start(4)
    world.step()
    world.poll("d000")
    world.campaign.pause(R, world.now)
    assert [d for d, m in world.desk.current.items() if m] == ["d000"]
    assert list(world.status()["exposed"]) == ["d001", "d002", "d003"]
    assert world.step().state == "PAUSED"
    world.campaign.resume(R, world.now)
    assert world.drive() == "COMPLETED"
    assert {o for o, d in world.courier.hints if d == "d001"} == {
        f"ota-{R}-u1-w0-b0",
        f"ota-{R}-u2-w0-b0",
    }
    assert [o for o, d in world.courier.hints if d == "d000"] == [f"ota-{R}-u1-w0-b0"]
    assert world.status()["exposed"] == {}


def test_pause_keep_leaves_assignments(world: World) -> None:
    """``--keep``: devices finish what they have, nothing new is ordered."""
    world.start(2, 2)
    world.step()
    world.campaign.pause(R, world.now, keep=True)
    world.poll()
    assert world.step().state == "PAUSED"
    assert list(world.outcomes().values()).count("committed") == 2
    assert len(world.courier.hints) == 2
    assert not [v for v, *_ in world.desk.log if v == "withdraw"]
    world.campaign.resume(R, world.now)
    assert world.drive() == "COMPLETED"


def test_a_device_past_activating_keeps_its_assignment(world: World) -> None:
    """Withdrawing would change nothing any more: it is left to finish."""
    world.devices["d000"].mood, world.devices["d000"].phase = "slow", "TRIAL"
    world.start(4)
    world.step()
    world.poll("d000")
    world.campaign.pause(R, world.now)
    assert [d for d, m in world.desk.current.items() if m] == ["d000"]


def test_withdrawing_is_retried_until_it_is_done(world: World) -> None:
    """An outage of one device's desk does not stop the others, nor is it forgotten."""
    world.start(4)
    world.step()
    world.desk.faults["d002"] = outage()
    step = world.campaign.pause(R, world.now)
    assert [d for d, m in world.desk.current.items() if m] == ["d002"]
    assert "d002" in step.problems[0]
    world.desk.faults.clear()
    world.step()
    assert not any(world.desk.current.values())


def test_abort_leave(world: World) -> None:
    """Committed devices stay, everything else is taken back, and the end is an end."""
    world.start(4)
    world.step()
    world.poll("d000")
    assert world.campaign.abort(R, world.now, "leave").state == "ABORTED"
    assert [d for d, m in world.desk.current.items() if m] == ["d000"]
    for again in (world.campaign.resume, world.campaign.pause, world.campaign.rollback):
        with pytest.raises(Misuse):
            again(R, world.now)
    assert world.campaign.step_all(world.now) == []


def test_abort_rollback_goes_back(world: World) -> None:
    """The committed device goes back to its frozen ``from``."""
    world.start(4)
    world.step()
    world.poll("d000")
    world.campaign.abort(R, world.now, "rollback")
    assert world.drive() == "ROLLED_BACK"
    assert set(world.runs().values()) == {"1.0.0"}


def test_rollback_plans_first(world: World) -> None:
    """A yanked ``from`` blocks: named, nothing moved, unless ``partial``."""
    world.start(4)
    world.step()
    world.poll("d000")
    del world.catalogue.listed["app/app-1.0.0.bin"]
    with pytest.raises(NeedsHuman, match="d000") as caught:
        world.campaign.rollback(R, world.now)
    assert caught.value.code == "partial"
    assert world.status()["state"] == "RUNNING"
    assert world.campaign.way_back(R, world.now) == {
        "eligible": [],
        "blocked": {"d000": "app/app-1.0.0.bin is no longer listed"},
        "unknown": {},
    }
    assert world.campaign.rollback(R, world.now, partial=True).state == "ROLLED_BACK"
    assert world.runs()["d000"] == "2.0.0"


def test_accepting_a_hold_goes_on_without_the_bad(world: World) -> None:
    """Resume after HOLD: the failed device leaves the counts and gets no more orders."""
    world.devices["d000"].mood = "sick"
    world.start(2, 2, on_failure="hold")
    assert world.drive() == "HELD"
    world.campaign.resume(R, world.now)
    assert world.drive() == "COMPLETED"
    assert world.status()["accepted"] == ["d000"]
    assert [d for _, d in world.courier.hints].count("d000") == 1
    assert world.status()["waves"][0]["accepted"] == 1


def test_no_way_forward_from_the_way_back(world: World) -> None:
    """A rollout held on its way back can not be resumed."""
    world.devices["d001"].mood = "sick"
    world.start(2, 2, deadline=60)
    world.step()
    world.poll()
    world.devices["d000"].mood = "broken"
    assert world.drive() == "HELD"
    with pytest.raises(Misuse) as caught:
        world.campaign.resume(R, world.now)
    assert caught.value.code == "illegal-move"
    assert world.status()["next"] == (
        f"ota rollout rollback {R} --partial, or ota rollout abort {R} --leave"
    )


def test_pause_all(world: World) -> None:
    """Every running rollout, and only those."""
    world.start(2)
    world.start(2, rollout="app-2-cccccc", names=["d002", "d003"])
    world.campaign.abort(R, world.now, "leave")
    assert [s.rollout for s in world.campaign.pause_all(world.now)] == ["app-2-cccccc"]


# -- running -------------------------------------------------------------------------------------
def test_run_to_the_end_and_to_the_next_wave(world: World) -> None:
    """``until wave`` returns when the next begins, ``done`` when all is done."""
    world.start(1, 1, 2)
    assert run(world, until="wave")["wave"] == 1
    seen: list[str] = []
    assert run(world, progress=lambda s, _: seen.append(s.state))["state"] == "COMPLETED"
    assert seen[-1] == "COMPLETED"


def test_run_stopped_by_the_gate(world: World) -> None:
    """Exit 5 when the gate took it back or held it while we watched; then 6."""
    world.devices["d000"].mood = "sick"
    world.start(1, 3)
    with pytest.raises(StoppedByGate) as caught:
        run(world)
    assert caught.value.exit_code == 5
    assert "reverted" in str(caught.value) or "ROLLED_BACK" in str(caught.value)


def test_run_held_by_the_gate(world: World) -> None:
    """HOLD while watching is 5; running it again, a human is needed: 6."""
    world.devices["d000"].mood = "sick"
    world.start(1, 3, on_failure="hold")
    with pytest.raises(StoppedByGate):
        run(world)
    with pytest.raises(NeedsHuman) as caught:
        run(world)
    assert caught.value.exit_code == 6
    assert R in caught.value.remedy


def test_run_paused_needs_a_human(world: World) -> None:
    """Exit 6 at once."""
    world.start(4)
    world.campaign.pause(R, world.now)
    with pytest.raises(NeedsHuman):
        run(world)


def test_run_rolled_back_by_a_human_is_done(world: World) -> None:
    """What was asked for is not an error."""
    world.start(4)
    world.step()
    world.poll()
    world.campaign.rollback(R, world.now)
    assert run(world)["state"] == "ROLLED_BACK"


def test_run_out_of_time(world: World) -> None:
    """Exit 8; nothing is lost."""
    world.devices["d000"].mood = "slow"
    world.start(1, 3)
    with pytest.raises(StillRunning) as caught:
        run(world, time_limit=100)
    assert caught.value.exit_code == 8
    world.devices["d000"].mood = "ok"
    assert run(world)["state"] == "COMPLETED"
