"""Waves over a whole plant: gates, ways back, pauses, stragglers, interlocks, denials, floors.

Operators' parts and agents are real (``simulators/plant.py``); time is moved, never waited for.
Every test asserts what each device holds and what its director metadata assigns afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from simulators.plant import Part, Plant
from simulators.plants import fixtures
from simulators.thief import Thief

from ota.errors import Misuse, NeedsHuman, OtaError

ONE = b"app 1.0.0"
TWO = b"app 2.0.0"
FLEET = ("a", "b", "c", "d", "e")
THREE = (
    {"name": "canary", "devices": ["a", "b"]},
    {"name": "some", "devices": ["c"]},
    {"name": "rest", "rest": True},
)


def made(folder: Path) -> Plant:
    """Five devices that run 1.0.0; 2.0.0 is published."""
    plant = Plant(folder, FLEET)
    plant.publish(plant.build("1.0.0"), plant.build("2.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    return plant


frozen, plant = fixtures(made)


def assigned(plant: Plant) -> dict[str, str]:
    """Device -> the path that its director metadata assigns; devices without one are left out."""
    found = {d: plant.wiring.desk.assignments(d) for d in plant.devices}
    return {d: a["app"].path.rpartition("/")[2] for d, a in found.items() if a}


def counts(status: Mapping[str, Any], *names: str) -> list[tuple[int, ...]]:
    return [tuple(wave[n] for n in names) for wave in status["waves"]]


def orders(plant: Plant, device: str, rollout: str) -> list[tuple[str, str]]:
    """(kind, outcome) of every report of the device about a rollout's order that ended."""
    updates = [r.update for r in plant[device].reports() if r.update]
    ended = [u for u in updates if u.rollout == rollout and u.outcome != "in_progress"]
    return [(u.kind, u.outcome) for u in ended]


def test_three_waves(plant: Plant) -> None:
    """Waves go one after the other, and each device has exactly one order."""
    rollout = plant.start("two", "2.0.0", THREE)
    seen = []
    for _ in range(12):
        plant.step(rollout)
        seen.append("".join(sorted(d for d in FLEET if plant[d].hinted)))
        plant.look(hinted=True)
        plant.later(seconds=1)
    assert [s for s in seen if s] == ["ab", "c", "de"]
    status = plant.status(rollout)
    assert status["state"] == "COMPLETED"
    assert plant.runs() == dict.fromkeys(FLEET, TWO.decode())
    assert all(orders(plant, d, rollout) == [("update", "committed")] for d in FLEET)
    assert all(plant[d].sound() for d in FLEET)


def test_canary_fails_and_its_healthy_neighbour_goes_back(plant: Plant) -> None:
    """One of two canaries is sick: it reverts, the other is sent back, nobody else is touched."""
    before = {d: len(plant[d].reports()) for d in FLEET}
    plant["b"].be("sick")
    rollout = plant.start("two", "2.0.0", THREE)
    status = plant.drive(rollout)
    assert (status["state"], status["by_gate"]) == ("ROLLED_BACK", True)
    assert plant.runs() == dict.fromkeys(FLEET, ONE.decode())
    # a committed, and came back by a signed order; b reverted by itself and needed none
    assert orders(plant, "a", rollout) == [("update", "committed"), ("rollback", "committed")]
    assert orders(plant, "b", rollout) == [("update", "reverted")]
    assert status["waves"][0]["taken_back"] == status["waves"][0]["reverted"] == 1
    assert {d for d, _ in plant["b"].denied} == {"app"}
    assert plant["a"].denied == set()
    for device in "cde":
        assert len(plant[device].reports()) == before[device]
        assert plant.wiring.desk.assignments(device)["app"].rollout != rollout
    ran = plant.ota("rollout", "run", rollout)
    assert ran.returncode == 5, ran.stderr
    assert "reverted" in ran.stderr


