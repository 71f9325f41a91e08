"""Replayed report: what a device once signed, told again later."""

from __future__ import annotations

from simulators.lying import (
    begun,
    completes,
    drop,
    drop_bytes,
    last,
    set_aside,
    signer,
    success,
    unmoved,
)
from simulators.plant import Plant


def test_replayed(plant: Plant) -> None:
    """Bytes from yesterday are recognised: they are no news, and they move no gate."""
    history = plant.wiring.registry.history("a", 100)
    before = plant.wiring.registry.device("a").counter
    rollout = begun(plant)
    for stored in history:
        drop_bytes(plant["a"], stored.envelope, stored.report.counter)
    unmoved(plant, rollout)
    assert plant.wiring.registry.device("a").counter == before
    assert len(plant.wiring.registry.history("a", 100)) == len(history)
    assert plant.evidence("a") == []
    completes(plant, rollout)


def test_the_success_of_the_last_rollout(plant: Plant) -> None:
    """A device's word about 2.0.0 counts for the rollout that it names, not for the next one."""
    assert plant.roll_out("two", "2.0.0")["state"] == "COMPLETED"
    told = plant.wiring.registry.history("a", 100)
    assert plant.roll_out("back", "1.0.0")["state"] == "COMPLETED"
    rollout = begun(plant)
    for stored in told:
        drop_bytes(plant["a"], stored.envelope, stored.report.counter)
    set_aside(plant, rollout)
    assert plant.evidence("a") == []


def test_a_counter_that_does_not_rise(plant: Plant) -> None:
    """Below the newest and never seen before: a replay, set aside by its name."""
    body = last(plant["a"])
    body["counter"] += 5
    drop(plant["a"], body, signer(plant["a"]))
    plant.wiring.campaign.observe(plant.now())
    assert plant.wiring.registry.device("a").counter == body["counter"]
    rollout = begun(plant)
    late = success(plant, rollout)
    late["counter"] = body["counter"] - 2
    drop(plant["a"], late, signer(plant["a"]))
    unmoved(plant, rollout)
    assert plant.evidence("a") == ["report-replayed"]


def test_two_contents_under_one_counter(plant: Plant) -> None:
    """The first stands; the contradiction is set aside by its name, for a person to see."""
    rollout = begun(plant)
    body = success(plant, rollout)
    body["counter"] -= 1
    drop(plant["a"], body, signer(plant["a"]))
    set_aside(plant, rollout, "report-equivocation")
    assert [code for code, _ in plant.wiring.registry.evidence("a")] != []
