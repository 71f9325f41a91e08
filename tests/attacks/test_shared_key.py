"""One key in both repositories: whoever stole it would speak for both, so no device accepts it."""

from __future__ import annotations

from pathlib import Path

import pytest
from securesystemslib.signer import Key
from simulators.plant import Part, Plant
from simulators.thief import ImageThief, Thief, next_root
from simulators.threats import ROOTS, named, ordered, threat
from tuf.api.metadata import DelegatedRole, Delegations, Root, SuccinctRoles, Targets

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


@pytest.mark.parametrize("how", ["among its bins' keys", "for a role of theirs"])
def test_by_one_components_own_keyholders(tmp_path: Path, how: str) -> None:
    """Whoever signs ``app`` can name a director's key there, and stops no other component by it."""
    plant = Plant(tmp_path, ["a"], parts=(Part("app"), Part("mcu")))
    plant.publish(plant.build("2.0.0"), plant.build("2.0.0", component="mcu"))
    engineers, thief = ImageThief(plant, "targets-1", "targets-2"), Thief(plant)
    orders = [
        thief.assignment(thief.release("2.0.0", part), order=f"ota-two-aaaaaa-u1-w0-b{number}")
        for number, part in enumerate(("app", "mcu"))
    ]
    top, role = engineers.read("targets"), engineers.read("app")
    own = top.delegations.roles["app"]
    theirs = key_of(plant, "director-online", "its own id")
    if how == "among its bins' keys":
        keys = {keyid: top.delegations.keys[keyid] for keyid in own.keyids}
        bins = SuccinctRoles(own.keyids, own.threshold, 1, "app.")
        role.delegations = Delegations(keys | {theirs.keyid: theirs}, succinct_roles=bins)
    else:
        other = DelegatedRole("x", [theirs.keyid], 1, terminating=True, paths=["app/x*"])
        role.delegations = Delegations({theirs.keyid: theirs}, {"x": other})
    engineers.publish(roles={"app": role})
    thief.publish("a", [order.to_target() for order in orders])
    gateway = plant["a"]
    gateway.look()
    assert (gateway.slot("mcu"), gateway.slot("app")) == (b"mcu 2.0.0", None)
    named(gateway, ("bin-keyholders",), "refusal")
    assert plant.damage() == ["image app: bin-keyholders"]
