"""An approval past its day: it starts nothing, and nothing goes on under it."""

from __future__ import annotations

from simulators.planners import CANARY, refused
from simulators.plant import Plant
from simulators.threats import honest

ONE, TWO = "app 1.0.0", "app 2.0.0"


def test_expired_approval(plant: Plant) -> None:
    """It ends on its day, also for a rollout that runs: no further order goes out."""
    plan = plant.plan("two", "2.0.0", [*CANARY, {"name": "rest", "rest": True}])
    approval = plant.approve(plan)
    plant.later(days=2)
    assert refused(plant, plan, approval).code == "approval-expired"
    rollout = plant.start("run", "2.0.0", [*CANARY, {"name": "rest", "rest": True}])
    plant.step(rollout)
    plant["a"].look()
    plant.later(hours=25)
    plant.wiring.refresh(every=True)
    plant.step(rollout)
    status = plant.status(rollout)
    assert status["state"] == "HELD"
    assert "approval-expired" in " ".join(status["reasons"])
    assert (plant.runs(), plant["b"].hinted) == ({"a": TWO, "b": ONE}, False)
    plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    honest(plant, "b")
