"""A thief of the director's online key (rule 12): both halves of what that key is worth.

It can choose among listed releases at or above the floor for that component and hardware, and it
can withhold. It can do nothing else: each other wish is refused by the device under its own code,
nothing that runs changes, and the next honest order works.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from simulators.lies import memory
from simulators.plant import Plant
from simulators.plants import fixtures
from simulators.thief import Thief
from tuf.api.metadata import DelegatedRole, Delegations, Signed, TargetFile, Targets

ONE, TWO, FIX = b"app 1.0.0", b"app 2.0.0", b"app 2.0.1"


def _make(folder: Path) -> Plant:
    plant = Plant(folder, ["a"])
    plant.publish(
        plant.build("1.0.0"),
        plant.build("2.0.0"),
        plant.build("1.0.0", component="mcu"),
        plant.build("9.0.0", hardware_ids=("gw-rev-a",), path="app/other-hardware.bin"),
    )
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    return plant


frozen, plant = fixtures(_make)

Words = dict[str, Any]
WISHES: list[tuple[str, str, Words]] = [
    ("target-mismatch", "2.0.0", {"hashes": {"sha256": "0" * 64}}),
    ("target-mismatch", "2.0.0", {"length": 10_000}),
    ("not-listed", "2.0.0", {"path": "app/evil.bin"}),
    ("hardware-mismatch", "9.0.0", {}),
    ("hardware-mismatch", "9.0.0", {"hardware_id": "gw-rev-a"}),
    ("hardware-mismatch", "2.0.0", {"hardware_id": "gw-rev-a"}),
    ("counter-mismatch", "2.0.0", {"release_counter": 9}),
    ("counter-mismatch", "2.0.0", {"release_counter": 0}),
]


@pytest.mark.parametrize(("code", "version", "words"), WISHES)
def test_what_it_can_not_assign(plant: Plant, code: str, version: str, words: Words) -> None:
    """Other bytes, other hardware, unlisted or re-counted releases are refused by name."""
    thief, gateway = Thief(plant), plant["a"]
    thief.assign("a", thief.release(version), **words)
    gateway.look()
    assert (gateway.running, gateway.told()[-1]) == (ONE, code)
    assert not list(gateway.home.glob("app.*"))
    assert plant.roll_out("two", "2.0.0")["state"] == "COMPLETED"
    assert gateway.running == TWO


def _says(**fields: Any) -> Callable[[Signed], None]:
    def lie(signed: Signed) -> None:
        signed.unrecognized_fields.update(fields)

    return lie


def _silent(signed: Signed) -> None:
    del signed.unrecognized_fields["device"]


def _delegates(signed: Signed) -> None:
    if isinstance(signed, Targets):
        role = DelegatedRole("evil", [], 1, terminating=True, paths=["app/*"])
        signed.delegations = Delegations({}, {"evil": role})


def _extra(target: TargetFile, **words: Any) -> TargetFile:
    target.unrecognized_fields["custom"].update(words)
    return target


def _targets(plant: Plant, what: str) -> list[TargetFile]:
    thief = Thief(plant)
    two = thief.assignment(thief.release("2.0.0")).to_target()
    if what == "a component twice":
        return [two, thief.assignment(thief.release("1.0.0")).to_target()]
    if what == "an unknown component":
        return [thief.assignment(thief.release("1.0.0", "mcu")).to_target()]
    if what == "a lowered floor":
        return [_extra(two, clear_floor=True)]
    if what == "no counter":
        del two.unrecognized_fields["custom"]["release_counter"]
    return [two]


FORMS: list[tuple[str, str, Callable[[Signed], None]]] = [
    ("component-repeated", "a component twice", _says()),
    ("component-unknown", "an unknown component", _says()),
    ("assignment-malformed", "a lowered floor", _says()),
    ("assignment-malformed", "no counter", _says()),
    ("director-delegates", "delegations", _delegates),
    ("director-wrong-device", "another device's name", _says(device="b")),
    ("director-wrong-device", "no device's name", _silent),
]


@pytest.mark.parametrize(("code", "what", "lie"), FORMS, ids=[form[1] for form in FORMS])
def test_what_it_can_not_say(
    plant: Plant, code: str, what: str, lie: Callable[[Signed], None]
) -> None:
    """Metadata of a wrong form is refused as a whole, and the device does not even remember it."""
    gateway = plant["a"]
    before = memory(gateway, "director")
    files = {p: p.read_bytes() for p in gateway.director("").iterdir()}
    Thief(plant).publish("a", _targets(plant, what), lie)
    gateway.look()
    assert (gateway.running, gateway.codes, gateway.told()[-1]) == (ONE, [code], code)
    assert memory(gateway, "director") == before
    for path in gateway.director("").iterdir():
        if path in files:
            path.write_bytes(files[path])
        else:
            path.unlink()
    assert plant.roll_out("two", "2.0.0")["state"] == "COMPLETED"
    assert gateway.running == TWO


def test_it_can_not_lower_a_floor(plant: Plant) -> None:
    """A release below the floor stays refused, however it is assigned; the floor stays."""
    gateway = plant["a"]
    gateway.toml.write_text("security_soak = 0\n" + gateway.toml.read_text())
    plant.publish(plant.build("2.0.1", security_fix=True))
    assert plant.roll_out("fix", "2.0.1")["state"] == "COMPLETED"
    gateway.look()
    floor = gateway.floor
    thief = Thief(plant)
    for words in ({}, {"kind": "rollback"}, {"clear_denial": True}):
        thief.assign("a", thief.release("1.0.0"), **words)
        gateway.look()
        assert (gateway.running, gateway.told()[-1], gateway.floor) == (FIX, "below-floor", floor)


@pytest.mark.parametrize("years", [-10, 10])
def test_it_can_not_move_a_clock(plant: Plant, years: int) -> None:
    """``issued`` far off, signed with the stolen key, moves no device's clock beyond the truth."""
    gateway, thief = plant["a"], Thief(plant)
    with gateway.opened() as agent:
        before = agent.state.clock_floor
    when = plant.now() + timedelta(days=365 * years)
    issued = when.strftime("%Y-%m-%dT%H:%M:%SZ")
    thief.publish("a", [], _says(issued=issued))
    gateway.look()
    with gateway.opened() as agent:
        assert before <= agent.state.clock_floor <= plant.now()
    assert plant.roll_out("two", "2.0.0")["state"] == "COMPLETED"
    assert gateway.running == TWO


