"""Freeze: the store goes on showing what was true once, so that a device never learns of news.

It can not be told from silence until the frozen metadata expires; then the device says so, signed.
"""

from __future__ import annotations

import shutil

from simulators.plant import Plant
from simulators.thief import put
from simulators.threats import ONE, ordered, sees, threat

from signing.layout import IMAGE


def test_everything_frozen(plant: Plant) -> None:
    """Within its life nothing is told; from its expiry on it is ``stale``, and what runs runs."""
    with threat(plant, "stale", event="stale") as gateway:
        assert (gateway.look(), gateway.codes) == ([], [])
        plant.later(days=31)


def test_the_director_frozen(plant: Plant) -> None:
    """An order that the store hides is not followed, and whoever waits for it sees nobody move."""
    with threat(plant, "stale", event="stale") as gateway:
        before = shutil.copytree(gateway.director(""), plant.folder / "before")
        rollout = ordered(plant)
        for path in gateway.director("").iterdir():
            path.unlink()
        shutil.copytree(before, gateway.director(""), dirs_exist_ok=True)
        assert gateway.look() == []
        assert plant.drive(rollout, 3)["waves"][0]["committed"] == 0
        plant.wiring.campaign.abort(rollout, plant.now(), "leave")
        plant.later(days=31)


def test_the_image_repository_frozen(plant: Plant) -> None:
    """An order says from which snapshot on its release is listed: behind it a device waits."""
    stamp = plant.store / IMAGE / "timestamp.json"
    before = stamp.read_bytes()
    ordered(plant)
    sees(plant["a"])
    plant.wiring.campaign.abort(*plant.wiring.open_rollouts(), plant.now(), "leave")
    plant.publish(plant.build("4.0.0"))
    ordered(plant, version="4.0.0")
    with threat(
        plant, "image-stale", event="outage", unseen=True, keeps=("director",), next_is="4.0.0"
    ) as gateway:
        put(stamp, before)
        gateway.look()
        assert gateway.running == ONE
