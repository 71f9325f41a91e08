"""Keys change in every role, with devices before, between and after: none needs a visit.

``gw-1`` looks at every moment, also between two objects of one publish; ``gw-2`` sleeps through
all of it and wakes at the end; ``gw-3`` looks before and after.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from simulators.rotation import APP, BOTH, DEVICES, FAR, Stage, fixtures, of_device
from simulators.signed import NOW
from tuf.api.metadata import Metadata, Root

from ota.errors import Busy, NeedsHuman, NotFound, NotPermitted, OtaError, Outage, Refusal
from ota.ports import Device
from ota.repositories import compromised, repostatus, rotating
from ota.repositories.compromised import Affected
from signing import layout
from signing.changes import ceremony, rotation
from signing.director.repository import Director
from signing.report import ComponentState, Slot
from signing.repository import encoded

template, stage = fixtures()

ROOTS = ("root-1", "root-3")
ROTATIONS = {
    "root keyholder replaced": (
        ("image.toml", '"root-2"', '"root-4"'),
        ROOTS,
        "root: keyholder root-2 removed, root-4 added; threshold 2 stays",
    ),
    "root keyholder removed": (
        ("image.toml", '["root-1", "root-2", "root-3"]', '["root-1", "root-3"]'),
        ROOTS,
        "root: keyholder root-2 removed; threshold 2 stays",
    ),
    "root keyholder added": (
        ("image.toml", '"root-3"]', '"root-3", "root-4"]'),
        ROOTS,
        "root: keyholder root-4 added; threshold 2 stays",
    ),
    "root threshold raised": (
        ("image.toml", '"root-3"]\nthreshold = 2', '"root-3"]\nthreshold = 3'),
        (*ROOTS, "root-2"),
        "root: threshold 2 becomes 3",
    ),
    "every root keyholder replaced": (
        ("image.toml", '["root-1", "root-2", "root-3"]', '["new-1", "new-2"]'),
        (*ROOTS, "new-1", "new-2"),
        "root: keyholder root-1, root-2, root-3 removed, new-1, new-2 added; threshold 2 stays",
    ),
    "targets keyholder who signed removed": (
        ("image.toml", '["targets-1", "targets-2", "targets-3"]', '["targets-1", "targets-2"]'),
        (*ROOTS, "targets-1", "targets-2"),
        "targets: keyholder targets-3 removed; threshold 2 stays",
    ),
    "targets keyholder who did not sign removed": (
        ("image.toml", '["targets-1", "targets-2", "targets-3"]', '["targets-1", "targets-3"]'),
        (*ROOTS, *BOTH),
        "targets: component app, keyholder targets-2 removed; threshold 2 stays",
    ),
    "targets threshold lowered": (
        ("image.toml", '"targets-3"]\nthreshold = 2', '"targets-3"]\nthreshold = 1'),
        (*ROOTS, *BOTH),
        "targets: threshold 2 becomes 1",
    ),
    "both online keys of the image repository": (
        ("image.toml", '"image-online"', '"image-online-2"'),
        ROOTS,
        "timestamp: keyholder image-online removed, image-online-2 added; threshold 1 stays",
    ),
    "director root keyholder replaced": (
        ("director.toml", '"director-root-2"', '"director-root-4"'),
        ("director-root-1", "director-root-3"),
        "root: keyholder director-root-2 removed, director-root-4 added; threshold 2 stays",
    ),
    "approvers": (
        ("rollout.toml", '["approver"]', '["approver", "approver-2"]'),
        BOTH,
        "targets: CHANGES workspace/approvers.json: hashes ",
    ),
}


@pytest.mark.parametrize("name", ROTATIONS)
def test_a_role_is_rotated_under_the_eyes_of_devices(stage: Stage, name: str) -> None:
    """No moment of it is a refusal, and a device that slept arrives."""
    edit, signers, words = ROTATIONS[name]
    assert stage.wanted("gw-3") == APP
    stage.edit(*edit)
    with stage.watched():
        said = stage.change(*signers)
    assert any(words in line for line in said), said
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3
    assert stage.place.repos.change(NOW) == {}
    stage.place.repos.refresh(NOW + timedelta(hours=1))
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3


def test_a_component_gets_keyholders_of_its_own(stage: Stage) -> None:
    """Its role is signed by them from then on; the old ones can not sign it any more."""
    stage.append("image.toml", '\n[components.app]\nkeyholders = ["app-1", "app-2"]\n')
    with stage.watched():
        words = stage.change(*BOTH, "app-1", "app-2")
    assert any("component app, keyholder targets-1" in line for line in words)
    assert stage.wanted("gw-2") == APP
    stage.place.releases.add(stage.place.build("1.1.0"), NOW)
    with pytest.raises(NotPermitted) as caught:
        stage.place.releases.sign("targets-1", NOW)
    assert caught.value.code == "key-not-in-role"
    stage.sign("app-1", "app-2")
    assert stage.place.releases.publish(NOW) == ["image"]
    assert stage.wanted("gw-1") == APP


def test_every_targets_keyholder_is_replaced(stage: Stage) -> None:
    """Nobody who signed before signs again. The next look of every device is a good one."""
    assert stage.wanted("gw-1") == APP
    stage.edit("image.toml", '["targets-1", "targets-2", "targets-3"]', '["new-1", "new-2"]')
    stage.change(*ROOTS, "new-1", "new-2")
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3


def test_a_device_sleeps_through_six_hundred_roots(stage: Stage) -> None:
    """It takes one root after the other, keeps each, and arrives in one cycle."""
    place = stage.place
    keys = [place.keys[n] for n in ROOTS]
    data = place.repos.anchors("image")[1]
    for version in range(2, 602):
        root = Metadata[Root].from_bytes(data).signed
        top = place.repos.image()._top()
        new, _ = rotation.next_root(root, place.policy.image.root, top, NOW)
        made = {s.keyid: s for s in (k.sign(Metadata(new).signed_bytes) for k in keys)}
        data = encoded(new, made)
        name = layout.image_metadata(f"{version}.root.json")
        (stage.folder / "w" / "store" / name).write_bytes(data)
    assert stage.wanted("gw-2") == APP
    assert stage.look("gw-2").image.root == 601
    assert place.repos.root("image").version == 601


def test_many_rotations_one_after_the_other(stage: Stage) -> None:
    """Root keyholders walk on, one at a time, until nobody of the first ones is left."""
    names = ["root-1", "root-2", "root-3"]
    for number in range(4, 9):
        out, *stays = names
        stage.edit("image.toml", f'"{out}"', f'"root-{number}"')
        stage.change(*stays)
        names = [*stays, f"root-{number}"]
    assert stage.place.repos.root("image").version == 6
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3


# -- the director's online key -------------------------------------------------------------------
def rotated(stage: Stage) -> None:
    """The policy names another online key of the director."""
    stage.edit("director.toml", '["director-online"]', '["director-online-2"]')


DIRECTOR_ROOTS = ("director-root-1", "director-root-3")


def test_the_director_key_rotates_and_strands_nobody(stage: Stage) -> None:
    """Old and new key sign for every device, then the root; at each moment devices are content."""
    rotated(stage)
    with stage.watched():
        with pytest.raises(NeedsHuman) as caught:
            rotating.rotate(stage.place.repos, "director", NOW)
        assert caught.value.code == "unsigned"
        assert stage.wanted("gw-3") == APP
        stage.sign(*DIRECTOR_ROOTS)
        done = rotating.rotate(stage.place.repos, "director", NOW)
    assert (done.root, done.devices, done.problems) == (2, (), {})
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3
    again = rotating.rotate(stage.place.repos, "director", NOW)
    assert (again.root, again.devices) == (2, ())
    del stage.place.keys["director-online"]
    later = NOW + timedelta(days=2)
    for device in DEVICES:
        stage.place.desk.refresh(device, later)
    assert [stage.wanted(device, later) for device in DEVICES] == [APP] * 3


def test_publishing_refuses_to_strand_a_device(stage: Stage) -> None:
    """A director root is not published by itself while devices hold metadata of the old key."""
    rotated(stage)
    stage.place.repos.change(NOW)
    stage.sign(*DIRECTOR_ROOTS)
    before = stage.stored()
    with pytest.raises(NotPermitted) as caught:
        stage.place.repos.publish(NOW)
    assert (caught.value.code, caught.value.subject) == ("strands", "gw-1")
    assert "rotate-online" in caught.value.remedy
    assert stage.stored() == before
    assert rotating.rotate(stage.place.repos, "director", NOW).devices == DEVICES
    assert stage.wanted("gw-2") == APP


def test_a_device_that_joins_in_the_middle_is_not_stranded(stage: Stage) -> None:
    """Registered by the old key after the others were signed twice: the next run sees to it."""
    rotated(stage)
    with pytest.raises(NeedsHuman):
        rotating.rotate(stage.place.repos, "director", NOW)
    stage.place.desk.register("gw-9", NOW)
    stage.sign(*DIRECTOR_ROOTS)
    assert rotating.rotate(stage.place.repos, "director", NOW).devices == ("gw-9",)
    assert stage.place.desk.assignments("gw-9") == {}


def test_metadata_of_the_old_key_alone_is_mended_afterwards(stage: Stage) -> None:
    """Somebody wrote between the look and the root: the next run signs it, and nothing is lost."""
    rotated(stage)
    old = {n: d for n, d in stage.stored().items() if "/gw-1/" in n}
    with pytest.raises(NeedsHuman):
        rotating.rotate(stage.place.repos, "director", NOW)
    stage.sign(*DIRECTOR_ROOTS)
    rotating.rotate(stage.place.repos, "director", NOW)
    name = layout.director_metadata("gw-1", "timestamp.json")
    stage.store.swap(name, old[name], stage.store.get(name, 1 << 20))
    with pytest.raises(Refusal):
        stage.look("gw-1")
    assert rotating.rotate(stage.place.repos, "director", NOW).devices == ("gw-1",)
    assert stage.wanted("gw-1") == APP


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 8, 9, 10])
def test_a_killed_rotation_goes_on(stage: Stage, stop: int) -> None:
    """Killed after any object became public: the same command ends it, devices never suffer."""
    rotated(stage)
    left = [stop]

    def kill(_name: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Outage("killed")

    for signers in ((), DIRECTOR_ROOTS):
        stage.store.after = kill
        stage.sign(*signers)
        with contextlib.suppress(NeedsHuman, Outage):
            rotating.rotate(stage.place.repos, "director", NOW)
        stage.store.after = None
        assert stage.wanted("gw-1") == APP
    stage.place.reload()
    done = rotating.rotate(stage.place.repos, "director", NOW)
    assert (done.root, done.problems) == (2, {})
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3


# -- stolen online keys --------------------------------------------------------------------------
def test_a_stolen_director_key_is_replaced(stage: Stage) -> None:
    """A thief wound versions forward: devices that saw it and those that did not come back."""
    stolen = stage.place.keys["director-online"]
    for device in ("gw-1", "gw-2"):
        stage.wind(of_device(device), stolen)
    assert stage.look("gw-1").director.timestamp == FAR
    rotated(stage)
    with pytest.raises(NeedsHuman):
        rotating.recover(stage.place.repos, "director", NOW)
    stage.sign(*DIRECTOR_ROOTS)
    done = rotating.recover(stage.place.repos, "director", NOW)
    assert (done.root, done.devices, done.problems) == (2, DEVICES, {})
    assert [stage.wanted(device) for device in DEVICES] == [[]] * 3
    assert stage.look("gw-1").director.timestamp < 100
    assert rotating.recover(stage.place.repos, "director", NOW).devices == ()
    for device in DEVICES:
        stage.assign(device)
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3
    first = stage.place.repos.anchors("director")[1]
    thief = Director(stage.place.policy, stage.store.get, first, stolen)
    with pytest.raises(Refusal) as caught:
        thief.refresh("gw-1", NOW)
    assert caught.value.code == "signature"


def test_recovery_does_not_read_what_the_thief_left(stage: Stage) -> None:
    """Garbage, or nothing, where metadata was: the devices' metadata is made anew."""
    names = [layout.director_metadata(d, "timestamp.json") for d in ("gw-1", "gw-2")]
    stage.store.swap(names[0], b"not metadata", stage.store.get(names[0], 1 << 20))
    rotated(stage)
    stage.place.repos.change(NOW)
    stage.sign(*DIRECTOR_ROOTS)
    done = rotating.recover(stage.place.repos, "director", NOW)
    assert (done.devices, done.problems) == (DEVICES, {})
    assert [stage.wanted(device) for device in DEVICES] == [[]] * 3


