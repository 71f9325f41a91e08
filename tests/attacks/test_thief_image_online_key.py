"""Thief: the image repository's online key. It says what is current; it lists nothing."""

from __future__ import annotations

from typing import Any

import pytest
from simulators.plant import Plant
from simulators.thief import FAR, ImageThief, Thief, only
from simulators.threats import ONE, honest, ordered, recover, sees, threat
from tuf.api.metadata import MetaFile, Signed, Snapshot

# -- can -----------------------------------------------------------------------------------------


def test_it_can_keep_new_releases_away(plant: Plant) -> None:
    """Wound forward, the image repository is heard no more, until the root replaces the key."""
    rollout = ordered(plant)

    def wound(signed: Signed) -> None:
        signed.version = FAR

    ImageThief(plant).publish(wound)
    sees(plant["a"])
    plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    recover(plant, "image")
    honest(plant)


# -- can not -------------------------------------------------------------------------------------
def _older(snapshot: Snapshot) -> None:
    snapshot.meta["app.json"] = MetaFile(1, None, None)


def _gone(snapshot: Snapshot) -> None:
    del snapshot.meta["app.json"]


@pytest.mark.parametrize("lie", [_older, _gone])
def test_it_can_not_take_a_listing_back(plant: Plant, lie: Any) -> None:
    """A newer snapshot can not unlist what a device has seen listed."""
    ordered(plant)
    with threat(plant, "metadata-rollback", "metadata-mismatch"):
        ImageThief(plant).publish(only(Snapshot, lie))


def test_it_can_not_list(plant: Plant) -> None:
    """Not even with the director's key beside it."""
    with threat(plant, "signature", keeps=("director",)) as gateway:
        director, thief = Thief(plant), ImageThief(plant)
        two = director.release("2.0.0")
        evil = thief.lists("app/evil.bin", b"evil")
        listed = evil.targets["app/evil.bin"]
        words = {"path": listed.path, "length": listed.length, "hashes": dict(listed.hashes)}
        director.assign("a", two, **words)
        thief.publish(roles={"app": evil})
        gateway.look()
        assert gateway.running == ONE
