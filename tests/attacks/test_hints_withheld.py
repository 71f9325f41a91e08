"""Hints withheld: a courier that loses every hint. It delays an update until the next poll."""

from __future__ import annotations

import shutil

from simulators.plant import Plant
from simulators.threats import ONE, TWO, honest, named, ordered


def test_hints_withheld(plant: Plant) -> None:
    """What is signed is found without a hint; a hint has never carried anything else."""
    rollout = ordered(plant)
    gateway = plant["a"]
    shutil.rmtree(gateway.spool / "orders")
    gateway.look()
    assert gateway.running == TWO
    report = named(gateway, ("",), "outcome")
    assert report.hint == ""
    assert plant.drive(rollout)["state"] == "COMPLETED"
    honest(plant, version="3.0.0")


def test_reports_withheld(plant: Plant) -> None:
    """A device whose reports are lost counts as silent, never as healthy, and is not touched."""
    rollout = plant.start(
        "two", "2.0.0", [{"name": "a", "devices": ["a"]}, {"name": "b", "rest": True}]
    )
    plant.step(rollout)
    plant["a"].look()
    for path in (plant["a"].spool / "reports").iterdir():
        path.unlink()
    for _ in range(3):
        plant.step(rollout)
        plant.look(hinted=True)
        plant.later(seconds=1)
    status = plant.status(rollout)
    assert (status["wave"], status["waves"][0]["committed"]) == (0, 0)
    assert (plant["a"].running, plant["b"].running) == (TWO, ONE)
