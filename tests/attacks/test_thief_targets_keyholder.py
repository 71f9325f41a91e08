"""Thief: one targets keyholder of two-of-three; and, for comparison, two of them."""

from __future__ import annotations

import pytest
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief
from simulators.threats import ONE, honest, ordered, threat
from tuf.api.metadata import TargetFile, Targets

EVIL = "app/evil.bin"


def order(plant: Plant, evil: TargetFile) -> None:
    """The director's key, stolen too, orders it."""
    thief = Thief(plant)
    words = {"path": evil.path, "length": evil.length, "hashes": dict(evil.hashes)}
    thief.assign("a", thief.release("2.0.0"), **words)


# -- one: can ------------------------------------------------------------------------------------
def test_one_can_sign_and_nothing_follows(plant: Plant) -> None:
    """Its signature is one of two; without a second the change waits, and the store is untouched."""
    before = {p.name for p in (plant.store / "image" / "metadata").iterdir()}
    plant.wiring.releases.add(plant.build("6.6.6"), plant.now())
    plant.wiring.releases.sign("targets-1", plant.now())
    with pytest.raises(Exception, match="sign"):
        plant.wiring.releases.publish(plant.now())
    assert {p.name for p in (plant.store / "image" / "metadata").iterdir()} == before
    plant.wiring.repositories.discard("image")
    honest(plant)


def test_one_can_not_even_be_missed(plant: Plant) -> None:
    """The other two publish without it."""
    plant.wiring.releases.add(plant.build("4.0.0"), plant.now())
    for name in ("targets-2", "targets-3"):
        plant.wiring.releases.sign(name, plant.now())
    plant.wiring.releases.publish(plant.now())
    honest(plant, version="4.0.0")


# -- one: can not --------------------------------------------------------------------------------
@pytest.mark.parametrize("role", ["app", "targets"])
def test_one_can_not_list(plant: Plant, role: str) -> None:
    """Not with the store, the image online key and the director's key beside it."""
    with threat(plant, "signature", keeps=("director",)):
        thief = ImageThief(plant, "targets-1")
        evil = thief.lists(EVIL, b"evil").targets[EVIL]
        order(plant, evil)
        changed: Targets = thief.read(role)
        changed.targets[EVIL] = evil
        thief.publish(roles={role: changed})


@pytest.mark.parametrize("what", ["hardware_ids", "release_counter", "security_fix"])
def test_one_can_not_redescribe(plant: Plant, what: str) -> None:
    """Hardware and counter of a listed release stay what two engineers signed."""
    ordered(plant)
    values = {"hardware_ids": ["gw-rev-a"], "release_counter": 9, "security_fix": True}
    with threat(plant, "signature"):
        thief = ImageThief(plant, "targets-2")
        role: Targets = thief.read("app")
        for target in role.targets.values():
            target.unrecognized_fields["custom"][what] = values[what]
        thief.publish(roles={"app": role})


def test_one_can_not_lower_the_threshold(plant: Plant) -> None:
    """Who signs for a component is the list of components', which needs two as well."""
    ordered(plant)
    with threat(plant, "signature"):
        thief = ImageThief(plant, "targets-1")
        top: Targets = thief.read("targets")
        assert top.delegations is not None
        assert top.delegations.roles is not None
        top.delegations.roles["app"].threshold = 1
        thief.publish(roles={"targets": top, "app": thief.lists(EVIL, b"evil")})


# -- two of them ---------------------------------------------------------------------------------
def test_two_can_list_and_can_not_aim(plant: Plant) -> None:
    """With the store they list any bytes; no device installs what its director does not order."""
    thief = ImageThief(plant, "targets-1", "targets-3")
    thief.publish(roles={"app": thief.lists(EVIL, b"evil")})
    for gateway in plant.devices.values():
        assert gateway.look() == []
        assert gateway.running == ONE
    plant.wiring.repositories.change_image(lambda i, p: i.yank(p, EVIL, plant.now()))
    for name in ("targets-1", "targets-2"):
        plant.wiring.repositories.sign(name, plant.now())
    plant.wiring.repositories.publish(plant.now())
    honest(plant)


def test_two_and_the_director_can_do_what_the_owners_can(plant: Plant) -> None:
    """Both repositories agree then: this is why they share no key, no person and no machine."""
    thief = ImageThief(plant, "targets-1", "targets-3")
    role = thief.lists(EVIL, b"evil")
    order(plant, role.targets[EVIL])
    thief.publish(roles={"app": role})
    plant["a"].look()
    assert plant["a"].running == b"evil"
