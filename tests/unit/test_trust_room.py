"""The two-repository cycle: what is wanted, what is refused, and that nothing changed then."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from simulators.repos import NOW, Repo, World, assignment_target, meta, release_target
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Targets

from ota.agent.time import EPOCH
from ota.agent.trust import TrustRoom, VerifiedImage
from ota.agent.verdict import Known
from signing import strict
from signing.errors import OtaError, Outage, Refusal, Stale


def known(**changes: object) -> Known:
    base: dict[str, object] = {
        "committed": {},
        "floors": {},
        "denied": {},
        "clock_floor": EPOCH,
    }
    return Known(**(base | changes))  # type: ignore[arg-type]  # a test's shorthand


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def room(world: World, tmp_path: Path) -> TrustRoom:
    room = TrustRoom(
        world.device,
        {"app": "gw-rev-b"},
        tmp_path / "trust",
        world.director.fetch,
        world.image.fetch,
    )
    room.provision(world.director.files["1.root.json"], world.image.files["1.root.json"])
    return room


def state_of(folder: Path) -> dict[str, bytes]:
    """Adopted trust, by file."""
    return {
        f"{repo}/{p.name}": p.read_bytes()
        for repo in ("director", "image")
        for p in sorted((folder / "trust" / repo / "current").iterdir())
    }


def test_nothing_assigned_asks_for_little(world: World, room: TrustRoom) -> None:
    """An idle device asks for two roots and one timestamp once it knows the rest."""
    room.cycle(known(), NOW)
    world.director.asked.clear()
    world.image.asked.clear()
    cycle = room.cycle(known(), NOW)
    assert cycle.wanted == cycle.held == ()
    assert world.director.asked == ["2.root.json", "timestamp.json"]
    assert world.image.asked == ["2.root.json"]


def test_agreed_release_is_wanted(world: World, room: TrustRoom, tmp_path: Path) -> None:
    """What both repositories say is wanted, and its bytes can be proven."""
    sha = world.release()
    world.assign()
    cycle = room.cycle(known(), NOW)
    (wanted,) = cycle.wanted
    assert wanted.release.sha256 == wanted.assignment.sha256 == sha
    assert wanted.targets_version == cycle.targets_version == cycle.director.targets
    file = tmp_path / "image"
    file.write_bytes(b"one")
    assert room.verify(wanted, file).path == file
    for wrong in (b"onf", b"on", b"one ", b""):
        file.write_bytes(wrong)
        with pytest.raises(Refusal) as caught:
            room.verify(wanted, file)
        assert caught.value.code == "image-mismatch"


def test_verify_follows_no_link(world: World, room: TrustRoom, tmp_path: Path) -> None:
    """A symlink in place of the image is not read."""
    world.release()
    world.assign()
    (wanted,) = room.cycle(known(), NOW).wanted
    (tmp_path / "real").write_bytes(b"one")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(Outage):
        room.verify(wanted, tmp_path / "link")


def test_only_the_room_makes_proof() -> None:
    """No one else can build a VerifiedImage."""
    with pytest.raises(TypeError):
        VerifiedImage(object(), Path("x"), None, None)  # type: ignore[arg-type]  # that is the point


def test_committed_is_not_wanted_again(world: World, room: TrustRoom) -> None:
    """Nothing to install means: committed at those hashes."""
    sha = world.release()
    world.assign()
    assert room.cycle(known(committed={"app": sha}), NOW).wanted == ()


def test_denied_until_cleared(world: World, room: TrustRoom) -> None:
    """A release that failed here stays denied until a signed assignment clears it, once."""
    sha = world.release()
    world.assign()
    denied = known(denied={("app", sha): "ota-app-1-aaaaaa-u1-w1-b1"})
    cycle = room.cycle(denied, NOW)
    assert cycle.wanted == ()
    assert [a.sha256 for a in cycle.denied] == [sha]
    world.assign(order="ota-app-1-aaaaaa-u2-w1-b1")
    assert room.cycle(denied, NOW).wanted == ()
    world.assign(order="ota-app-1-aaaaaa-u2-w1-b1", clear_denial=True)
    assert len(room.cycle(denied, NOW).wanted) == 1
    again = known(denied={("app", sha): "ota-app-1-aaaaaa-u2-w1-b1"})
    assert room.cycle(again, NOW).wanted == ()


# -- assignments that are not followed ------------------------------------------------------------
HELD: list[tuple[str, dict[str, object], dict[str, object], type[OtaError]]] = [
    ("hardware-mismatch", {}, {"hardware_id": "gw-rev-a"}, Refusal),
    ("hardware-mismatch", {"hardware_ids": ["gw-rev-a"]}, {}, Refusal),
    ("counter-mismatch", {}, {"release_counter": 2}, Refusal),
    ("kind-mismatch", {"kind": "playbook"}, {}, Refusal),
    ("component-mismatch", {"component": "os"}, {}, Refusal),
    ("release-malformed", {"hardware_ids": []}, {}, Refusal),
    ("release-malformed", {"format": "exe"}, {}, Refusal),
    ("release-malformed", {"release_counter": "1"}, {}, Refusal),
    ("image-stale", {}, {"least_image_snapshot": 99}, Outage),
    ("assignment-expired", {}, {"not_after": strict.stamp(NOW)}, Stale),
]


@pytest.mark.parametrize(("code", "custom", "assigned", "kind"), HELD)
def test_held(
    world: World,
    room: TrustRoom,
    code: str,
    custom: dict[str, object],
    assigned: dict[str, object],
    kind: type[OtaError],
) -> None:
    """Each disagreement holds that assignment under its own code; the honest one works next."""
    world.release(**custom)
    world.assign(**assigned)
    cycle = room.cycle(known(), NOW)
    assert cycle.wanted == ()
    assert [(type(h.error), h.error.code) for h in cycle.held] == [(kind, code)]
    world.release("app/app-2.bin", b"two")
    world.assign("app/app-2.bin")
    assert len(room.cycle(known(), NOW).wanted) == 1


def test_below_floor(world: World, room: TrustRoom) -> None:
    """A listed, signed, assigned release below the floor is refused (rule 4)."""
    world.release()
    world.assign()
    (held,) = room.cycle(known(floors={"app": 2}), NOW).held
    assert held.error.code == "below-floor"
    assert len(room.cycle(known(floors={"app": 1}), NOW).wanted) == 1


def test_not_listed_and_target_mismatch(world: World, room: TrustRoom) -> None:
    """The director can not invent a path, a length or a hash."""
    world.release()
    ghost = assignment_target(release_target("app/ghost.bin", b"ghost"))
    other = assignment_target(release_target("app/app-1.bin", b"two"))
    more = assignment_target(world.listed("app/app-1.bin"))
    more.hashes["sha512"] = "0" * 128
    for target, code in (
        (ghost, "not-listed"),
        (other, "target-mismatch"),
        (more, "target-mismatch"),
    ):
        world.director.targets.targets = {target.path: target}
        world.director.publish()
        (held,) = room.cycle(known(), NOW).held
        assert held.error.code == code


def test_release_signed_by_another_role(world: World, room: TrustRoom) -> None:
    """A target of component ``app`` listed by top-level targets or by ``os`` is refused."""
    target = release_target("app/app-1.bin", b"one")
    world.image.targets.targets["app/app-1.bin"] = target
    world.image.publish()
    world.director.targets.targets = {target.path: assignment_target(target)}
    world.director.publish()
    (held,) = room.cycle(known(), NOW).held
    assert held.error.code == "component-mismatch"


def test_one_component_does_not_block_another(world: World, tmp_path: Path) -> None:
    """A refused ``mcu`` leaves ``app`` its update."""
    world.image.delegate("mcu")
    room = TrustRoom(
        world.device,
        {"app": "gw-rev-b", "mcu": "m-1"},
        tmp_path / "two",
        world.director.fetch,
        world.image.fetch,
    )
    room.provision(world.director.files["1.root.json"], world.image.files["1.root.json"])
    world.release()
    world.release("mcu/mcu-1.bin", b"mcu")
    world.director.targets.targets = {
        p: assignment_target(world.listed(p)) for p in ("app/app-1.bin", "mcu/mcu-1.bin")
    }
    world.director.publish()
    cycle = room.cycle(known(), NOW)
    assert [w.release.path for w in cycle.wanted] == ["app/app-1.bin"]
    assert [(h.assignment.component, h.error.code) for h in cycle.held] == [
        ("mcu", "hardware-mismatch")
    ]


# -- director metadata that is refused as a whole ---------------------------------------------------
def _other_device(role: str) -> Callable[[World], None]:
    def lie(world: World) -> None:
        def change(signed: object) -> None:
            signed.unrecognized_fields["device"] = "press-08"  # type: ignore[attr-defined]  # Signed

        world.director.publish({role: change})

    return lie


def _delegates(world: World) -> None:
    def change(signed: object) -> None:
        assert isinstance(signed, Targets)
        role = DelegatedRole("x", [], 1, True, ["app/*"])
        signed.delegations = Delegations({}, {"x": role})

    world.director.publish({"targets": change})


def _two_assignments(world: World) -> None:
    world.release("app/app-9.bin", b"nine")
    world.director.targets.targets = {
        p: assignment_target(world.listed(p)) for p in ("app/app-1.bin", "app/app-9.bin")
    }
    world.director.publish()


def _unknown_component(world: World) -> None:
    target = assignment_target(release_target("os/os-1.bin", b"os"))
    world.director.targets.targets = {target.path: target}
    world.director.publish()


def _extra_field(world: World) -> None:
    world.assign(clear_floor=True)


def _flip(name: str) -> Callable[[World], None]:
    def lie(world: World) -> None:
        found = max(
            (n for n in world.director.files if n.endswith(name)), key=lambda n: (len(n), n)
        )
        data = bytearray(world.director.files[found])
        at = data.index(b'"signed"') + 30
        data[at] ^= 1
        world.director.files[found] = bytes(data)

    def with_news(world: World) -> None:
        world.assign(wave=2)
        lie(world)

    return with_news


def _unsigned(world: World) -> None:
    metadata = Metadata.from_bytes(world.director.files["timestamp.json"])
    metadata.signed.version += 1
    world.director.files["timestamp.json"] = metadata.to_bytes()


def _image_as_director(world: World) -> None:
    world.director.files["timestamp.json"] = world.image.files["timestamp.json"]


def _equivocates(world: World) -> None:
    world.director.timestamp.expires += timedelta(days=1)
    world.director.files["timestamp.json"] = world.director.sign(
        "timestamp", world.director.timestamp
    )


def _older(world: World) -> None:
    world.director.timestamp.version -= 1
    world.director.files["timestamp.json"] = world.director.sign(
        "timestamp", world.director.timestamp
    )
    world.director.timestamp.version += 1


def _mixed(world: World) -> None:
    """The newest timestamp with an older snapshot under the new name."""
    old = world.director.files[f"{world.director.snapshot.version}.snapshot.json"]
    world.director.publish()
    world.director.files[f"{world.director.snapshot.version}.snapshot.json"] = old


def _oversize(world: World) -> None:
    world.director.files["timestamp.json"] += b" " * 20000


REFUSED: list[tuple[str, Callable[[World], None]]] = [
    ("director-wrong-device", _other_device("timestamp")),
    ("director-wrong-device", _other_device("snapshot")),
    ("director-wrong-device", _other_device("targets")),
    ("director-delegates", _delegates),
    ("component-repeated", _two_assignments),
    ("component-unknown", _unknown_component),
    ("assignment-malformed", _extra_field),
    ("signature", _unsigned),
    ("signature", _image_as_director),
    ("equivocation", _equivocates),
    ("metadata-rollback", _older),
    ("metadata-mismatch", _mixed),
    ("metadata-mismatch", _flip("targets.json")),
    ("metadata-mismatch", _flip("snapshot.json")),
    ("oversize", _oversize),
]


@pytest.mark.parametrize(("code", "lie"), REFUSED)
def test_director_refused_and_nothing_changes(
    world: World, room: TrustRoom, tmp_path: Path, code: str, lie: Callable[[World], None]
) -> None:
    """Whatever is refused is not remembered, and the next honest update works."""
    world.release()
    world.assign()
    room.cycle(known(), NOW)
    before = state_of(tmp_path)
    honest = deepcopy(world.director)
    lie(world)
    with pytest.raises(Refusal) as caught:
        room.cycle(known(), NOW)
    assert caught.value.code == code
    assert state_of(tmp_path) == before
    world.director.__dict__.update(honest.__dict__)
    world.director.snapshot.version += 5
    world.director.timestamp.version += 5
    world.director.targets.version += 5
    world.assign(wave=3)
    (wanted,) = room.cycle(known(), NOW).wanted
    assert wanted.assignment.wave == 3


def test_another_devices_newer_metadata_does_not_brick(world: World, room: TrustRoom) -> None:
    """A neighbour's set at a far higher version is refused and leaves no version memory."""
    world.release()
    world.assign()
    room.cycle(known(), NOW)
    neighbour = Repo("press-08")
    neighbour.signers = world.director.signers
    neighbour.timestamp.version = neighbour.snapshot.version = neighbour.targets.version = 900
    neighbour.publish()
    honest = dict(world.director.files)
    world.director.files |= {n: d for n, d in neighbour.files.items() if "root" not in n}
    with pytest.raises(Refusal) as caught:
        room.cycle(known(), NOW)
    assert caught.value.code == "director-wrong-device"
    world.director.files = honest
    assert len(room.cycle(known(), NOW).wanted) == 1


