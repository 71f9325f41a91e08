"""Thief: the author's key, and an approver's with it. They decide what operators may start."""

from __future__ import annotations

import pytest
from simulators.planners import CANARY, refused
from simulators.plant import Plant
from simulators.thief import Thief
from simulators.threats import ONE, TWO, honest

from ota.errors import NeedsHuman
from signing import statement


# -- can -----------------------------------------------------------------------------------------
def test_the_author_can_propose(plant: Plant) -> None:
    """A plan waits for approval, for as long as nobody else gives it."""
    plan = plant.plan("two", "2.0.0", CANARY)
    assert isinstance(refused(plant, plan), NeedsHuman)
    honest(plant)


def test_both_can_have_a_plan_that_would_run(plant: Plant) -> None:
    """The next operator who starts it rolls it out: a listed release, to registered devices."""
    plan = plant.plan("two", "2.0.0", CANARY)
    approval = plant.approve(plan)
    plant.look()
    assert plant["a"].running == ONE, "signed by both, and nothing has moved yet"
    rollout = str(plant.wiring.campaign.start(plan, [approval], plant.now())["rollout"])
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert (plant["a"].running, plant["b"].running) == (TWO, ONE)


# -- can not -------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", ["author", "approver"])
def test_they_can_not_order(plant: Plant, key: str) -> None:
    """What they sign is no director's metadata."""
    thief = Thief(plant, key)
    thief.assign("a", thief.release("2.0.0"))
    plant["a"].look()
    assert (plant["a"].running, plant["a"].codes) == (ONE, ["signature"])


def test_they_can_not_run_what_is_not_listed(plant: Plant) -> None:
    """A plan of their own making for bytes that no engineer signed: held, before any order."""
    body = dict(statement.peek("plan", plant.plan("two", "2.0.0", CANARY)).body)
    evil = {"path": "app/evil.bin", "hashes": {"sha256": "0" * 64}, "version": "6.6.6"}
    body["images"] = [dict(body["images"][0]) | evil]
    plan = statement.sign("plan", body, plant.wiring.keyring.signer("author"))
    rollout = plant.wiring.campaign.start(plan, [plant.approve(plan)], plant.now())["rollout"]
    before = plant.wiring.desk.assignments("a")
    step = plant.step(rollout)
    assert (step.state, step.reasons) == (
        "HELD",
        ("app/evil.bin is no longer listed as the plan froze it",),
    )
    assert (plant.wiring.desk.assignments("a"), plant["a"].hinted) == (before, False)
    plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    honest(plant)
