"""Fast-forward: a stolen online key signs the highest version there is, so that none can follow.

What the thief signed is believed: its signatures hold. So the honest versions are refused from
then on, by name, until the root replaces the key; nothing that runs and no floor has changed.
"""

from __future__ import annotations

import shutil

import pytest
from simulators.plant import Plant
from simulators.thief import FAR, ImageThief, Thief
from simulators.threats import (
    BOTH,
    Remembered,
    honest,
    named,
    ordered,
    recover,
    restore,
    sees,
    unchanged,
)
from tuf.api.metadata import Signed

from ota.repositories.opened import Repository


def wound(signed: Signed) -> None:
    """As far forward as it goes."""
    signed.version = FAR


@pytest.mark.parametrize("repository", BOTH)
def test_fast_forward(plant: Plant, repository: Repository) -> None:
    """New keys in the root end the memory of what the old ones signed; devices come back."""
    gateway = plant["a"]
    ordered(plant)
    sees(gateway)
    before = Remembered.of(gateway)
    kept = shutil.copytree(plant.store, plant.folder / "honest-store")
    if repository == "director":
        Thief(plant).publish("a", [], wound)
    else:
        ImageThief(plant).publish(wound)
    sees(gateway)
    with gateway.opened() as agent:
        versions = dict(zip(BOTH, agent.trust.versions(), strict=True))
    assert versions[repository].timestamp == FAR
    restore(plant.store, kept)
    gateway.look()
    unchanged(gateway, before, (repository,))
    named(gateway, ("metadata-rollback",), "refusal")
    (rollout,) = plant.wiring.open_rollouts()
    plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    recover(plant, repository)
    honest(plant)