def test_shared_key_is_refused(world: World, tmp_path: Path) -> None:
    """One key id in both repositories is refused at provisioning."""
    world.director.root.add_key(world.image.signers["targets"][0].public_key, "targets")
    data = world.director.publish_root(bump=False)
    room = TrustRoom(
        "press-07", {"app": "gw-rev-b"}, tmp_path / "t", world.director.fetch, world.image.fetch
    )
    with pytest.raises(Refusal) as caught:
        room.provision(data, world.image.files["1.root.json"])
    assert caught.value.code == "shared-key"
    assert not (tmp_path / "t").exists()


def test_shared_key_by_rotation_is_refused(world: World, room: TrustRoom) -> None:
    """A later director root that takes over an image key is refused in the cycle."""
    world.director.root.add_key(world.image.signers["targets"][0].public_key, "targets")
    world.director.publish_root()
    with pytest.raises(Refusal) as caught:
        room.cycle(known(), NOW)
    assert caught.value.code == "shared-key"


def test_missing_director_metadata_is_an_outage(world: World, room: TrustRoom) -> None:
    """A missing file never means "nothing assigned"."""
    del world.director.files["timestamp.json"]
    with pytest.raises(Outage) as caught:
        room.cycle(known(), NOW)
    assert caught.value.code == "missing"


