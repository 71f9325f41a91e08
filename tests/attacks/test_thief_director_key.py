"""Thief: the director's online key (rule 12). Both halves of what that key is worth.

It can choose among listed releases at or above the floor for that component and hardware, and it
can withhold. It can do nothing else: each other wish has a file of its own in this folder, and
each ends in a refusal by name, nothing changed, and the next honest update.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from simulators.planners import approval_by, refused
from simulators.plant import Plant
from simulators.thief import FAR, ImageThief, Thief, next_root, says
from simulators.threats import ONE, THREE, TWO, honest, ordered, recover, threat

from signing import strict

KEEPS = ("director", "image")


# -- can -----------------------------------------------------------------------------------------
def test_it_can_choose_among_listed_releases(plant: Plant) -> None:
    """Forward and back, at or above the floor; and the device tells of it, signed."""
    gateway, thief = plant["a"], Thief(plant)
    for number, (version, data) in enumerate((("2.0.0", TWO), ("3.0.0", THREE), ("1.0.0", ONE))):
        thief.assign("a", thief.release(version), order=f"ota-evil-aaaaaa-u1-w0-b{number}")
        gateway.look()
        assert gateway.running == data
    plant.wiring.campaign.observe(plant.now())
    ended = [r.update.path for r in gateway.reports() if r.update and r.update.phase == "DONE"]
    assert ended[-3:] == [f"app/app-{v}.bin" for v in ("2.0.0", "3.0.0", "1.0.0")]
    honest(plant)


def test_it_can_withhold(plant: Plant) -> None:
    """Nothing assigned, for ever: the device keeps what it runs, and its rollout does not end."""
    rollout, thief = ordered(plant), Thief(plant)
    thief.publish("a")
    assert plant["a"].look() == []
    assert plant["a"].running == ONE, "an empty assignment is no downgrade"
    assert plant.drive(rollout, 3)["state"] != "COMPLETED"


def test_it_can_lift_a_denial(plant: Plant) -> None:
    """A release that failed here is tried again where the key says so, and fails again."""
    gateway, thief = plant["a"], Thief(plant)
    gateway.be("sick")
    two = thief.release("2.0.0")
    thief.assign("a", two)
    gateway.look()
    assert (gateway.running, len(gateway.denied)) == (ONE, 1)
    thief.assign("a", two, order="ota-evil-aaaaaa-u1-w0-b1")
    gateway.look()
    assert gateway.told()[-1] == "denied"
    thief.assign("a", two, order="ota-evil-aaaaaa-u1-w0-b2", clear_denial=True)
    gateway.look()
    assert (gateway.running, gateway.told()[-1]) == (ONE, "unhealthy")
    gateway.be("sick", now=False)
    honest(plant, version="3.0.0")


def test_it_can_strand_a_device_until_the_root_replaces_it(plant: Plant) -> None:
    """Wound forward, no honest order is heard; a new key in the root ends all of it."""
    gateway, thief = plant["a"], Thief(plant)

    def wound(signed: Any) -> None:
        signed.version = FAR

    thief.publish("a", [], wound)
    gateway.look()
    recover(plant, "director")
    gateway.look()
    thief.assign("a", thief.release("3.0.0"))
    gateway.look()
    assert (gateway.running, gateway.codes[-1]) == (ONE, "signature"), "the old key is nobody's"


# -- can not -------------------------------------------------------------------------------------
WISHES: list[tuple[str, str, dict[str, Any]]] = [
    ("target-mismatch", "2.0.0", {"hashes": {"sha256": "0" * 64}}),
    ("not-listed", "2.0.0", {"path": "app/evil.bin"}),
    ("hardware-mismatch", "9.0.0", {}),
    ("counter-mismatch", "2.0.0", {"release_counter": 9}),
]


@pytest.mark.parametrize(("code", "version", "words"), WISHES)
def test_it_can_not_assign(plant: Plant, code: str, version: str, words: dict[str, Any]) -> None:
    """Other bytes, other hardware, unlisted or re-counted releases are refused by name."""
    with threat(plant, code, keeps=KEEPS):
        thief = Thief(plant)
        thief.assign("a", thief.release(version), **words)


def test_it_can_not_lower_a_floor(plant: Plant) -> None:
    """A release below the floor stays refused, however it is assigned; the floor stays."""
    gateway = plant["a"]
    gateway.toml.write_text("security_soak = 0\n" + gateway.toml.read_text())
    plant.publish(plant.build("2.0.1", security_fix=True), plant.build("2.1.0"))
    assert plant.roll_out("fix", "2.0.1")["state"] == "COMPLETED"
    gateway.look()
    floor = gateway.floor
    with threat(plant, "below-floor", keeps=KEEPS, next_is="2.1.0"):
        thief = Thief(plant)
        thief.assign("a", thief.release("1.0.0"), kind="rollback", clear_denial=True)
    assert gateway.floor == floor == 2


def test_it_can_not_say_more(plant: Plant) -> None:
    """There is no word for clearing floors or clocks: an order that has one is none."""
    with threat(plant, "assignment-malformed") as gateway:
        thief = Thief(plant)
        for word in ("clear_floor", "floor", "clock_floor", "approved"):
            thief.publish("a", [thief.target(**{word: 0})])
            gateway.look()
            assert gateway.codes[-1] == "assignment-malformed", word


@pytest.mark.parametrize("years", [-10, 10])
def test_it_can_not_move_a_clock(plant: Plant, years: int) -> None:
    """``issued`` far off, signed with the stolen key, moves no device's clock beyond the truth."""
    gateway, thief = plant["a"], Thief(plant)
    with gateway.opened() as agent:
        before = agent.state.clock_floor
    issued = strict.stamp(plant.now() + timedelta(days=365 * years))
    thief.publish("a", [], says(issued=issued))
    gateway.look()
    with gateway.opened() as agent:
        assert before <= agent.state.clock_floor <= plant.now()
    honest(plant)


def test_it_can_not_list_or_name_keys(plant: Plant) -> None:
    """It is no key of the image repository, and none of either root."""
    ordered(plant)
    with threat(plant, "signature"):
        thief = ImageThief(plant, "director-online")
        thief.publish(roles={"app": thief.lists("app/evil.bin", b"evil")})
        next_root(plant, "director", lambda r: None, "director-online")


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


def test_it_can_not_approve(plant: Plant) -> None:
    """A plan needs an author and an approver; this key is neither."""
    plan = plant.plan("two", "2.0.0")
    mine = approval_by(plant, plan, "director-online")
    assert refused(plant, plan, mine).code == "statement-signature"
    honest(plant)
