"""A copied or restored disk: the right key, and a memory that is not the device's."""

from __future__ import annotations

from simulators.lying import begun, completes, drop, signer, success, unmoved
from simulators.plant import Plant


def test_a_new_incarnation_waits_for_a_person(plant: Plant) -> None:
    """It reports under a new ``state_id``: held, and counted by no gate; the first one goes on."""
    rollout = begun(plant)
    body = success(plant, rollout) | {"state_id": "somebody-new", "counter": 1}
    drop(plant["a"], body, signer(plant["a"]))
    unmoved(plant, rollout)
    device = plant.wiring.registry.device("a")
    assert (device.state, device.held_state_id) == ("restored", "somebody-new")
    completes(plant, rollout)