# -- what a courier may write beside what is signed ------------------------------------------------
@pytest.mark.parametrize("role", ["root", "timestamp"])
@pytest.mark.parametrize("beside", ['"x": 1.5,', '"x": NaN,', '"signed": {},'])
def test_words_beside_the_signed_part_change_nothing(
    world: World, room: TrustRoom, role: str, beside: str
) -> None:
    """Root and timestamp are hashed by nobody, so anybody may add to their files; and no more."""
    world.release()
    world.director.publish_root()
    world.assign()
    name = "2.root.json" if role == "root" else "timestamp.json"
    data = world.director.files[name].decode()
    world.director.files[name] = ("{" + beside + data[1:]).encode()
    assert len(room.cycle(known(), NOW).wanted) == 1
    assert room.versions()[0].timestamp == world.director.timestamp.version
    room.check()
    world.assign(wave=2)
    assert room.cycle(known(), NOW).wanted[0].assignment.wave == 2


# -- a look without the network --------------------------------------------------------------------
def test_an_older_role_that_was_not_asked_for_is_no_fault(world: World, tmp_path: Path) -> None:
    """A new release of ``mcu`` that is not for this device leaves its memory of ``mcu`` sound."""
    world.image.delegate("mcu")
    room = TrustRoom(
        world.device,
        {"app": "gw-rev-b", "mcu": "gw-rev-b"},
        tmp_path / "two",
        world.director.fetch,
        world.image.fetch,
    )
    room.provision(world.director.files["1.root.json"], world.image.files["1.root.json"])
    sha = world.release("mcu/mcu-1.bin", b"one")
    world.assign("mcu/mcu-1.bin")
    assert len(room.cycle(known(), NOW).wanted) == 1
    world.release("mcu/mcu-2.bin", b"two")
    world.release()
    world.assign()
    assert len(room.cycle(known(committed={"mcu": sha}), NOW).wanted) == 1
    room.check()
    stored = tmp_path / "two" / "image" / "current" / "mcu.json"
    metadata = json.loads(stored.read_bytes())
    metadata["signed"]["version"] = 9
    stored.write_text(json.dumps(metadata))
    with pytest.raises(Refusal):
        room.check()