def test_denied_until_a_signed_assignment_clears_it(plant: Plant) -> None:
    """A release that failed on a device is not tried there again, whoever assigns it anew."""
    plant["b"].be("sick")
    assert plant.roll_out("two", "2.0.0", THREE)["state"] == "ROLLED_BACK"
    plant["b"].be("sick", now=False)
    again = plant.roll_out("again", "2.0.0", [{"name": "b", "devices": ["b"]}])
    assert (again["state"], plant["b"].running) == ("ROLLED_BACK", ONE)
    assert plant["b"].told()[-1] == "denied"
    thief = Thief(plant)
    release = thief.release("2.0.0")
    thief.assign("b", release)
    plant["b"].look()
    assert plant["b"].running == ONE, "the director's word alone is not enough"
    only_b = [{"name": "b", "devices": ["b"]}]
    cleared = plant.roll_out("cleared", "2.0.0", only_b, clear_denials=True)
    assert (cleared["state"], plant["b"].running) == ("COMPLETED", TWO)
    assert plant["b"].denied == set()


def test_pause_takes_back_what_nobody_activated(plant: Plant) -> None:
    """Paused: director metadata first loses the assignment; resumed: it is ordered again."""
    rollout = plant.start("two", "2.0.0", THREE)
    plant.step(rollout)
    plant["a"].look()
    plant.wiring.campaign.pause(rollout, plant.now())
    assert plant.status(rollout)["state"] == "PAUSED"
    assert assigned(plant).keys() & {"a", "b"} == {"a"}
    plant["b"].look()
    plant.look()
    assert plant.runs() == {d: (TWO if d == "a" else ONE).decode() for d in FLEET}
    assert "b" in plant.status(rollout)["exposed"], "an old timestamp could still be replayed"
    assert plant.ota("rollout", "run", rollout).returncode == 6
    plant.wiring.campaign.resume(rollout, plant.now())
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert plant.runs() == dict.fromkeys(FLEET, TWO.decode())
    assert orders(plant, "a", rollout) == [("update", "committed")]


def test_pause_keep_lets_pending_devices_finish(plant: Plant) -> None:
    """``--keep`` orders nobody else; what was ordered is installed, reported and counted."""
    rollout = plant.start("two", "2.0.0", THREE)
    plant.step(rollout)
    plant.wiring.campaign.pause(rollout, plant.now(), keep=True)
    plant.look()
    for _ in range(3):
        plant.step(rollout)
    assert plant.runs() == {d: (TWO if d in "ab" else ONE).decode() for d in FLEET}
    assert plant.status(rollout)["waves"][0]["committed"] == 2
    plant.wiring.campaign.resume(rollout, plant.now())
    assert plant.drive(rollout)["state"] == "COMPLETED"


@pytest.mark.parametrize("mode", ["leave", "rollback"])
def test_abort(plant: Plant, mode: Any) -> None:
    """``--leave`` keeps what was committed, ``--rollback`` takes it back; nobody else moves."""
    rollout = plant.start("two", "2.0.0", THREE)
    plant.step(rollout)
    plant["a"].look()
    plant.step(rollout)
    plant.wiring.campaign.abort(rollout, plant.now(), mode)
    status = plant.drive(rollout)
    plant.look()
    held = TWO if mode == "leave" else ONE
    assert status["state"] == ("ABORTED" if mode == "leave" else "ROLLED_BACK")
    assert plant.runs() == {d: (held if d == "a" else ONE).decode() for d in FLEET}
    assert "b" not in {d for d in assigned(plant) if "2.0.0" in assigned(plant)[d]}
    assert all(plant[d].sound() for d in FLEET)


