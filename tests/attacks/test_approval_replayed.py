"""Approval replayed: for another plan, or in another workspace."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from simulators.planners import CANARY, refused
from simulators.plant import Plant
from simulators.threats import honest

from signing import statement
from signing.approval import approve


def test_for_another_plan(plant: Plant) -> None:
    """An approval is for one digest: yesterday's approval starts nothing today."""
    plan = plant.plan("two", "2.0.0", CANARY)
    other = plant.approve(plant.plan("two", "2.0.0"))
    assert refused(plant, plan, other).code == "approval-mismatch"
    honest(plant)


def test_in_another_workspace(plant: Plant, ground: Path) -> None:
    """Plan and approval name the first roots of both repositories: elsewhere they are foreign."""
    plan = plant.plan("two", "2.0.0", CANARY)
    approval = plant.approve(plan)
    other = Plant(ground / "elsewhere", ["a", "b"], fresh=True)
    other.publish(other.build("1.0.0"), other.build("2.0.0"))
    assert other.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    assert refused(other, plan, approval).code == "statement-signature"
    assert refused(other, plan).code == "author-unlisted"
    body = statement.peek("plan", plan).body
    again = statement.sign("plan", dict(body), other.wiring.keyring.signer("author"))
    signed = approve(
        again,
        plant.wiring.repositories.workspace(),
        plant.now() + timedelta(days=1),
        other.wiring.keyring.signer("approver"),
    )
    assert refused(other, again, signed).code == "workspace-mismatch"
    honest(other)
    other.wiring.close()
