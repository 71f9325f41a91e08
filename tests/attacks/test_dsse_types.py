"""DSSE type confusion: a statement of one kind shown where another is expected."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from simulators.lying import WAVES, begun, drop_bytes, set_aside, signer, success
from simulators.plant import Plant
from simulators.threats import ONE, honest

from ota.errors import OtaError
from signing import statement

KINDS = ("plan", "approval", "enrolment", "receipt")


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_as_a_report(plant: Plant, kind: Any) -> None:
    """One key, one purpose, one exact type: a signed body of another type is no report."""
    rollout = begun(plant)
    data = statement.sign(kind, success(plant, rollout), signer(plant["a"]))
    drop_bytes(plant["a"], data, 999)
    set_aside(plant, rollout, "statement-malformed")
    assert plant.evidence("b") == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_that_was_signed_as_another_kind(plant: Plant, kind: Any) -> None:
    """The type stands under the signature: relabelled, it does not hold any more."""
    rollout = begun(plant)
    envelope = json.loads(statement.sign(kind, success(plant, rollout), signer(plant["a"])))
    envelope["payloadType"] = statement.payload_type("report")
    drop_bytes(plant["a"], json.dumps(envelope).encode(), 999)
    set_aside(plant, rollout, "statement-signature")
    assert plant.evidence("b") == []


TYPES = (
    "application/vnd.ota.report.v2+json",
    "application/vnd.ota.REPORT.v1+json",
    "application/vnd.ota.report.v1+json ",
    "application/json",
    "",
)


@pytest.mark.parametrize("said", TYPES)
def test_a_type_that_is_nearly_right(plant: Plant, said: str) -> None:
    """Exactly the type, or it is nothing."""
    rollout = begun(plant)
    envelope = json.loads(statement.sign("report", success(plant, rollout), signer(plant["a"])))
    envelope["payloadType"] = said
    drop_bytes(plant["a"], json.dumps(envelope).encode(), 999)
    set_aside(plant, rollout, "statement-malformed")
    assert plant.evidence("b") == []


def test_two_readings_of_one_payload(plant: Plant) -> None:
    """A key that stands twice is read by nobody, though the signature holds."""
    rollout = begun(plant)
    payload = json.dumps(success(plant, rollout)).replace('"wave": 0', '"wave": 1, "wave": 0')
    data = statement.sign("report", payload.encode(), signer(plant["a"]))
    assert b64encode(payload.encode())[:40] in data
    drop_bytes(plant["a"], data, 999)
    set_aside(plant, rollout, "statement-malformed")


@pytest.mark.parametrize(
    "given", ["an approval as a plan", "a plan as an approval", "a report as a plan"]
)
def test_plans_and_approvals(plant: Plant, given: str) -> None:
    """Nor is one taken for the other where a rollout starts; nothing starts, nobody moves."""
    plan = plant.plan("two", "2.0.0", WAVES)
    approval = plant.approve(plan)
    report = plant.wiring.registry.history("a", 1)[0].envelope
    pairs = {
        "an approval as a plan": (approval, approval),
        "a plan as an approval": (plan, plan),
        "a report as a plan": (report, approval),
    }
    with pytest.raises(OtaError) as caught:
        plant.wiring.campaign.start(pairs[given][0], [pairs[given][1]], plant.now())
    assert caught.value.code in {"statement-malformed", "statement-signature"}
    assert plant.wiring.open_rollouts() == []
    assert plant["a"].running == ONE
    honest(plant)
