"""Report with the right key and the wrong order: a device, or its thief, claims what was not asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from simulators.lying import begun, drop, last, signer, success, unmoved
from simulators.plant import Plant
from simulators.threats import THREE, honest

LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an order that was never issued": lambda u: u.update(order="ota-two-aaaaaa-u1-w0-b0"),
    "another rollout": lambda u: u.update(rollout="two-aaaaaa"),
    "another wave": lambda u: u.update(wave=1),
    "another kind": lambda u: u.update(kind="rollback"),
    "other bytes": lambda u: u.update(sha256="0" * 64),
    "another path": lambda u: u.update(path="app/app-1.0.0.bin"),
    "another component": lambda u: u.update(component="os"),
    "no director version": lambda u: u.update(targets_version=0),
}


def goes_on(plant: Plant, rollout: str) -> None:
    """Whoever lied is left out, and the fleet takes the next release."""
    plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    plant.look()
    plant.wiring.campaign.observe(plant.now())
    honest(plant, "b", "3.0.0")
    assert plant["b"].running == THREE


@pytest.mark.parametrize("what", LIES)
def test_the_right_key_about_a_wrong_order(plant: Plant, what: str) -> None:
    """It must repeat the signed order to the letter; otherwise it is listed as mismatched."""
    rollout = begun(plant)
    body = success(plant, rollout)
    LIES[what](body["update"])
    drop(plant["a"], body, signer(plant["a"]))
    status = unmoved(plant, rollout)
    assert "a" in status["mismatched"] or status["waves"][0]["pending"] == 1
    goes_on(plant, rollout)


def test_says_committed_and_runs_the_old_one(plant: Plant) -> None:
    """The signed state of the component must agree with the claim."""
    rollout = begun(plant)
    body = success(plant, rollout)
    body["components"] = last(plant["a"])["components"]
    drop(plant["a"], body, signer(plant["a"]))
    assert "a" in unmoved(plant, rollout)["mismatched"]
    goes_on(plant, rollout)
