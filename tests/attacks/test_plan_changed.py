"""Plan changed after approval: another release, device or pace under the same signatures."""

from __future__ import annotations

import pytest
from simulators.planners import CANARY, edited, refused
from simulators.plant import Plant
from simulators.threats import honest

from ota.errors import Refusal
from signing import statement

CHANGES = {
    "another release": (b"2.0.0", b"3.0.0"),
    "another device": (b'["a"', b'["b"'),
    "another deadline": (b'"deadline":600', b'"deadline":6000'),
}


@pytest.mark.parametrize("what", CHANGES)
def test_plan_changed_after_approval(plant: Plant, what: str) -> None:
    """The exact bytes were signed, by the author and in each approval."""
    plan = plant.plan("two", "2.0.0", CANARY)
    approval = plant.approve(plan)
    error = refused(plant, edited(plan, *CHANGES[what]), approval)
    assert (type(error), error.code) == (Refusal, "statement-signature")
    honest(plant)


def test_signed_again_by_its_author(plant: Plant) -> None:
    """The author may change a plan; then what was approved is another one."""
    plan = plant.plan("two", "2.0.0", CANARY)
    approval = plant.approve(plan)
    body = dict(statement.peek("plan", edited(plan, b"2.0.0", b"3.0.0")).body)
    again = statement.sign("plan", body, plant.wiring.keyring.signer("author"))
    assert refused(plant, again, approval).code in {"approval-mismatch", "malformed", "not-listed"}
    honest(plant)