def test_a_new_root_before_the_rest_is_no_fault(world: World, room: TrustRoom) -> None:
    """Online keys were replaced and the store went away just after the root: nothing is wrong."""
    world.release()
    world.assign()
    room.cycle(known(), NOW)
    for role in ("timestamp", "snapshot", "targets"):
        world.director.replace_keys(role)
    del world.director.files["timestamp.json"]
    with pytest.raises(Outage):
        room.cycle(known(), NOW)
    assert room.versions()[0].root == 4
    room.check()


# -- time ---------------------------------------------------------------------------------------
def test_expired_is_stale_and_heals(world: World, room: TrustRoom) -> None:
    """A clock ten years ahead for one cycle is stale, then corrected, heals (rule 11)."""
    world.release()
    world.assign()
    first = room.cycle(known(), NOW)
    with pytest.raises(Stale):
        room.cycle(known(clock_floor=first.clock_floor), NOW + timedelta(days=3650))
    assert len(room.cycle(known(clock_floor=first.clock_floor), NOW).wanted) == 1


def test_clock_behind_is_lifted_to_the_floor(world: World, room: TrustRoom) -> None:
    """Ten years behind, the floor decides: what has expired by the floor stays expired."""
    behind = NOW - timedelta(days=3650)
    floor = room.cycle(known(), NOW).clock_floor
    assert floor == NOW
    late = NOW + timedelta(days=4)
    with pytest.raises(Stale):
        room.cycle(known(clock_floor=late), behind)
    assert room.cycle(known(clock_floor=floor), behind).clock_floor == floor


