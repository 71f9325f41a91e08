"""Operators in a hurry: the same command twice, killed in between, two of them at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from simulators.fleet_sim import World, stepping

from ota.errors import Busy, Misuse, Outage, Refusal
from ota.fleet import tables
from ota.rollout import drive
from ota.rollout.campaign import Campaign
from ota.rollout.records import Log

R = "app-2-x7k2m9"
OTHER = "app-2-cccccc"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, devices=4)


def assigned(world: World) -> list[str]:
    return [d for d, m in world.desk.current.items() if m]


# -- the same again ------------------------------------------------------------------------------
def test_paused_again_it_stays_paused(world: World) -> None:
    """No error that names ``resume`` as the next thing to do; and what was left is withdrawn."""
    world.start(4)
    world.step()
    world.campaign.pause(R, world.now, keep=True)
    assert len(assigned(world)) == 4
    assert world.campaign.pause(R, world.now).state == "PAUSED"
    assert assigned(world) == []
    assert world.campaign.pause(R, world.now).state == "PAUSED"
    world.campaign.resume(R, world.now)
    assert world.drive() == "COMPLETED"


def test_an_abort_that_was_killed_goes_on(world: World) -> None:
    """The intent stood in the journal and nothing was withdrawn: the same command finishes it."""
    world.start(4)
    world.step()
    Log.open(world.journal, R).add("aborted", {"reasons": ["aborted by an operator"]}, world.now)
    assert len(assigned(world)) == 4
    assert world.campaign.abort(R, world.now, "leave").state == "ABORTED"
    assert assigned(world) == []
    assert world.campaign.abort(R, world.now, "leave").state == "ABORTED"
    assert world.kinds().count("aborted") == 1


def test_all_are_stopped_before_any_is_withdrawn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the first one's withdrawal fails, the second one orders nothing any more, either."""
    world.start(2)
    world.start(2, rollout=OTHER, names=["d002", "d003"])

    def fails(*_: object) -> None:
        raise Outage("the store is gone")

    monkeypatch.setattr(type(world.campaign._engine), "step", fails)
    with pytest.raises(Outage):
        world.campaign.pause_all(world.now)
    monkeypatch.undo()
    assert {world.status(name)["state"] for name in (R, OTHER)} == {"PAUSED"}


# -- nothing was sent yet ------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["pause", "rollback"])
def test_what_was_not_started_is_not_stopped(world: World, verb: str) -> None:
    """It says so, with the command that ends it, and never with ``start``."""
    data, approval = world.signed(world.plan(4))
    world.campaign.approve(data, approval, world.now)
    with pytest.raises(Misuse) as caught:
        getattr(world.campaign, verb)(R, world.now)
    assert R in str(caught.value)
    assert caught.value.remedy == f"nothing was sent out; ota rollout abort {R} --leave"
    assert world.status()["state"] == "APPROVED"


def test_no_message_leaves_a_name_to_be_filled_in(world: World) -> None:
    """A remedy is a command that can be typed: the rollout's own id stands in it."""
    world.start(4)
    assert world.drive() == "COMPLETED"
    for verb in (world.campaign.pause, world.campaign.resume, world.campaign.rollback):
        with pytest.raises(Misuse) as caught:
            verb(R, world.now)
        assert R in str(caught.value)
        assert "ROLLOUT" not in caught.value.remedy


# -- two at once ---------------------------------------------------------------------------------
def test_a_stop_waits_for_the_step_at_hand(world: World) -> None:
    """An emergency is not told to come back later."""
    world.start(4)
    world.step()
    with stepping(world) as leave:
        timer = threading.Timer(0.3, leave.set)
        timer.start()
        assert world.campaign.pause(R, world.now).state == "PAUSED"
    assert assigned(world) == []


def test_a_run_goes_on_beside_a_timer(world: World) -> None:
    """A command that runs for hours does not end because a step of somebody else's was in its way."""
    world.start(4)

    def sleep(seconds: float) -> None:
        world.poll()
        world.tick(seconds)

    with stepping(world) as leave:
        threading.Timer(0.3, leave.set).start()
        found = drive.run(world.campaign, R, lambda: world.now, interval=10, sleep=sleep)
    assert found["state"] == "COMPLETED"


def test_patience_ends(world: World, tmp_path: Path) -> None:
    """Where the other one does not end, it is ``Busy``, and nothing has changed."""
    world.start(4)
    hasty = Campaign(world.campaign._engine, tmp_path / "rollout.lock", patience=0.1)
    with stepping(world):
        with pytest.raises(Busy) as caught:
            hasty.pause(R, world.now)
        with pytest.raises(Busy):
            world.campaign.step_all(world.now)
    assert caught.value.exit_code == 7
    assert world.status()["state"] == "RUNNING"


# -- one that is broken --------------------------------------------------------------------------
def test_a_broken_journal_stops_no_other_rollout(world: World) -> None:
    """It is listed as such and named by each step of all; the others move, and are found by default."""
    world.start(2)
    world.start(2, rollout=OTHER, names=["d002", "d003"])
    broken(world, R)
    first, second = world.campaign.step_all(world.now)
    assert (first.rollout, second.rollout, second.state) == (R, OTHER, "RUNNING")
    assert first.refusal is not None
    assert first.refusal.code == "journal-broken"
    assert {d for _, d in world.courier.hints} == {"d002", "d003"}
    rows = {row["rollout"]: row for row in world.campaign.rollouts(world.now)}
    assert (rows[R]["state"], rows[OTHER]["state"]) == ("BROKEN", "RUNNING")
    assert world.campaign.open() == [OTHER]
    with pytest.raises(Refusal):
        world.campaign.step(R, world.now)


def test_what_is_over_is_not_looked_at_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer's step reads no reports of rollouts that ended, nor of one aborted long ago."""
    world.start(2)
    assert world.drive() == "COMPLETED"
    world.start(2, rollout=OTHER, names=["d002", "d003"])
    world.step(OTHER)
    world.poll()
    world.campaign.abort(OTHER, world.now, "leave")
    read: list[str] = []
    latest = world.registry.latest
    monkeypatch.setattr(world.registry, "latest", lambda name: read.append(name) or latest(name))
    assert world.campaign.step_all(world.now) == []
    assert set(read) == {OTHER}
    world.tick(40 * 86400)
    read.clear()
    assert world.campaign.step_all(world.now) == []
    assert read == []


def broken(world: World, rollout: str) -> None:
    """An owner of the database edits a line of this rollout's journal."""
    with tables.writing(world.registry.engine) as conn:
        conn.exec_driver_sql("DROP TRIGGER rollout_journal_UPDATE")
        conn.exec_driver_sql(
            f"UPDATE rollout_journal SET line = replace(line, '2026', '2027') "  # noqa: S608 - a test's own name
            f"WHERE rollout = '{rollout}' AND version = 2"
        )
