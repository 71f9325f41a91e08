"""Fast-forward: a stolen online key signs the highest version there is, so that none can follow.

What the thief signed is believed: its signatures hold. So the honest versions are refused from
then on, by name, until the root replaces the key; nothing that runs and no floor has changed.
"""

from __future__ import annotations

import shutil

import pytest
from simulators.plant import Plant
from simulators.thief import FAR, ImageThief, Thief, only
from simulators.threats import (
    BOTH,
    ENGINEERS,
    Remembered,
    before,
    honest,
    named,
    ordered,
    recover,
    restore,
    sees,
    threat,
    unchanged,
)
from tuf.api.metadata import Signed, Snapshot, Targets, Timestamp

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
    remembered = Remembered.of(gateway)
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
    unchanged(gateway, remembered, (repository,))
    named(gateway, ("metadata-rollback",), "refusal")
    (rollout,) = plant.wiring.open_rollouts()
    plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    recover(plant, repository)
    honest(plant)


@pytest.mark.parametrize("version", [2**53 + 1, 2**63, 2**64])
@pytest.mark.parametrize("role", [Targets, Snapshot, Timestamp])
@pytest.mark.parametrize("repository", BOTH)
def test_beyond_what_can_be_counted(
    plant: Plant, repository: Repository, role: type[Signed], version: int
) -> None:
    """A version that the device's database can not hold is refused, and stops no agent."""
    ordered(plant)

    def beyond(signed: Signed) -> None:
        signed.version = version

    with threat(plant, "metadata-malformed", keeps=before(repository)):
        if repository == "director":
            thief = Thief(plant)
            thief.publish("a", [thief.target()], only(role, beyond))
        else:
            engineers = ImageThief(plant, *ENGINEERS)
            engineers.publish(only(role, beyond), {"app": engineers.read("app")})