def test_floor_can_not_be_poisoned(world: World, room: TrustRoom) -> None:
    """``issued`` in the far future, signed by a stolen online key, does not move the floor."""

    def poison(signed: object) -> None:
        future = strict.stamp(NOW + timedelta(days=9999))
        signed.unrecognized_fields["issued"] = future  # type: ignore[attr-defined]  # Signed

    world.director.publish({"timestamp": poison})
    cycle = room.cycle(known(), NOW)
    assert cycle.clock_floor == NOW


# -- roots --------------------------------------------------------------------------------------
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_rotation_of_each_director_key(world: World, room: TrustRoom, role: str) -> None:
    """Every director role can change its key; the device follows."""
    world.release()
    world.assign()
    room.cycle(known(), NOW)
    world.director.replace_keys(role)
    world.assign(wave=2)
    assert room.cycle(known(), NOW).director.root == 2
    assert room.cycle(known(), NOW).wanted[0].assignment.wave == 2


def test_fast_forward_is_undone_by_replacing_the_key(world: World, room: TrustRoom) -> None:
    """Versions at the ceiling are forgotten when the root replaces the online keys."""
    world.release()
    world.assign()
    ahead = deepcopy(world.director)
    ahead.timestamp.version = ahead.snapshot.version = ahead.targets.version = 10**9
    ahead.publish()
    honest = dict(world.director.files)
    world.director.files |= ahead.files
    assert room.cycle(known(), NOW).director.timestamp == 10**9 + 1
    world.director.files = honest
    with pytest.raises(Refusal):
        room.cycle(known(), NOW)
    for role in ("timestamp", "snapshot", "targets"):
        world.director.replace_keys(role)
    world.assign(wave=2)
    assert room.cycle(known(), NOW).wanted[0].assignment.wave == 2


def test_many_roots_at_once(world: World, room: TrustRoom, tmp_path: Path) -> None:
    """A device that slept through 300 roots arrives, and each was kept."""
    for _ in range(300):
        world.director.publish_root()
    world.director.publish()
    assert room.cycle(known(), NOW).director.root == 301
    kept = list((tmp_path / "trust" / "director" / "roots").glob("*.root.json"))
    assert len(kept) == 300


def test_still_assigned(world: World, room: TrustRoom) -> None:
    """Just before activation the director is asked again; withdrawn means no."""
    world.release()
    world.assign()
    (wanted,) = room.cycle(known(), NOW).wanted
    assert room.still_assigned(wanted, known(), NOW)
    world.director.targets.targets = {}
    world.director.publish()
    assert not room.still_assigned(wanted, known(), NOW)


def test_metadata_is_the_device_s_own_folder(room: TrustRoom, tmp_path: Path) -> None:
    """Nothing is written outside the trust folder."""
    room.cycle(known(), NOW)
    assert {p.name for p in tmp_path.iterdir()} == {"trust"}


def test_time_is_an_argument() -> None:
    """python-tuf still has the private field through which the time goes in."""
    from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet  # noqa: PLC0415

    repo = Repo()
    from tuf.ngclient.config import EnvelopeType  # noqa: PLC0415

    made = TrustedMetadataSet(repo.files["1.root.json"], EnvelopeType.METADATA)
    assert isinstance(made.reference_time, datetime)
    assert meta(1, b"x").length == 1
