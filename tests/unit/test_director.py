"""The director: one device at a time, and nothing that the approved plan does not say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from simulators.signed import HARDWARE, NOW, Signed, assignment, replaced
from tuf.api.metadata import Delegations, Metadata, Snapshot, Targets, Timestamp

from ota.repositories import looking
from signing import layout, repository, strict
from signing.approval import Authorisation
from signing.assignment import Assignment
from signing.changes import ceremony
from signing.closing import Closing
from signing.director.repository import Director
from signing.director.root import close_root, create_root
from signing.errors import NotFound, NotPermitted, OtaError, Refusal, Stale
from signing.plan import Limits
from signing.release import Release

DEVICE = "gw:1"


@pytest.fixture
def place(tmp_path: Path) -> Signed:
    return Signed(tmp_path).created()


def release(version: str = "2.0.0", component: str = "app", **more: Any) -> Release:
    body: dict[str, Any] = {
        "path": f"{component}/{component}-{version}.bin",
        "component": component,
        "version": version,
        "hardware_ids": (HARDWARE, "gw-rev-c"),
        "release_counter": 3,
        "format": "file",
        "length": 1000,
        "hashes": {"sha256": strict.digest(version.encode())},
    }
    return Release(**(body | more))


NEW, OLD, MCU = release("2.0.0"), release("1.0.0"), release("7", "mcu")


@pytest.fixture
def approved(place: Signed) -> Authorisation:
    place.desk.register(DEVICE, NOW)
    place.desk.register("gw-2", NOW)
    return place.authorised(place.plan(NEW, OLD, DEVICE))


def file(place: Signed, name: str) -> bytes:
    data = place.store.get(layout.director_metadata(DEVICE, name), 1 << 20)
    assert data is not None
    return data


def files(place: Signed) -> dict[str, bytes]:
    found = {n: place.store.get(n, 1 << 20) for n in place.store.list("director/")}
    return {n: d for n, d in found.items() if d is not None}


# -- register, assign, withdraw ------------------------------------------------------------------
def test_a_registered_device_is_assigned_nothing(place: Signed) -> None:
    """Empty targets, signed, with the device's name in all three files; once only."""
    assert place.desk.register(DEVICE, NOW)
    before = files(place)
    assert not place.desk.register(DEVICE, NOW + timedelta(days=1))
    assert files(place) == before
    for signed in (
        Metadata[Timestamp].from_bytes(file(place, "timestamp.json")).signed,
        Metadata[Snapshot].from_bytes(file(place, "1.snapshot.json")).signed,
        Metadata[Targets].from_bytes(file(place, "1.targets.json")).signed,
    ):
        assert signed.unrecognized_fields["device"] == DEVICE
    assert place.desk.assignments(DEVICE) == {}
    assert place.desk.state(DEVICE).expires == NOW + timedelta(days=30)
    assert layout.director_metadata(DEVICE, "timestamp.json") in before
    assert "director/devices/gw%3A1/timestamp.json" in before


def test_an_assignment_is_published_and_read_back(place: Signed, approved: Authorisation) -> None:
    """What was assigned is what the verified metadata says; another device stays untouched."""
    wanted = assignment(NEW)
    place.desk.assign(approved, DEVICE, wanted, NOW)
    assert place.desk.assignments(DEVICE) == {"app": wanted}
    assert place.desk.assignments("gw-2") == {}
    state = place.desk.state(DEVICE)
    assert (state.versions.timestamp, state.versions.snapshot, state.versions.targets) == (2, 2, 2)
    assert state.expires == NOW + timedelta(days=3)


def test_repeating_an_assignment_is_free(place: Signed, approved: Authorisation) -> None:
    """The engine may repeat after a crash: nothing is signed twice."""
    place.desk.assign(approved, DEVICE, assignment(NEW), NOW)
    before = files(place)
    place.desk.assign(approved, DEVICE, assignment(NEW), NOW + timedelta(hours=1))
    assert files(place) == before


