"""Hash bins that lie: handed on to others, of another component, too many, too large, too old.

Each ends in a refusal for that component alone, state unchanged, and the next honest update works.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from simulators.repos import NOW, World, assignment_target, key
from tuf.api.metadata import DelegatedRole, Delegations, Signed, Snapshot, TargetFile, Targets

from ota.agent.time import EPOCH
from ota.agent.trust import Cycle, Known, TrustRoom
from signing import shared
from signing.errors import Outage, Refusal

KNOWN = Known(committed={}, floors={}, denied={}, clock_floor=EPOCH)
ONE, TWO, MCU = "app/app-1.bin", "app/app-2.bin", "mcu/mcu-1.bin"


@pytest.fixture
def world() -> World:
    """``app`` over four bins, ``mcu`` without; one release of each is assigned."""
    world = World()
    world.image.delegate("mcu")
    world.release(ONE)
    world.release(MCU, b"mcu")
    world.image.spread("app", 2)
    world.image.publish()
    assign(world, ONE, MCU)
    return world


@pytest.fixture
def room(world: World, tmp_path: Path) -> TrustRoom:
    hardware = {"app": "gw-rev-b", "mcu": "gw-rev-b"}
    fetch = world.director.fetch, world.image.fetch
    room = TrustRoom(world.device, hardware, tmp_path / "trust", *fetch)
    room.provision(world.director.files["1.root.json"], world.image.files["1.root.json"])
    assert wanted(room.cycle(KNOWN, NOW)) == {ONE, MCU}
    return room


def assign(world: World, *paths: str) -> None:
    listed = {path: assignment_target(world.listed(path)) for path in paths}
    world.director.targets.targets = listed
    world.director.publish()


def wanted(cycle: Cycle) -> set[str]:
    return {w.release.path for w in cycle.wanted}


def trusted(room: TrustRoom) -> dict[str, bytes]:
    folder = room._image.path / "current"
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def refused(world: World, room: TrustRoom, code: str, *paths: str) -> None:
    """``app`` is held with this code and ``mcu`` goes on; nothing else is trusted than before."""
    assign(world, *paths) if paths else world.director.publish()
    before = trusted(room)
    cycle = room.cycle(KNOWN, NOW)
    assert {h.error.code for h in cycle.held} == {code}
    assert all(isinstance(h.error, Refusal) for h in cycle.held)
    assert wanted(cycle) == {MCU}
    assert trusted(room) == before


def healed(world: World, room: TrustRoom) -> None:
    """An honest release in the same bins is taken afterwards."""
    world.release("app/app-3.bin", b"three")
    assign(world, "app/app-3.bin", MCU)
    assert wanted(room.cycle(KNOWN, NOW)) == {"app/app-3.bin", MCU}
    room.check()


# -- handed on -----------------------------------------------------------------------------------
def other_keys(world: World) -> None:
    """The bins are signed by somebody whom the component's keyholders chose."""
    friend = key()
    role = world.image.delegated["app"].delegations
    assert role is not None
    assert role.succinct_roles is not None
    role.keys = {friend.public_key.keyid: friend.public_key}
    role.succinct_roles.keyids = [friend.public_key.keyid]
    for name in role.succinct_roles.get_roles():
        world.image.signers[name] = [friend]


def one_more_key(world: World) -> None:
    """The keyholders' own key, or a friend's."""
    friend = key()
    role = world.image.delegated["app"].delegations
    assert role is not None
    assert role.succinct_roles is not None
    role.keys[friend.public_key.keyid] = friend.public_key
    role.succinct_roles.keyids.append(friend.public_key.keyid)
    for name in role.succinct_roles.get_roles():
        world.image.signers[name] = [friend]


def by_name(world: World) -> None:
    """An ordinary delegation to a friend, without bins."""
    friend = key()
    role = world.image.delegated["app"]
    keyid = friend.public_key.keyid
    named = DelegatedRole("friend", [keyid], 1, True, ["app/*"])
    role.delegations = Delegations({keyid: friend.public_key}, {"friend": named})
    world.image.signers["friend"] = [friend]
    world.image.delegated["friend"] = Targets(expires=role.expires)
    world.image.delegated["friend"].targets = {ONE: deepcopy(listed_in_bins(world, ONE))}


def further(world: World) -> None:
    """A bin hands its releases on, even to the same key."""
    role = home(world, ONE)
    target = role.targets.pop(ONE)
    signer = world.image.signers["app"][0]
    keyid = signer.public_key.keyid
    named = DelegatedRole("deep", [keyid], 1, True, ["app/*"])
    role.delegations = Delegations({keyid: signer.public_key}, {"deep": named})
    world.image.signers["deep"] = [signer]
    world.image.delegated["deep"] = Targets(expires=role.expires)
    world.image.delegated["deep"].targets = {ONE: target}


