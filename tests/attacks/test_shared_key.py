"""One key in both repositories: whoever stole it would speak for both, so no device accepts it."""

from __future__ import annotations

import pytest
from securesystemslib.signer import Key
from simulators.plant import Plant
from simulators.thief import ImageThief, next_root
from simulators.threats import ROOTS, ordered, threat
from tuf.api.metadata import Root, Targets

from ota.repositories.opened import Repository
from signing import strict

THEIRS = {"director": "targets-1", "image": "director-online"}
ROLE = {"director": "targets", "image": "timestamp"}
CALLED = ("its own id", "another id")


def key_of(plant: Plant, name: str, called: str) -> Key:
    """A key of the other repository, under its id or under an invented one."""
    key: Key = plant.wiring.keyring.signer(name).public_key
    keyid = key.keyid if called == "its own id" else strict.digest(b"another id")
    return Key.from_dict(keyid, key.to_dict())


@pytest.mark.parametrize("repository", ROOTS)
@pytest.mark.parametrize("called", CALLED)
def test_by_a_rotation(plant: Plant, repository: Repository, called: str) -> None:
    """A root that takes in a key of the other repository stops every cycle until the next root."""
    ordered(plant)

    def shared(root: Root) -> None:
        root.add_key(key_of(plant, THEIRS[repository], called), ROLE[repository])

    def mended() -> None:
        def without(root: Root) -> None:
            root.version = 3
            root.revoke_key(key_of(plant, THEIRS[repository], called).keyid, ROLE[repository])

        next_root(plant, repository, shared, *ROOTS[repository])
        next_root(plant, repository, without, *ROOTS[repository])

    with threat(plant, "shared-key", heal=mended, keeps=("director",)):
        next_root(plant, repository, shared, *ROOTS[repository])


@pytest.mark.parametrize("called", CALLED)
def test_by_a_delegation(plant: Plant, called: str) -> None:
    """Nor may the engineers name a director's key among those of a component."""
    ordered(plant)
    with threat(plant, "shared-key"):
        engineers = ImageThief(plant, "targets-1", "targets-2")
        top: Targets = engineers.read("targets")
        top.add_key(key_of(plant, "director-online", called), "app")
        engineers.publish(roles={"targets": top})
