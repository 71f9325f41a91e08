"""Clock poisoning: whoever moves a device's idea of time would stop its updates, or allow old ones."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest
from simulators.plant import Gateway, Plant
from simulators.thief import Thief, next_root, only, says
from simulators.threats import (
    ONE,
    ROOTS,
    Remembered,
    honest,
    ordered,
    recover,
    threat,
    unchanged,
)
from tuf.api.metadata import Signed, Timestamp

from ota.errors import Malformed
from ota.repositories.opened import Repository
from signing import strict
from signing.changes import ceremony

TEN_YEARS = timedelta(days=3653)


def floor(gateway: Gateway) -> datetime:
    """The clock floor in its journal."""
    with gateway.opened() as agent:
        return agent.state.clock_floor


def test_a_clock_ten_years_ahead(plant: Plant) -> None:
    """For as long as it lasts everything is stale; corrected, it leaves nothing behind."""
    gateway = plant["a"]
    gateway.look()
    before = floor(gateway)

    def corrected() -> None:
        gateway.skew = timedelta(0)
        assert floor(gateway) == before

    with threat(plant, "stale", event="stale", heal=corrected):
        gateway.skew = TEN_YEARS


def test_a_clock_ten_years_behind(plant: Plant) -> None:
    """Expired metadata stays expired: the floor that signed times raised is used instead."""
    gateway = plant["a"]
    gateway.look()

    def corrected() -> None:
        gateway.skew = timedelta(0)

    with threat(plant, "stale", event="stale", heal=corrected):
        gateway.skew = -TEN_YEARS
        thief = Thief(plant)
        old = plant.now() - timedelta(days=1)
        thief.publish("a", [thief.target()], only(Timestamp, lambda s: setattr(s, "expires", old)))


@pytest.mark.parametrize("years", [-10, 10])
def test_a_signed_time_that_is_far_off(plant: Plant, years: int) -> None:
    """``issued`` by a stolen online key moves the floor to the truth at most, and never down."""
    ordered(plant)
    gateway = plant["a"]
    before, earlier = Remembered.of(gateway), floor(gateway)
    issued = strict.stamp(plant.now() + years * TEN_YEARS / 10)
    Thief(plant).publish("a", [], says(issued=issued))
    gateway.look()
    unchanged(gateway, before, ("director",))
    assert earlier <= floor(gateway) <= plant.now()
    (rollout,) = plant.wiring.open_rollouts()
    plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    honest(plant)


@pytest.mark.parametrize("issued", ["soon", 7, "", "2026-13-01T00:00:00Z", None])
def test_a_signed_time_that_is_none(plant: Plant, issued: object) -> None:
    """A time that is no time makes the metadata none; a missing one just raises nothing."""
    thief = Thief(plant)
    if issued is None:
        thief.publish("a", [], only(Timestamp, lambda s: s.unrecognized_fields.pop("issued")))
        before = floor(plant["a"])
        plant["a"].look()
        assert (floor(plant["a"]), plant["a"].codes) == (before, [])
        honest(plant)
        return
    with threat(plant, "metadata-malformed"):
        thief.publish("a", [], only(Timestamp, says(issued=issued)))


@pytest.mark.parametrize("days", [200, 400])
def test_both_at_once(plant: Plant, days: int) -> None:
    """Clock and key together move the floor, as far as the director's root lasts and no further."""
    gateway = plant["a"]
    gateway.look()
    earlier, gateway.skew = floor(gateway), timedelta(days=days)
    false = plant.now() + gateway.skew

    def lie(signed: Signed) -> None:
        signed.expires = false + timedelta(days=1000)
        says(issued=strict.stamp(false))(signed)

    Thief(plant).publish("a", [], lie)
    gateway.look()
    gateway.skew = timedelta(0)
    assert gateway.running == ONE
    if days > 365:
        assert (floor(gateway), gateway.codes) == (earlier, ["stale"])
        recover(plant, "director")
        honest(plant)
    else:
        assert abs(floor(gateway) - false) < timedelta(hours=1)


# -- a root that is dated ahead --------------------------------------------------------------------
AHEAD = "9999-12-31T23:59:59Z"


@pytest.mark.parametrize("repository", ROOTS)
def test_a_root_dated_ahead_is_not_signed_and_not_published(
    plant: Plant, repository: Repository
) -> None:
    """One of its makers, or a clock that is wrong, would end all updates of all devices for ever."""
    repos = plant.wiring.repositories
    repos.change(plant.now(), repository, [(repository, "root")])
    honest_change = repos.pending(repository)
    assert honest_change is not None
    root, waits = honest_change.signed("root"), honest_change.roles["root"]
    root.unrecognized_fields["issued"] = AHEAD
    lie = msgspec.structs.replace(
        honest_change, roles={"root": ceremony.waiting(root, waits.base, *waits.needs)}
    )
    ceremony.save(repos.pending_path(repository), lie)
    with pytest.raises(Malformed, match="made at 9999"):
        repos.sign(ROOTS[repository][0], plant.now())
    for name in ROOTS[repository]:
        lie, _ = ceremony.add_signature(lie, plant.wiring.keyring.signer(name))
    ceremony.save(repos.pending_path(repository), lie)
    with pytest.raises(Malformed, match="made at 9999"):
        repos.publish(plant.now())
    ceremony.save(repos.pending_path(repository), honest_change)
    for name in ROOTS[repository]:
        repos.sign(name, plant.now())
    repos.publish(plant.now())
    honest(plant)


@pytest.mark.parametrize("repository", ROOTS)
def test_a_root_dated_ahead_stops_no_device(plant: Plant, repository: Repository) -> None:
    """Signed all the same by a threshold, it lifts the floor to a signed time that has passed."""
    ordered(plant)
    gateway = plant["a"]
    next_root(
        plant,
        repository,
        lambda root: root.unrecognized_fields.update(issued=AHEAD),
        *ROOTS[repository],
    )
    for _ in range(2):
        gateway.look()
        assert floor(gateway) <= plant.now()
    honest(plant)


def test_a_root_lifts_a_clock_that_stands_still(plant: Plant) -> None:
    """Without a clock of its own a device learns from signed times how late it is at least."""
    gateway = plant["a"]
    gateway.look()
    plant.later(days=1)
    plant.wiring.refresh(every=True)
    moment = plant.now() - timedelta(hours=1)
    next_root(
        plant,
        "director",
        lambda root: root.unrecognized_fields.update(issued=strict.stamp(moment)),
        *ROOTS["director"],
    )
    gateway.skew = -TEN_YEARS
    gateway.look()
    assert floor(gateway) == moment.replace(microsecond=0)
    gateway.skew = timedelta(0)
    honest(plant)
