"""A live assignment after abort: withdrawn by its operators, replayed by a courier."""

from __future__ import annotations

from simulators.plant import Plant
from simulators.thief import put
from simulators.threats import ONE, TWO, ordered, threat


def test_replayed_to_who_has_seen_the_withdrawal(plant: Plant) -> None:
    """Whoever looked in between refuses the older answer, by name."""
    stamp = plant["a"].director("timestamp.json")
    rollout = ordered(plant)
    live = stamp.read_bytes()
    plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    with threat(plant, "metadata-rollback"):
        put(stamp, live)


def test_replayed_to_who_has_not(plant: Plant) -> None:
    """Who did not look can be shown it until it expires: counted as exposed for exactly so long."""
    stamp = plant["a"].director("timestamp.json")
    rollout = ordered(plant)
    live = stamp.read_bytes()
    plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    assert plant.status(rollout)["exposed"].keys() == {"a"}
    with threat(plant, "stale", event="stale", unseen=True) as gateway:
        put(stamp, live)
        plant.later(days=4)
        assert plant.status(rollout)["exposed"] == {}
        assert gateway.running == ONE


def test_what_the_replay_is_worth_meanwhile(plant: Plant) -> None:
    """Within that time the device obeys what was signed; operators see it, and it can go back."""
    stamp = plant["a"].director("timestamp.json")
    rollout = ordered(plant)
    live = stamp.read_bytes()
    plant.wiring.campaign.pause(rollout, plant.now())
    withdrawn = stamp.read_bytes()
    put(stamp, live)
    plant["a"].look()
    assert plant["a"].running == TWO
    put(stamp, withdrawn)
    plant.wiring.campaign.observe(plant.now())
    current = plant.wiring.registry.device("a").components["app"].current
    assert current is not None
    assert current.path == "app/app-2.0.0.bin"
    back = plant.start("back", "1.0.0", [{"name": "a", "devices": ["a"]}], supersedes=rollout)
    assert plant.drive(back)["state"] == "COMPLETED"
    assert plant["a"].running == ONE