def test_components_of_a_device_are_merged(place: Signed, approved: Authorisation) -> None:
    """Assigning and withdrawing one component leaves the other one alone."""
    other = place.plan(MCU, None, DEVICE, rollout="mcu-7-abc123")
    mcu = assignment(MCU, rollout=other.rollout, order=f"ota-{other.rollout}-u1-w0-b0")
    place.desk.assign(approved, DEVICE, assignment(NEW), NOW)
    place.desk.assign(place.authorised(other), DEVICE, mcu, NOW)
    assert place.desk.assignments(DEVICE) == {"app": assignment(NEW), "mcu": mcu}
    targets = Metadata[Targets].from_bytes(file(place, "3.targets.json")).signed
    assert set(targets.targets) == {NEW.path, MCU.path}
    place.desk.withdraw(DEVICE, {assignment(NEW).order}, NOW)
    assert place.desk.assignments(DEVICE) == {"mcu": mcu}


def test_the_way_back_replaces_the_update(place: Signed, approved: Authorisation) -> None:
    """A rollback is new metadata that names the frozen ``from`` (rule 6)."""
    place.desk.assign(approved, DEVICE, assignment(NEW), NOW)
    back = assignment(OLD, kind="rollback")
    place.desk.assign(approved, DEVICE, back, NOW)
    assert place.desk.assignments(DEVICE) == {"app": back}
    assert place.desk.state(DEVICE).versions.targets == 3


def test_withdrawing_says_until_when_it_can_be_replayed(
    place: Signed, approved: Authorisation
) -> None:
    """The old timestamp's end; None when there is nothing to withdraw, and nothing is signed."""
    place.desk.assign(approved, DEVICE, assignment(NEW), NOW)
    assert place.desk.withdraw(DEVICE, {"ota-other"}, NOW) is None
    before = place.desk.state(DEVICE)
    assert place.desk.withdraw(DEVICE, {assignment(NEW).order}, NOW) == NOW + timedelta(days=3)
    assert before.expires == NOW + timedelta(days=3)
    assert place.desk.assignments(DEVICE) == {}
    assert place.desk.withdraw(DEVICE, {assignment(NEW).order}, NOW) is None


def test_an_unregistered_device_is_assigned_nothing(place: Signed) -> None:
    """A missing file is never taken for "no assignment"."""
    approved = place.authorised(place.plan(NEW, OLD, "gw-9"))
    for call in (
        lambda: place.desk.assign(approved, "gw-9", assignment(NEW), NOW),
        lambda: place.desk.withdraw("gw-9", set(), NOW),
        lambda: place.desk.assignments("gw-9"),
        lambda: place.desk.refresh("gw-9", NOW),
    ):
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.remedy == "ota fleet register"
    assert list(place.store.list("director/devices/")) == []


@pytest.mark.parametrize("device", ["../x", "", "a/b", "a" * 129, "a b", "a\x00"])
def test_a_device_id_is_checked_before_any_path(place: Signed, device: str) -> None:
    """Rule 14."""
    before = files(place)
    with pytest.raises(OtaError) as caught:
        place.desk.register(device, NOW)
    assert caught.value.code == "malformed"
    assert files(place) == before


# -- expiry --------------------------------------------------------------------------------------
def test_a_refresh_signs_a_timestamp_only(place: Signed, approved: Authorisation) -> None:
    """Targets and snapshot are signed again only when they would end first."""
    place.desk.assign(approved, DEVICE, assignment(NEW), NOW)
    later = NOW + timedelta(days=2)
    place.desk.refresh(DEVICE, later)
    state = place.desk.state(DEVICE)
    assert (state.versions.timestamp, state.versions.snapshot, state.versions.targets) == (3, 2, 2)
    assert state.expires == later + timedelta(days=3)
    much_later = NOW + timedelta(days=50)
    place.desk.refresh(DEVICE, much_later)
    state = place.desk.state(DEVICE)
    assert (state.versions.timestamp, state.versions.snapshot, state.versions.targets) == (4, 3, 3)
    assert state.expires == much_later + timedelta(days=30), "an ended assignment is not live"
    assert state.assignments == {"app": assignment(NEW)}