def test_recovery_wants_other_keys(stage: Stage) -> None:
    """A policy that still names the stolen key replaces nothing: refused, nothing is signed."""
    before = stage.stored()
    with pytest.raises(NotPermitted) as caught:
        rotating.recover(stage.place.repos, "director", NOW)
    assert caught.value.code == "key-kept"
    stage.edit("director.toml", '["director-online"]', '["director-online", "director-online-2"]')
    with pytest.raises(NotPermitted) as caught:
        rotating.recover(stage.place.repos, "director", NOW)
    assert caught.value.code == "key-kept"
    assert stage.stored() == before


def test_a_stolen_image_online_key_is_replaced(stage: Stage) -> None:
    """Fast-forwarded timestamp and snapshot are undone by new keys, seen or not seen."""
    stage.wind(layout.image_metadata, stage.place.keys["image-online"])
    assert stage.look("gw-1").image.snapshot == FAR
    stage.edit("image.toml", '"image-online"', '"image-online-2"')
    with pytest.raises(NeedsHuman):
        rotating.recover(stage.place.repos, "image", NOW)
    stage.sign(*ROOTS)
    assert rotating.recover(stage.place.repos, "image", NOW).root == 2
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3
    assert max(stage.look("gw-1").image.snapshot, stage.look("gw-2").image.timestamp) < 100
    stage.place.released("1.1.0")
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3