def test_silent_devices_within_budget_and_stragglers(plant: Plant) -> None:
    """Two silent devices pass the gate; one comes before the tail ends, one is withdrawn."""
    for name in "de":
        plant[name].off = True
    rest = {"name": "rest", "rest": True, "gate": {"silent": 2}}
    waves = [THREE[0], rest]
    rollout = plant.start("two", "2.0.0", waves, deadline="1h", tail_until="2d")
    plant.drive(rollout, 8)
    assert plant.status(rollout)["waves"][1]["pending"] == 2
    plant.later(hours=2)
    plant.step(rollout)
    status = plant.status(rollout)
    assert (status["state"], status["waves"][1]["silent"]) == ("RUNNING", 2)
    plant["d"].look()
    plant.step(rollout)
    assert plant.status(rollout)["waves"][1]["committed"] == 2
    plant.later(days=2)
    status = plant.drive(rollout)
    assert (status["state"], status["stragglers"]) == ("COMPLETED", ["e"])
    assert plant.wiring.desk.assignments("e") == {}
    plant["e"].look()
    assert plant.runs() == {d: (ONE if d == "e" else TWO).decode() for d in FLEET}


def test_silent_devices_over_budget(plant: Plant) -> None:
    """A silent canary is no healthy canary: after its deadline the wave before goes back."""
    plant["b"].off = True
    rollout = plant.start("two", "2.0.0", THREE, deadline="1h")
    plant.drive(rollout, 4)
    assert plant["a"].running == TWO
    plant.later(hours=2)
    status = plant.drive(rollout)
    assert (status["state"], plant["a"].running) == ("ROLLED_BACK", ONE)
    plant["b"].look()
    assert plant.runs() == dict.fromkeys(FLEET, ONE.decode())
    assert counts(status, "committed", "silent")[1:] == [(0, 0), (0, 0)]


def test_interlock_says_no_then_yes(plant: Plant) -> None:
    """While the plant says no nothing is staged; the wave waits, says why, and goes on."""
    plant["b"].be("busy")
    rollout = plant.start("two", "2.0.0", THREE)
    plant.drive(rollout, 4)
    assert (plant["a"].running, plant["b"].running) == (TWO, ONE)
    assert plant["b"].codes[-1] == "interlock"
    assert not list(plant["b"].home.glob("app.staged*"))
    assert plant.status(rollout)["waves"][0]["in_progress"] == 1
    assert plant.status(rollout)["wave"] == 0
    plant["b"].be("busy", now=False)
    plant["b"].look()
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert plant.runs() == dict.fromkeys(FLEET, TWO.decode())


def test_a_plant_cell_never_goes_down_together(ground: Path) -> None:
    """``group_by`` and ``max_unavailable``: of each cell one device at a time has an order."""
    plant = Plant(ground / "cells")
    cells = {"north": ("n1", "n2", "n3"), "south": ("s1", "s2")}
    for cell, names in cells.items():
        plant.join(names, cell=cell)
    plant.publish(plant.build("1.0.0"))
    limits = {"group_by": "cell", "max_unavailable": 1}
    rollout = plant.start("one", "1.0.0", limits=limits)
    most = 0
    for _ in range(8):
        plant.step(rollout)
        for names in cells.values():
            away = [n for n in names if plant[n].hinted]
            assert len(away) <= 1
            most = max(most, len(away))
        plant.look(hinted=True)
        plant.later(seconds=1)
    assert (plant.status(rollout)["state"], most) == ("COMPLETED", 1)
    assert set(plant.runs().values()) == {ONE.decode()}


def test_a_completed_rollout_is_taken_back_by_a_new_plan(plant: Plant) -> None:
    """There is no way back out of COMPLETED; an older release is planned like any other."""
    rollout = plant.start("two", "2.0.0")
    assert plant.drive(rollout)["state"] == "COMPLETED"
    with pytest.raises(Misuse) as caught:
        plant.wiring.campaign.rollback(rollout, plant.now())
    assert caught.value.code == "illegal-move"
    assert "plan" in caught.value.remedy
    assert plant.runs() == dict.fromkeys(FLEET, TWO.decode())
    assert plant.roll_out("old", "1.0.0", THREE)["state"] == "COMPLETED"
    assert plant.runs() == dict.fromkeys(FLEET, ONE.decode())