def another_prefix(world: World) -> None:
    """Names that look like another component's bins."""
    role = world.image.delegated["app"]
    target = listed_in_bins(world, ONE)
    role.delegations = None
    role.targets = {ONE: target}
    world.image.spread("app", 2, prefix="mcu.")


def home(world: World, path: str) -> Targets:
    return world.image.home(path)


def listed_in_bins(world: World, path: str) -> TargetFile:
    return next(r.targets[path] for r in world.image.delegated.values() if path in r.targets)


@pytest.mark.parametrize("how", [other_keys, one_more_key, by_name, further, another_prefix])
def test_releases_are_handed_on_to_nobody(
    world: World, room: TrustRoom, how: Callable[[World], None]
) -> None:
    """Whatever a component's keyholders sign: what they hand on to others is not installed."""
    honest = deepcopy(world.image.delegated), dict(world.image.signers)
    versions = {name: role.version for name, role in world.image.delegated.items()}
    how(world)
    world.image.publish()
    refused(world, room, "bin-keyholders")
    later = world.image.delegated
    world.image.delegated, world.image.signers = honest
    for name, role in later.items():
        if name in world.image.delegated:
            world.image.delegated[name].version = role.version
        else:
            world.image.delegated[name] = role
            world.image.signers[name] = world.image.signers["app"]
    assert versions
    healed(world, room)


def test_a_role_of_four_thousand_million_bins_is_refused_at_once(
    world: World, room: TrustRoom
) -> None:
    """Nobody counts them: the walk needs one name, and the number itself is refused."""
    role = world.image.delegated["app"]
    assert role.delegations is not None
    assert role.delegations.succinct_roles is not None
    honest = deepcopy(role.delegations)
    many = deepcopy(role.delegations.succinct_roles)
    many.bit_length, many.number_of_bins, many.suffix_len = 32, 2**32, 8
    role.delegations = Delegations(role.delegations.keys, succinct_roles=many)
    name = many.get_role_for_target(ONE)
    world.image.signers[name] = world.image.signers["app"]
    world.image.delegated[name] = Targets(expires=role.expires)
    world.image.delegated[name].targets = {ONE: listed_in_bins(world, ONE)}
    world.image.delegated[name].unrecognized_fields["role"] = name
    world.image.publish()
    refused(world, room, "bin-keyholders")
    role.delegations = honest
    healed(world, room)


# -- a store's tricks ----------------------------------------------------------------------------
def name_of(world: World, path: str) -> str:
    role = world.image.delegated["app"].delegations
    assert role is not None
    assert role.succinct_roles is not None
    return role.succinct_roles.get_role_for_target(path)


def newest(world: World, path: str) -> str:
    name = name_of(world, path)
    return f"{world.image.delegated[name].version}.{name}.json"


def same_bin(world: World) -> str:
    """A second path in the bin of the first one."""
    return next(
        path
        for path in (f"app/other-{n}.bin" for n in range(99))
        if name_of(world, path) == name_of(world, ONE)
    )


def version_alone(signed: Signed) -> None:
    """A snapshot as ours are: of bins it lists the version alone."""
    assert isinstance(signed, Snapshot)
    for name, item in signed.meta.items():
        if ".-" in name:
            item.hashes = item.length = None


def test_an_older_bin_is_a_rollback(world: World, room: TrustRoom) -> None:
    """The bin of yesterday, honestly signed, under today's name: the version tells."""
    old = world.image.files[newest(world, ONE)]
    path = same_bin(world)
    world.release(path, b"new")
    world.image.publish({"snapshot": version_alone})
    honest = world.image.files[newest(world, ONE)]
    world.image.files[newest(world, ONE)] = old
    refused(world, room, "metadata-rollback", path, MCU)
    world.image.files[newest(world, ONE)] = honest
    healed(world, room)


def test_an_endless_bin_is_cut_off(world: World, room: TrustRoom) -> None:
    """Without a length in the snapshot the limit of any targets role holds."""
    path = same_bin(world)
    world.release(path, b"new")
    world.image.publish({"snapshot": version_alone})
    honest = world.image.files[newest(world, ONE)]
    world.image.files[newest(world, ONE)] = honest + b" " * 5_000_000
    refused(world, room, "oversize", path, MCU)
    world.image.files[newest(world, ONE)] = honest
    healed(world, room)


def test_a_bin_that_is_withheld_is_an_outage(world: World, room: TrustRoom) -> None:
    """Missing is never "not listed"; the other component goes on."""
    path = same_bin(world)
    world.release(path, b"new")
    honest = world.image.files.pop(newest(world, ONE))
    assign(world, path, MCU)
    cycle = room.cycle(KNOWN, NOW)
    (held,) = cycle.held
    assert isinstance(held.error, Outage)
    assert held.error.code == "missing"
    assert wanted(cycle) == {MCU}
    world.image.files[newest(world, ONE)] = honest
    healed(world, room)