def test_an_unreadable_image_repository_is_recovered_from_memory(stage: Stage) -> None:
    """A thief with key and store left nonsense: what this workspace has seen stands again."""
    name = layout.image_metadata("timestamp.json")
    assert stage.place.repos.image().state(NOW) is not None
    stage.edit("image.toml", '"image-online"', '"image-online-2"')
    stage.place.repos.change(NOW)
    stage.sign(*ROOTS)
    stage.store.swap(name, b"{}", stage.store.get(name, 1 << 20))
    rotating.recover(stage.place.repos, "image", NOW)
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3


# -- what is refused -----------------------------------------------------------------------------
def test_the_old_threshold_must_sign_too(stage: Stage) -> None:
    """New root keyholders alone can not make themselves; nothing is stored."""
    stage.edit("image.toml", '["root-1", "root-2", "root-3"]', '["new-1", "new-2"]')
    stage.place.repos.change(NOW)
    stage.sign("new-1", "new-2", "root-1")
    before = stage.stored()
    with pytest.raises(NeedsHuman) as caught:
        stage.place.repos.publish(NOW)
    assert "root 1 of 2" in str(caught.value)
    assert stage.stored() == before
    stage.sign("root-2")
    assert stage.place.repos.publish(NOW) == ["image"]


def test_a_root_that_lies_about_its_needs_is_not_published(stage: Stage) -> None:
    """The pending file asks only for the new keyholders: signing refuses, and so does the proof."""
    stage.edit("image.toml", '["root-1", "root-2", "root-3"]', '["new-1", "new-2"]')
    pending = stage.place.repos.change(NOW)["image"]
    role = pending.roles["root"]
    lie = msgspec.structs.replace(role, needs=role.needs[1:])
    forged = msgspec.structs.replace(pending, roles={"root": lie})
    ceremony.save(stage.place.folder / "state" / "pending" / "image.json", forged)
    before = stage.stored()
    with pytest.raises(OtaError, match="other signatures"):
        stage.sign("new-1")
    for name in ("new-1", "new-2"):
        forged, _ = ceremony.add_signature(forged, stage.place.keys[name])
    ceremony.save(stage.place.folder / "state" / "pending" / "image.json", forged)
    with pytest.raises(Refusal) as caught:
        stage.place.repos.publish(NOW)
    assert caught.value.code == "signature"
    assert stage.stored() == before
    assert list(stage.place.repos.anchors("image")) == [1]