def test_a_security_fix_closes_its_way_back(plant: Plant) -> None:
    """After its soak the floor stands above the old release: going back asks a person first."""
    for gateway in plant.devices.values():
        text = gateway.toml.read_text()
        gateway.toml.write_text("security_soak = 0\n" + text)
    plant.publish(plant.build("2.0.1", security_fix=True))
    plan = plant.plan("fix", "2.0.1", [{"name": "all", "rest": True, "soak": "1h"}])
    warnings = plant.wiring.describe_file(plan)["warnings"]
    assert any("back" in warning for warning in warnings), warnings
    found = plant.wiring.campaign.start(plan, [plant.approve(plan)], plant.now())
    rollout = found["rollout"]
    plant.drive(rollout, 4)
    plant.look()
    assert {plant[d].floor for d in FLEET} == {2}
    assert not list(plant["a"].home.glob("app.previous"))
    plant.step(rollout)
    with pytest.raises(NeedsHuman) as caught:
        plant.wiring.campaign.rollback(rollout, plant.now())
    assert caught.value.code == "partial"
    assert plant.wiring.campaign.way_back(rollout, plant.now())["blocked"].keys() == set(FLEET)
    Thief(plant).assign("a", Thief(plant).release("1.0.0"))
    plant["a"].look()
    assert plant["a"].told()[-1] == "below-floor"
    assert plant["a"].running == b"app 2.0.1"


def test_a_newer_plan_supersedes_an_older(plant: Plant) -> None:
    """One open rollout for a device and component: leave out, or say which one gives way."""
    plant.publish(plant.build("3.0.0"))
    first = plant.start("two", "2.0.0", THREE)
    plant.step(first)
    plant["a"].look()
    plant.step(first)
    with pytest.raises(OtaError) as caught:
        plant.plan("three", "3.0.0")
    assert "open rollout" in str(caught.value)
    second = plant.start("three", "3.0.0", supersedes=[first])
    status = plant.drive(second)
    assert (plant.status(first)["state"], status["state"]) == ("ABORTED", "COMPLETED")
    assert plant.runs() == dict.fromkeys(FLEET, "app 3.0.0")
    assert orders(plant, "b", first) == []


def test_two_components_side_by_side(ground: Path) -> None:
    """One device, two rollouts: each has its waves, its gate and its way back; both are merged."""
    plant = Plant(ground / "two", ["a", "b"], [Part("app"), Part("os")])
    builds = [plant.build(v, component=c) for v in ("1.0.0", "2.0.0") for c in ("app", "os")]
    plant.publish(*builds)
    for component in ("app", "os"):
        found = plant.roll_out(f"{component}-1", f"{component}@1.0.0")
        assert found["state"] == "COMPLETED"
    app = plant.start("app-2", "app@2.0.0", [{"name": "x", "rest": True, "soak": "1h"}])
    system = plant.start("os-2", "os@2.0.0", [{"name": "x", "rest": True, "soak": "1h"}])
    for rollout in (app, system):
        plant.step(rollout)
    assert plant.wiring.desk.assignments("a").keys() == {"app", "os"}
    plant.look()
    assert [(g.slot("app"), g.slot("os")) for g in plant.devices.values()] == [
        (TWO, b"os 2.0.0")
    ] * 2
    plant.wiring.campaign.rollback(app, plant.now())
    assert plant.drive(app)["state"] == "ROLLED_BACK"
    assert [(g.slot("app"), g.slot("os")) for g in plant.devices.values()] == [
        (ONE, b"os 2.0.0")
    ] * 2
    plant.step(system)
    plant.later(hours=2)
    assert plant.drive(system)["state"] == "COMPLETED"
    assert all(g.sound() for g in plant.devices.values())