def test_a_snapshot_that_drops_a_bin_is_refused(world: World, room: TrustRoom) -> None:
    """Also one that nobody visits: what was listed once stays listed."""
    unvisited = next(f"app.-{n}" for n in range(4) if f"app.-{n}" != name_of(world, ONE))

    def drop(signed: Signed) -> None:
        assert isinstance(signed, Snapshot)
        del signed.meta[f"{unvisited}.json"]

    before = trusted(room)
    world.image.publish({"snapshot": drop})
    with pytest.raises(Refusal) as caught:
        room.cycle(KNOWN, NOW)
    assert caught.value.code == "metadata-mismatch"
    assert trusted(room) == before
    healed(world, room)


@pytest.mark.parametrize("whose", ["another bin's", "the component's own"])
def test_one_role_is_not_taken_for_another(world: World, room: TrustRoom, whose: str) -> None:
    """Signed by the same keys, of the same version: its signed name says that it is not this bin.

    Otherwise a courier could hide a release, and the device would keep what it was shown.
    """
    name = name_of(world, ONE)
    other = next(f"app.-{n}" for n in range(4) if f"app.-{n}" != name)
    other = other if whose == "another bin's" else "app"
    path = same_bin(world)
    world.image.delegated[name].version = world.image.delegated[other].version
    world.release(path, b"new")
    world.image.publish({"snapshot": version_alone})
    honest = world.image.files[newest(world, ONE)]
    version = world.image.delegated[other].version
    world.image.files[newest(world, ONE)] = world.image.files[f"{version}.{other}.json"]
    refused(world, room, "metadata-mismatch", path, MCU)
    world.image.files[newest(world, ONE)] = honest
    healed(world, room)


# -- what a bin's releases share -------------------------------------------------------------------
def shares(world: World, common: Any, own: dict[str, Any]) -> None:
    """``ONE`` says this itself, and its bin says that for all."""
    role = home(world, ONE)
    role.unrecognized_fields["common"] = common
    role.targets[ONE].unrecognized_fields["custom"] = own


def not_taken(world: World, room: TrustRoom, code: str) -> None:
    """``app`` is held with this code and ``mcu`` goes on: metadata stand, the release does not."""
    world.director.publish()
    cycle = room.cycle(KNOWN, NOW)
    assert [(h.error.code, type(h.error)) for h in cycle.held] == [(code, Refusal)]
    assert wanted(cycle) == {MCU}


@pytest.mark.parametrize(
    ("common", "code"),
    [
        ({"hardware_ids": ["gw-rev-c"]}, "hardware-mismatch"),
        ({"component": "mcu"}, "component-mismatch"),
        ({"kind": "playbook"}, "kind-mismatch"),
        ({"release_counter": 2}, "counter-mismatch"),
        ({"release_counter": "1"}, "release-malformed"),
        ({"security_fix": False}, "release-malformed"),
        ({"version": "1.0.0"}, "release-malformed"),
        ([], "release-malformed"),
    ],
)
def test_what_is_shared_is_checked_as_if_each_said_it(
    world: World, room: TrustRoom, common: Any, code: str
) -> None:
    """A description is no more believed for standing beside its release."""
    honest = deepcopy(home(world, ONE))
    custom = dict(honest.targets[ONE].unrecognized_fields["custom"])
    fields = common if isinstance(common, dict) else {}
    shares(world, common, {n: v for n, v in custom.items() if n not in fields})
    world.image.publish()
    not_taken(world, room, code)
    honest.version = home(world, ONE).version
    world.image.delegated[name_of(world, ONE)] = honest
    healed(world, room)


def test_an_honest_bin_shares_and_is_read(world: World, room: TrustRoom) -> None:
    """The same description in the other form is the same release: nothing is installed again."""
    (before,) = (w.release for w in room.cycle(KNOWN, NOW).wanted if w.release.path == ONE)
    shared.share(home(world, ONE))
    assert home(world, ONE).targets[ONE].unrecognized_fields["custom"].keys() == {
        "version",
        "notes",
        "security_fix",
    }
    world.image.publish()
    (after,) = (w.release for w in room.cycle(KNOWN, NOW).wanted if w.release.path == ONE)
    assert after == before


def test_what_a_component_shares_means_nothing(world: World, room: TrustRoom) -> None:
    """Only a bin says something for its releases; the role above it can not complete them."""
    honest = deepcopy(home(world, ONE))
    custom = honest.targets[ONE].unrecognized_fields["custom"]
    shares(world, {}, {"version": "1.0.0"})
    world.image.delegated["app"].unrecognized_fields["common"] = dict(custom)
    world.image.publish()
    not_taken(world, room, "kind-mismatch")
    honest.version = home(world, ONE).version
    world.image.delegated[name_of(world, ONE)] = honest
    healed(world, room)