@pytest.mark.parametrize("repository", ["image", "director"])
def test_a_change_on_an_old_base_is_refused(stage: Stage, repository: str) -> None:
    """Another workspace was first: signing and publishing say so, and nothing is stored."""
    prefix = "" if repository == "image" else "director-"
    signers = (f"{prefix}root-1", f"{prefix}root-3")
    stage.edit(f"{repository}.toml", f'"{prefix}root-2"', f'"{prefix}root-4"')
    stage.place.repos.change(NOW)
    stage.sign(signers[0])
    path = stage.place.folder / "state" / "pending" / f"{repository}.json"
    late = path.read_bytes()
    path.unlink()
    stage.edit(f"{repository}.toml", f'"{prefix}root-4"', f'"{prefix}root-5"')
    stage.change(*signers)
    path.write_bytes(late)
    before = stage.stored()
    for act in (
        lambda: stage.sign(signers[1]),
        lambda: stage.place.repos.change(NOW),
        lambda: stage.place.repos.publish(NOW),
    ):
        with pytest.raises((Busy, NeedsHuman)) as caught:
            act()
        assert caught.value.code in {"stale-base", "unsigned"}
    with pytest.raises(Busy, match="is at version 2, the change is built on 1"):
        stage.sign(signers[1])
    assert path.read_bytes() == late
    assert stage.stored() == before


