"""An order that no approved plan holds: the director's signer signs none."""

from __future__ import annotations

import pytest
from simulators.planners import CANARY
from simulators.plant import Plant
from simulators.thief import Thief
from simulators.threats import honest

from ota.errors import Refusal


def test_outside_the_plan(plant: Plant) -> None:
    """Every assignment is held against the approved plan: device, release, rollout, wave."""
    plan = plant.plan("two", "2.0.0", CANARY)
    found = plant.wiring.campaign.start(plan, [plant.approve(plan)], plant.now())
    plant.step(found["rollout"])
    honest_one = plant.wiring.desk.assignments("a")["app"]
    case = plant.wiring.campaign._engine.case(found["rollout"], plant.now())
    leave = plant.wiring.campaign._engine.authority.authorise(case.view, plant.now())
    thief = Thief(plant)
    order = honest_one.order
    three = thief.assignment(thief.release("3.0.0"), rollout=honest_one.rollout, order=order)
    for device, wanted in (("b", honest_one), ("a", three)):
        before = plant.wiring.desk.assignments(device)
        with pytest.raises(Refusal) as caught:
            plant.wiring.desk.assign(leave, device, wanted, plant.now())
        assert caught.value.code == "outside-plan"
        assert plant.wiring.desk.assignments(device) == before
    honest(plant)