def test_expired_metadata_is_stale_for_readers_and_renewable(place: Signed) -> None:
    """The operator opens what has expired; a check with expiry says stale, never refusal."""
    place.desk.register(DEVICE, NOW)
    late = NOW + timedelta(days=31)
    director = place.repos.director()
    with pytest.raises(Stale):
        director.check(DEVICE, late)
    place.desk.refresh(DEVICE, late)
    director.check(DEVICE, late)
    assert director.read(DEVICE, late).versions.timestamp == 2


# -- the plan decides ----------------------------------------------------------------------------
OUTSIDE: dict[str, dict[str, Any]] = {
    "path": {"path": "app/app-9.bin"},
    "hash": {"hashes": {"sha256": "0" * 64}},
    "another hash beside": {"hashes": NEW.hashes | {"sha512": "0" * 128}},
    "length": {"length": 999},
    "counter lower": {"release_counter": 2},
    "counter higher": {"release_counter": 4},
    "hardware": {"hardware_id": "gw-rev-z"},
    "wave": {"wave": 1, "order": "ota-app-2-x7k2m9-u1-w1-b0"},
    "wave of the order": {"order": "ota-app-2-x7k2m9-u1-w1-b0"},
    "rollout": {"rollout": "other"},
    "order of another rollout": {"order": "ota-other-u1-w0-b0"},
    "order of a longer rollout": {"order": "ota-app-2-x7k2m9-x-u1-w0-b0"},
    "order without form": {"order": "ota-app-2-x7k2m9-"},
    "order of the other kind": {"order": "ota-app-2-x7k2m9-r1-w0-b0"},
    "kind": {"kind": "rollback", "order": "ota-app-2-x7k2m9-r1-w0-b0"},
    "clears a denial": {"clear_denial": True},
    "ended": {"not_after": strict.stamp(NOW)},
    "ends after the order's life": {"not_after": strict.stamp(NOW + timedelta(days=7, seconds=1))},
    "ends after the approval": {"not_after": strict.stamp(NOW + timedelta(days=31))},
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_the_plan_does_not_say_is_not_signed(
    place: Signed, approved: Authorisation, name: str
) -> None:
    """Each word of an assignment is compared with the plan; the store does not change."""
    before = files(place)
    with pytest.raises(Refusal) as caught:
        place.desk.assign(approved, DEVICE, assignment(NEW, **OUTSIDE[name]), NOW)
    assert caught.value.code == "outside-plan"
    assert files(place) == before


def test_another_component_than_the_plans_is_refused(
    place: Signed, approved: Authorisation
) -> None:
    """A release of another component is outside, even with all else right."""
    with pytest.raises(Refusal) as caught:
        place.desk.assign(approved, DEVICE, assignment(MCU), NOW)
    assert caught.value.code == "outside-plan"
    assert place.desk.assignments(DEVICE) == {}


def test_a_device_outside_of_the_plan_is_refused(place: Signed, approved: Authorisation) -> None:
    """The right assignment for the wrong device is not signed (rule 15)."""
    with pytest.raises(Refusal) as caught:
        place.desk.assign(approved, "gw-2", assignment(NEW), NOW)
    assert caught.value.code == "outside-plan"
    assert place.desk.assignments("gw-2") == {}


def test_no_way_back_to_what_the_plan_does_not_know(place: Signed) -> None:
    """A device whose ``from`` was unknown can not be sent anywhere (rule 7)."""
    place.desk.register(DEVICE, NOW)
    approved = place.authorised(place.plan(NEW, None, DEVICE))
    with pytest.raises(Refusal, match="no way back") as caught:
        place.desk.assign(approved, DEVICE, assignment(OLD, kind="rollback"), NOW)
    assert caught.value.code == "outside-plan"


def test_an_approval_that_ended_signs_nothing(place: Signed, approved: Authorisation) -> None:
    """The authorisation's end is asked again at each assignment."""
    late = NOW + timedelta(days=30)
    with pytest.raises(Refusal) as caught:
        place.desk.assign(approved, DEVICE, assignment(NEW), late)
    assert caught.value.code == "approval-expired"
    assert place.desk.assignments(DEVICE) == {}


def test_the_order_lifetime_of_the_plan_binds(place: Signed) -> None:
    """A plan with short orders does not allow long ones."""
    place.desk.register(DEVICE, NOW)
    limits = Limits(order_lifetime=3600)
    approved = place.authorised(place.plan(NEW, OLD, DEVICE, limits=limits))
    with pytest.raises(Refusal, match="the latest is 2026-11-23T09:00:00Z"):
        place.desk.assign(approved, DEVICE, assignment(NEW), NOW)
    short = assignment(NEW, not_after="2026-11-23T09:00:00Z")
    place.desk.assign(approved, DEVICE, short, NOW)
    assert place.desk.assignments(DEVICE) == {"app": short}


# -- a store that lies to the operator -----------------------------------------------------------
def swapped_device(place: Signed) -> None:
    for name in ("timestamp.json", "1.snapshot.json", "1.targets.json"):
        source = place.folder / "store" / layout.director_metadata("gw-2", name)
        target = place.folder / "store" / layout.director_metadata(DEVICE, name)
        target.write_bytes(source.read_bytes())


def flipped(name: str) -> Callable[[Signed], None]:
    def lie(place: Signed) -> None:
        path = place.folder / "store" / layout.director_metadata(DEVICE, name)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    return lie


def re_signed(change: Callable[[Targets], None]) -> Callable[[Signed], None]:
    """A thief of the online key signs other targets."""

    def lie(place: Signed) -> None:
        director = place.repos.director()
        client = director._open(DEVICE, NOW)
        targets = client.targets
        targets.version += 1
        change(targets)
        signer = place.keys["director-online"]
        closed = Closing({"targets": repository.signed_by(targets, [signer])}, {})
        place.repos.publisher.publish(director._close(DEVICE, client, closed, (), NOW))

    return lie


def delegating(targets: Targets) -> None:
    targets.delegations = Delegations({}, {})


def repeating(targets: Targets) -> None:
    first, second = assignment(NEW), assignment(OLD)
    targets.targets = {first.path: first.to_target(), second.path: second.to_target()}


def lacking(targets: Targets) -> None:
    target = assignment(NEW).to_target()
    del target.unrecognized_fields["custom"]["order"]
    targets.targets = {target.path: target}


def misnaming(targets: Targets) -> None:
    targets.unrecognized_fields["device"] = "gw-2"


LIES: dict[str, tuple[Callable[[Signed], None], set[str]]] = {
    "metadata of another device": (swapped_device, {"director-wrong-device"}),
    "timestamp": (flipped("timestamp.json"), {"signature", "metadata-malformed"}),
    "snapshot": (flipped("1.snapshot.json"), {"metadata-mismatch"}),
    "targets": (flipped("1.targets.json"), {"metadata-mismatch"}),
    "delegations": (re_signed(delegating), {"director-delegates"}),
    "a component twice": (re_signed(repeating), {"component-repeated"}),
    "half an assignment": (re_signed(lacking), {"assignment-malformed"}),
    "another device's name": (re_signed(misnaming), {"director-wrong-device"}),
}


@pytest.mark.parametrize("name", LIES)
def test_the_operator_builds_nothing_on_a_lie(
    place: Signed, approved: Authorisation, name: str
) -> None:
    """Tampered, foreign or ill-formed metadata is refused, and nothing is signed on top."""
    lie, codes = LIES[name]
    lie(place)
    before = files(place)
    for call in (
        lambda: place.desk.assign(approved, DEVICE, assignment(NEW), NOW),
        lambda: place.desk.withdraw(DEVICE, {"x"}, NOW),
        lambda: place.desk.refresh(DEVICE, NOW),
    ):
        with pytest.raises(Refusal) as caught:
            call()
        assert caught.value.code in codes
    assert files(place) == before
    place.desk.refresh("gw-2", NOW)


# -- keys ----------------------------------------------------------------------------------------
def test_online_thresholds_above_one_are_signed(tmp_path: Path) -> None:
    """Two of two online keys sign everything; with one of them nothing can be published."""
    text = 'keyholders = ["director-online", "second-online"]\nthreshold = 2'
    pattern = r'keyholders = \["director-online"\]\nthreshold = 1'
    place = Signed(tmp_path, {"director.toml": replaced(pattern, text)}).created()
    place.desk.register(DEVICE, NOW)
    assert len(Metadata[Targets].from_bytes(file(place, "1.targets.json")).signatures) == 2
    root = place.repos.anchor("director")
    assert root is not None
    alone = Director(place.policy, place.store.get, root, place.keys["director-online"])
    with pytest.raises(Refusal) as caught:
        alone.register("gw-2", NOW)
    assert caught.value.code == "signature"


def test_a_signer_that_is_not_online_signs_nothing_that_counts(place: Signed) -> None:
    """The image repository's online key is no director (proof before publishing)."""
    root = place.repos.anchor("director")
    assert root is not None
    thief = Director(place.policy, place.store.get, root, place.keys["image-online"])
    with pytest.raises(Refusal) as caught:
        thief.register(DEVICE, NOW)
    assert caught.value.code == "signature"
    assert list(place.store.list("director/devices/")) == []


def test_a_director_root_with_a_key_of_the_image_repository_is_refused(place: Signed) -> None:
    """No key id stands in both repositories, checked when the director's root closes, too."""
    pending = create_root(place.policy, NOW)
    for name in ("director-root-1", "director-root-2"):
        pending, _ = ceremony.add_signature(pending, place.keys[name])
    shared = place.keys["director-online"].public_key.keyid
    with pytest.raises(Refusal) as caught:
        close_root(place.policy, pending, place.store.get, {shared})
    assert caught.value.code == "shared-key"


def test_a_published_director_root_is_never_replaced(place: Signed) -> None:
    """The same bytes again: nothing. Another first root: refused."""
    pending = create_root(place.policy, NOW + timedelta(days=1))
    for name in ("director-root-1", "director-root-2"):
        pending, _ = ceremony.add_signature(pending, place.keys[name])
    with pytest.raises(NotPermitted) as caught:
        close_root(place.policy, pending, place.store.get, ())
    assert caught.value.code == "exists"


def test_assignments_survive_their_own_bytes(place: Signed, approved: Authorisation) -> None:
    """Every field of an assignment comes back from the signed target, ``clear_denial`` too."""
    wanted = msgspec.structs.replace(assignment(NEW), clear_denial=True)
    assert Assignment.from_target(wanted.to_target()) == wanted
    plan = msgspec.structs.replace(approved.plan, clear_denials=True)
    place.desk.assign(place.authorised(plan), DEVICE, wanted, NOW)
    assert place.desk.assignments(DEVICE)["app"].clear_denial


def test_devices_that_use_a_release_are_named(place: Signed, approved: Authorisation) -> None:
    """What ``release yank`` asks before it takes a release off (rule 9)."""
    place.desk.assign(approved, DEVICE, assignment(NEW), NOW)
    found = looking.uses(place.desk, [NEW.path, OLD.path], [DEVICE, "gw-2"])
    words = f"the director assigns it to {DEVICE} (order {assignment(NEW).order})"
    assert found == {NEW.path: [words], OLD.path: []}