def test_a_keyholder_without_a_public_file_does_not_stop_reading(stage: Stage) -> None:
    """Public keys of published keyholders may be gone: everything opens, names become ids."""
    folder = stage.place.folder / "repo-metadata" / "keyholders"
    gone = stage.place.keys["root-2"].public_key.keyid
    stage.edit("image.toml", '"root-2"', '"root-4"')
    (folder / "root-2.json").unlink()
    words = stage.change(*ROOTS)
    assert any(f"unknown key {gone[:12]} removed, root-4 added" in line for line in words)
    (folder / "root-3.json").unlink()
    assert stage.place.repos.image().state(NOW) is not None
    assert repostatus.status(stage.place.repos, NOW).roles
    assert stage.wanted("gw-2") == APP


# -- a stolen key of a targets keyholder ---------------------------------------------------------
@pytest.mark.parametrize("rotate_first", [False, True])
def test_what_a_stolen_targets_key_let_in_is_found_and_taken_off(
    stage: Stage, rotate_first: bool
) -> None:
    """Releases from before the theft stay; later ones go, and the devices that have them show."""
    place, theft = stage.place, NOW + timedelta(days=2)
    place.released("1.1.0", NOW + timedelta(days=1))
    bad = place.released("1.2.0", theft + timedelta(days=1))
    later = theft + timedelta(days=2)
    place.repos.refresh(later)

    def rotate() -> None:
        stage.edit("image.toml", '"targets-2"', '"targets-4"')
        stage.change(*ROOTS, *BOTH, now=later)

    if rotate_first:
        rotate()
    found = compromised.suspects(place.repos, "targets-2", theft, later)
    assert [r.path for r in found] == [bad.path]
    assert compromised.affected(
        found, [holding("gw-1", bad.sha256), holding("gw-2", "0" * 64)]
    ) == (Affected("gw-1", "app", bad.path, "runs"),)
    place.releases.yank(bad.path, later)
    if rotate_first:
        stage.sign("targets-1", "targets-4", now=later)
        place.repos.publish(later)
    else:
        rotate()
    state = place.repos.image().state(later)
    assert state is not None
    assert sorted(state.releases()) == ["app/app-1.0.0.bin", "app/app-1.1.0.bin"]
    gone = place.keys["targets-2"].public_key.keyid
    assert gone not in state.client.root.keys
    assert gone not in (state.targets.delegations.keys if state.targets.delegations else {})
    for device in DEVICES:
        place.desk.refresh(device, later)
        assert stage.wanted(device, later) == APP
    assert compromised.suspects(place.repos, "targets-2", theft, later) == ()


def test_history_that_does_not_verify_vouches_for_nothing(stage: Stage) -> None:
    """A thief with the bucket rewrites or removes old metadata: everything becomes suspect."""
    place = stage.place
    assert compromised.suspects(place.repos, "targets-2", NOW + timedelta(days=1), NOW) == ()
    place.released("1.1.0", NOW + timedelta(days=2))
    path = stage.folder / "w" / "store" / layout.image_metadata("1.app.json")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"app-1.0.0", b"app-1.1.0"))
    found = compromised.suspects(place.repos, "targets-2", NOW + timedelta(days=1), NOW)
    assert [r.version for r in found] == ["1.0.0", "1.1.0"]
    with pytest.raises(NotFound):
        compromised.suspects(place.repos, "root-1", NOW, NOW)


