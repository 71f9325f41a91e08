"""Which reports count: only those that repeat the very order that this device was issued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from simulators.fleet_sim import SimDevice, World, told
from simulators.identities import Identity

from ota.errors import Outage


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, devices=6)


@pytest.mark.parametrize(
    "lie",
    [
        {"order": "ota-app-2-x7k2m9-u9-w0-b0"},
        {"sha256": "0" * 64},
        {"wave": 1},
        {"kind": "rollback"},
        {"path": "app/app-1.0.0.bin"},
        {"component": "os"},
        {"targets_version": 0},
    ],
    ids=lambda lie: next(iter(lie)),
)
def test_a_report_that_does_not_repeat_its_order_is_ignored(
    world: World, lie: dict[str, object]
) -> None:
    """Rule 13: signed, but not about what was ordered: mismatched, and the gate waits."""
    world.start(1, 5)
    world.step()
    device = world.devices["d000"]
    device.runs = world.new
    wanted = world.desk.assignments("d000")["app"]
    report = device.send(event="outcome", update=told(wanted, "DONE", "committed", **lie))
    world.courier.inbox.append(report)
    world.step()
    assert "d000" in world.status()["mismatched"]
    assert len(world.courier.hints) == 1


def test_a_commit_that_its_own_state_denies_is_ignored(world: World) -> None:
    """Says committed, still runs the old release: not counted."""
    world.start(1, 5)
    world.step()
    wanted = world.desk.assignments("d000")["app"]
    device = world.devices["d000"]
    world.courier.inbox.append(device.about(wanted, "DONE", "committed"))
    world.step()
    assert "d000" in world.status()["mismatched"]
    assert len(world.courier.hints) == 1


def test_an_order_of_another_device_does_not_count(world: World) -> None:
    """A device that repeats somebody else's order is not committed."""
    world.start(1, 5)
    world.step()
    wanted = world.desk.assignments("d000")["app"]
    world.devices["d003"].runs = world.new
    world.courier.inbox.append(world.devices["d003"].about(wanted, "DONE", "committed"))
    world.step()
    assert "d003" in world.status()["mismatched"]
    assert world.outcomes()["d003"] == "waiting"


@pytest.mark.parametrize("kind", ["forged", "repeated"])
def test_a_flood_of_reports_holds_no_pause(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Whoever can write to a courier never stops: a pause ends all the same, and nothing is counted."""
    world.start(1, 5)
    world.step()
    wanted = world.desk.assignments("d000")["app"]
    device = world.devices["d000"] if kind == "repeated" else SimDevice(Identity("d000"), world.new)
    report = device.about(wanted, "DOWNLOADING", "in_progress")
    courier, asked = world.courier, [0]
    collect = courier.collect

    def flood(limit: int) -> Any:
        asked[0] += 1
        assert asked[0] < 20, "the sweep does not end"
        courier.inbox += [report] * limit
        return collect(limit)

    monkeypatch.setattr(courier, "collect", flood)
    world.campaign.pause("app-2-x7k2m9", world.now)
    assert world.status()["state"] == "PAUSED"
    assert all(not assigned for assigned in world.desk.current.values())


def test_a_quarantine_that_is_full_keeps_no_honest_report(world: World) -> None:
    """What is stored is acknowledged, whatever becomes of the forged one beside it; named each time."""
    world.start(1, 5)
    world.step()
    wanted = world.desk.assignments("d000")["app"]
    forged = SimDevice(Identity("d000"), world.new).about(wanted, "DONE", "committed")
    honest = world.devices["d000"].about(wanted, "DOWNLOADING", "in_progress")
    world.courier.inbox += [forged, honest]

    def full(_delivery: object, _reason: str) -> None:
        raise Outage("no space left", code="no-space")

    world.courier.quarantine = full  # type: ignore[method-assign] # a fault
    world.campaign = world.fresh()
    assert any("no space left" in p for p in world.step().problems)
    assert world.courier.inbox == [forged]
    assert world.outcomes()["d000"] == "in_progress"


def test_forged_reports_are_quarantined_and_named(world: World) -> None:
    """A report by another key never reaches a gate, and is kept for a human."""
    world.start(1, 5)
    world.step()
    wanted = world.desk.assignments("d000")["app"]
    thief = SimDevice(Identity("d000"), world.new)
    world.courier.inbox.append(thief.about(wanted, "DONE", "committed"))
    step = world.step()
    assert world.outcomes()["d000"] == "pending"
    assert "statement-signature" in world.courier.quarantined[0][1]
    assert "statement-signature" in step.problems[0]