def test_what_it_can_do(plant: Plant) -> None:
    """The other half: any listed release at or above the floor, forward and back, or nothing."""
    gateway, thief = plant["a"], Thief(plant)
    thief.assign("a", thief.release("2.0.0"))
    gateway.look()
    assert gateway.running == TWO
    thief.assign("a", thief.release("1.0.0"), order="ota-evil-aaaaaa-u1-w0-b1")
    gateway.look()
    assert gateway.running == ONE
    thief.publish("a", [])
    assert gateway.look() == []
    assert gateway.running == ONE, "an empty assignment is no downgrade"
    plant.wiring.campaign.observe(plant.now())
    ended = [r.update.path for r in gateway.reports() if r.update and r.update.phase == "DONE"]
    assert ended[-2:] == ["app/app-2.0.0.bin", "app/app-1.0.0.bin"], "and the device tells of it"


def test_it_can_not_make_a_rollout_succeed(plant: Plant) -> None:
    """What devices report about orders that no journal issued moves no gate."""
    rollout = plant.start("two", "2.0.0")
    thief = Thief(plant)
    thief.assign("a", thief.release("2.0.0"), rollout=rollout, order="ota-evil-aaaaaa-u1-w0-b7")
    plant["a"].look()
    plant.step(rollout)
    status = plant.status(rollout)
    assert plant["a"].running == TWO
    assert status["waves"][0]["committed"] == 0
    assert "a" in status["mismatched"] or status["left_out"], status


def test_a_signer_below_the_threshold_is_no_director(plant: Plant) -> None:
    """Any other key, also one of the image repository, signs nothing for a device."""
    for key in ("image-online", "targets-1", "director-root-1", "author", "approver"):
        thief = Thief(plant, key)
        kept = plant["a"].director("timestamp.json").read_bytes()
        thief.assign("a", thief.release("2.0.0"))
        plant["a"].look()
        assert (plant["a"].running, plant["a"].codes[-1]) == (ONE, "signature")
        plant["a"].director("timestamp.json").write_bytes(kept)
    plant["a"].look()