def holding(name: str, sha256: str) -> Device:
    """A registered device that said what it runs."""
    state = ComponentState(
        hardware_id="gw-rev-b", floor=1, current=Slot(sha256=sha256, length=1), previous=None
    )
    key = CryptoSigner.generate_ed25519().public_key
    return Device(name, key, "active", "s", 1, "spool", components={"app": state})


# -- batches ---------------------------------------------------------------------------------------
def test_one_sitting_signs_a_whole_batch(stage: Stage) -> None:
    """A new keyholder, a release and renewals wait together; each person signs once."""
    stage.edit("image.toml", '"targets-2"', '"targets-4"')
    stage.place.releases.add(stage.place.build("1.1.0"), NOW)
    made = stage.place.repos.change(NOW, renew=[("image", "root"), ("director", "root")])
    assert sorted(made["image"].roles) == ["app", "root", "targets"]
    assert sorted(made["director"].roles) == ["root"]
    for name in (*ROOTS, *BOTH, *DIRECTOR_ROOTS):
        stage.sign(name)
    assert stage.place.repos.publish(NOW) == ["image", "director-root"]
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3
    assert [stage.look(d).director.root for d in DEVICES] == [2] * 3


def test_a_renewal_needs_a_new_version(stage: Stage) -> None:
    """Signed again for its expiry: the next version, the same content, said in words."""
    made = stage.place.repos.change(NOW + timedelta(days=90), renew=[("image", "app")])["image"]
    (words,) = stage.place.repos.review(made)
    assert words.startswith("app: version 1 -> 2, until 2027-08-20")
    with pytest.raises(NotFound):
        stage.place.repos.change(NOW, renew=[("image", "nobody")])


def test_a_change_that_was_taken_back_waits_no_more(stage: Stage) -> None:
    """The policy says again what is published: nothing waits, no signature is asked."""
    stage.edit("image.toml", '"root-2"', '"root-4"')
    stage.edit("director.toml", '"director-root-2"', '"director-root-4"')
    assert set(stage.place.repos.change(NOW)) == {"image", "director"}
    stage.edit("image.toml", '"root-4"', '"root-2"')
    stage.edit("director.toml", '"director-root-4"', '"director-root-2"')
    assert stage.place.repos.change(NOW) == {}
    assert stage.place.repos.waiting() == {}


def test_changing_twice_keeps_signatures(stage: Stage) -> None:
    """The same policies again: the change that waits is the same, byte for byte."""
    stage.edit("image.toml", '"root-2"', '"root-4"')
    stage.place.repos.change(NOW)
    stage.sign("root-1")
    before = stage.place.repos.pending("image")
    stage.place.repos.change(NOW + timedelta(hours=1))
    assert stage.place.repos.pending("image") == before
    dry = stage.place.repos.change(NOW, dry_run=True)
    assert dry["image"] == before


NEAR = 10**9 - 2
"""The highest version that could still have been counted: a thief who knows that winds so far."""


@pytest.mark.parametrize("far", [NEAR, NEAR - 1, NEAR // 2])
def test_a_thief_who_stays_credible_winds_nothing_forward(stage: Stage, far: int) -> None:
    """What a stolen key signed is replaced by what was counted, however far it went."""
    stage.wind(layout.image_metadata, stage.place.keys["image-online"], far)
    for device in ("gw-1", "gw-2"):
        stage.wind(of_device(device), stage.place.keys["director-online"], far)
    assert stage.look("gw-1").image.snapshot == far
    stage.edit("image.toml", '"image-online"', '"image-online-2"')
    rotated(stage)
    stage.place.repos.change(NOW)
    stage.sign(*ROOTS, *DIRECTOR_ROOTS)
    rotating.recover(stage.place.repos, "image", NOW)
    done = rotating.recover(stage.place.repos, "director", NOW)
    assert (done.devices, done.problems) == (DEVICES, {})
    for number in range(1, 5):
        stage.place.released(f"2.0.{number}")
        for device in DEVICES:
            stage.place.desk.refresh(device, NOW)
            stage.place.repos.refresh(NOW)
            stage.look(device)
    for device in DEVICES:
        stage.assign(device)
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3
