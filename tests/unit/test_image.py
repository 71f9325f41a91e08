"""The image repository: its shape, its edits, and what it refuses to sign or to open."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from simulators.signed import HARDWARE, NOW, Signed, replaced, stock_client
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from ota.repositories.catalogue import StoreCatalogue
from signing import closing, layout, strict
from signing.changes import ceremony
from signing.changes.ceremony import Pending
from signing.client.workflow import Limits
from signing.errors import Busy, Malformed, NeedsHuman, NotFound, NotPermitted, OtaError, Stale
from signing.image.change import Change
from signing.image.repository import Image
from signing.release import Release
from signing.repository import Place

LATER = NOW + timedelta(days=1)


@pytest.fixture
def place(tmp_path: Path) -> Signed:
    return Signed(tmp_path).created()


def names(place: Signed) -> list[str]:
    return list(place.store.list("image/"))


def raw(place: Signed, file: str) -> bytes:
    data = place.store.get(layout.image_metadata(file), 1 << 24)
    assert data is not None
    return data


def release(version: str, **more: Any) -> Release:
    body: dict[str, Any] = {
        "path": f"app/app-{version}.bin",
        "component": "app",
        "version": version,
        "hardware_ids": (HARDWARE,),
        "release_counter": 1,
        "format": "file",
        "length": 3,
        "hashes": {"sha256": strict.digest(version.encode())},
    }
    return Release(**(body | more))


# -- shape ---------------------------------------------------------------------------------------
def test_the_published_repository_has_the_shape_that_devices_expect(place: Signed) -> None:
    """Consistent snapshots, thresholds, terminating delegations, lengths and hashes, issued."""
    place.released("1.0.0")
    root = Metadata[Root].from_bytes(raw(place, "1.root.json")).signed
    assert root.consistent_snapshot
    assert {n: (r.threshold, len(r.keyids)) for n, r in root.roles.items()} == {
        "root": (2, 3),
        "targets": (2, 3),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
    }
    timestamp = Metadata[Timestamp].from_bytes(raw(place, "timestamp.json")).signed
    assert root.unrecognized_fields["issued"] == strict.stamp(NOW)
    assert timestamp.unrecognized_fields["issued"] == strict.stamp(NOW)
    listed = timestamp.snapshot_meta
    snapshot_bytes = raw(place, f"{listed.version}.snapshot.json")
    assert (listed.length, listed.hashes) == (
        len(snapshot_bytes),
        {"sha256": strict.digest(snapshot_bytes)},
    )
    snapshot = Metadata[Snapshot].from_bytes(snapshot_bytes).signed
    assert set(snapshot.meta) == {"targets.json", "app.json"}
    for name, meta in snapshot.meta.items():
        data = raw(place, f"{meta.version}.{name}")
        assert (meta.length, meta.hashes) == (len(data), {"sha256": strict.digest(data)})
    targets = Metadata[Targets].from_bytes(raw(place, "2.targets.json")).signed
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    role = targets.delegations.roles["app"]
    assert (role.terminating, role.paths, role.threshold) == (True, ["app/*"], 2)
    assert list(targets.targets) == ["workspace/approvers.json"]


def test_a_stock_tuf_client_reads_it(place: Signed, tmp_path: Path) -> None:
    """python-tuf's own updater finds and downloads the release through the delegation."""
    wanted = place.released("1.0.0")
    updater = stock_client(place.store, tmp_path / "client", place.repos.anchors("image")[1])
    target = updater.get_targetinfo(wanted.path)
    assert target is not None
    file = Path(updater.download_target(target))
    assert file.read_bytes() == (tmp_path / "app-1.0.0.bin").read_bytes()
    assert updater.get_targetinfo("app/other.bin") is None


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    """Metadata bytes depend on keys, policy and time only."""
    place = Signed(tmp_path)
    image = Image(place.policy, place.store.get, None)
    first, second = (msgspec.json.encode(image.create(NOW)) for _ in range(2))
    assert first == second


def test_components_of_the_policy_get_their_role_at_creation(tmp_path: Path) -> None:
    """A component with a table has its own keyholders from the first day."""
    text = '[components.mcu]\nkeyholders = ["root-3", "targets-1"]\nthreshold = 2\n[root]'
    place = Signed(tmp_path, {"image.toml": replaced(r"^\[root\]", text)})
    place.repos.create(NOW)
    pending = place.repos.pending("image")
    assert pending is not None
    assert set(pending.roles) == {"root", "targets", "mcu"}
    wanted = {place.keys[n].public_key.keyid for n in ("root-3", "targets-1")}
    assert set(pending.roles["mcu"].needs[0].by_id()) == wanted


# -- edits ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("read", "what"), [(Limits(targets=1000), "app"), (Limits(snapshot=300), "snapshot")]
)
def test_what_no_device_would_read_to_its_end_is_not_published(
    place: Signed, monkeypatch: pytest.MonkeyPatch, read: Limits, what: str
) -> None:
    """It names what to do, and nothing is written."""
    place.released("0.9.0")
    place.releases.add(place.build("1.0.0"), NOW)
    place.signed()
    before = set(place.store.list(""))
    with monkeypatch.context() as patched:
        patched.setattr(closing, "_READ", read)
        with pytest.raises(NotPermitted, match="devices read") as caught:
            place.releases.publish(NOW)
    assert (caught.value.code, caught.value.subject) == ("too-long", what)
    assert set(place.store.list("")) == before
    place.releases.publish(NOW)


def test_a_path_keeps_its_content(place: Signed) -> None:
    """A listed path with other bytes is refused, and nothing waits afterwards."""
    place.released("1.0.0")
    with pytest.raises(NotPermitted) as caught:
        place.releases.add(place.build("1.0.0", b"other bytes"), NOW)
    assert caught.value.code == "path-taken"
    assert place.repos.pending("image") is None


def test_the_same_release_again_changes_nothing(place: Signed) -> None:
    """Adding twice is idempotent, before and after publishing."""
    first = place.releases.add(place.build("1.0.0"), NOW)
    waiting = place.repos.pending("image")
    assert place.releases.add(place.build("1.0.0"), NOW) == first
    again = place.repos.pending("image")
    assert waiting is not None
    assert again is not None
    assert again.roles == waiting.roles
    place.signed()
    place.releases.publish(NOW)
    assert place.releases.add(place.build("1.0.0"), LATER) == first
    assert place.repos.pending("image") is None


def test_the_counter_rises_only_with_a_security_fix(place: Signed) -> None:
    """A release inherits the counter; a fix raises it by one; yanking does not lower it."""
    counters = [place.released(v).release_counter for v in ("1.0.0", "2.0.0")]
    fix = place.released("2.0.1", security_fix=True)
    after = place.released("3.0.0")
    assert (*counters, fix.release_counter, after.release_counter) == (1, 1, 2, 2)
    for path in (fix.path, after.path):
        place.releases.yank(path, NOW)
    place.signed()
    place.releases.publish(NOW)
    assert place.released("4.0.0").release_counter == 2


@pytest.mark.parametrize(("counter", "fix"), [(0, False), (2, False), (1, True), (3, True)])
def test_a_counter_out_of_turn_is_refused(place: Signed, counter: int, fix: bool) -> None:
    """Not even by hand can a counter be lowered, skipped or raised without a fix (rule 2)."""
    before = names(place)
    wrong = release("9", release_counter=counter, security_fix=fix)
    with pytest.raises(NotPermitted) as caught:
        place.repos.image().add(None, wrong, Path("x"), NOW)
    assert caught.value.code == "counter"
    assert names(place) == before


@pytest.mark.parametrize("component", ["workspace", "root", "targets", "snapshot", "timestamp"])
def test_reserved_names_are_no_components(place: Signed, component: str) -> None:
    """A component can not take the place of a top-level role or of the signed settings."""
    with pytest.raises(Malformed, match="reserved"):
        place.releases.add(place.build(component=component), NOW)
    assert place.repos.pending("image") is None


def test_yank_takes_a_release_off_and_its_bytes_stay(place: Signed) -> None:
    """After the yank no client finds it; other releases stay; the file is not deleted."""
    old, new = place.released("1.0.0"), place.released("2.0.0")
    place.releases.yank(old.path, NOW)
    place.signed()
    place.releases.publish(NOW)
    assert [i.release.path for i in place.releases.listing(NOW)] == [new.path]
    assert place.store.digest(layout.image_target(old.path, old.sha256)) is not None
    with pytest.raises(NotFound):
        place.releases.yank(old.path, NOW)


def test_an_edit_drops_the_signatures_that_it_outdates(place: Signed) -> None:
    """Signatures are for exact bytes: what is added later must be signed again."""
    place.releases.add(place.build("1.0.0"), NOW)
    place.signed()
    place.releases.add(place.build("2.0.0"), NOW)
    pending = place.repos.pending("image")
    assert pending is not None
    assert {n: m.have for n, m in pending.missing().items()} == {"app": 0}
    with pytest.raises(NeedsHuman) as caught:
        place.releases.publish(NOW)
    assert caught.value.exit_code == 6
    assert "app 0 of 2" in str(caught.value)


def test_one_of_two_signatures_publishes_nothing(place: Signed) -> None:
    """Below the threshold the store does not change."""
    before = names(place)
    place.releases.add(place.build(), NOW)
    place.releases.sign("targets-2", NOW)
    place.releases.sign("targets-2", NOW)
    with pytest.raises(NeedsHuman, match=r"app 1 of 2, targets 1 of 2"):
        place.releases.publish(NOW)
    assert names(place) == before


def test_approvers_are_signed_by_targets(place: Signed) -> None:
    """rollout.toml counts only once the keyholders of targets have signed it."""
    path = place.folder / "repo-metadata" / "rollout.toml"
    path.write_text('authors = ["author"]\napprovers = ["approver", "second"]\nthreshold = 2\n')
    place.reload()
    place.repos.change(NOW)
    pending = place.repos.pending("image")
    assert pending is not None
    assert set(pending.roles) == {"targets"}
    place.signed()
    place.releases.publish(NOW)
    catalogue = StoreCatalogue(
        place.policy, place.store, lambda: place.repos.anchor("image"), lambda: NOW
    )
    assert catalogue.approvers().threshold == 2


def test_renew_signs_a_role_again_with_a_new_expiry(place: Signed) -> None:
    """Nothing but version and expiry changes."""
    place.released("1.0.0")
    later = NOW + timedelta(days=100)
    place.repos.change_image(lambda image, p: image.change(p, later, ["app"]))
    place.signed(later)
    place.releases.publish(later)
    state = place.repos.image().state(later)
    assert state is not None
    assert state.roles["app"].version == 2
    assert state.roles["app"].expires == later + timedelta(days=180)
    assert len(state.releases(later)) == 1


# -- close ---------------------------------------------------------------------------------------
def test_a_change_built_on_an_older_version_is_stale(place: Signed) -> None:
    """Two changes of one role: the second one says so (exit 7) and publishes nothing."""
    first = place.repos.image().add(None, release("1"), Path("x"), NOW)
    place.released("2.0.0")
    image = place.repos.image()
    with pytest.raises(Busy) as caught:
        image.close(signed_by(place, first), online(place), NOW)
    assert caught.value.code == "stale-base"
    with pytest.raises(Busy):
        image.add(first, release("3"), Path("x"), NOW)


def signed_by(place: Signed, pending: Pending, *holders: str) -> Pending:
    for name in holders or ("targets-1", "targets-2"):
        pending, _ = ceremony.add_signature(pending, place.keys[name])
    return pending


def online(place: Signed) -> dict[str, list[CryptoSigner]]:
    return {role: [place.keys["image-online"]] for role in ("snapshot", "timestamp")}


def test_versions_left_by_others_are_skipped(place: Signed) -> None:
    """A file under the next number, of a publisher that lost or died, is never overwritten."""
    orphans = {
        layout.image_metadata(n): b"{}" for n in ("2.snapshot.json", "1.app.json", "2.app.json")
    }
    for name, data in orphans.items():
        place.store.put(name, data)
    place.released("1.0.0")
    state = place.repos.image().state(NOW)
    assert state is not None
    assert (state.client.snapshot.version, state.roles["app"].version) == (3, 3)
    for name, data in orphans.items():
        assert place.store.get(name, 99) == data


def test_a_change_that_expired_while_it_waited_is_stale(place: Signed) -> None:
    """Signatures over something already expired are not published."""
    place.releases.add(place.build(), NOW)
    place.signed()
    before = names(place)
    with pytest.raises(Stale, match="while it waited"):
        place.releases.publish(NOW + timedelta(days=181))
    assert [n for n in names(place) if n not in before] == []


def test_a_key_of_the_director_is_refused_in_the_image_repository(tmp_path: Path) -> None:
    """No key id stands in both repositories, even under two names (checked when closing)."""
    place = Signed(tmp_path)
    shared = place.keys["director-online"]
    place.keys["targets-2"] = shared
    holders = tmp_path / "repo-metadata" / "keyholders"
    (holders / "targets-2.json").write_bytes((holders / "director-online.json").read_bytes())
    place.repos.create(NOW)
    for name in (
        "root-1",
        "root-2",
        "targets-1",
        "targets-3",
        "director-root-1",
        "director-root-2",
    ):
        place.repos.sign(name, NOW)
    with pytest.raises(OtaError) as caught:
        place.repos.publish(NOW)
    assert caught.value.code == "shared-key"
    assert names(place) == []
    assert list(place.store.list("director/")) == []


def test_refresh_signs_a_timestamp_and_renews_an_old_snapshot(place: Signed) -> None:
    """A young snapshot stays; one in its last days is signed again; roles never change."""
    place.repos.refresh(LATER)
    state = place.repos.image().state(LATER)
    assert state is not None
    assert (state.client.timestamp.version, state.client.snapshot.version) == (2, 1)
    late = NOW + timedelta(days=25)
    place.repos.refresh(late)
    state = place.repos.image().state(late)
    assert state is not None
    assert (state.client.timestamp.version, state.client.snapshot.version) == (3, 2)
    assert state.client.snapshot.expires == late + timedelta(days=30)
    assert state.targets.version == 1


def test_what_has_expired_can_be_renewed(place: Signed) -> None:
    """The operator opens an expired repository; devices would call it stale."""
    much_later = NOW + timedelta(days=40)
    with pytest.raises(Stale):
        place.repos.image().state(much_later, check_expiry=True)
    place.repos.refresh(much_later)
    assert place.repos.image().state(much_later, check_expiry=True) is not None


# -- open ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "file", ["timestamp.json", "2.snapshot.json", "2.targets.json", "1.app.json"]
)
@pytest.mark.parametrize("where", [0.1, 0.4, 0.7, 0.95])
def test_a_tampered_store_is_refused_by_the_operator(
    place: Signed, file: str, where: float
) -> None:
    """Any flipped bit of any file: no edit is made on top of it, and nothing waits."""
    place.released("1.0.0")
    path = place.folder / "store" / layout.image_metadata(file)
    data = bytearray(path.read_bytes())
    data[int(len(data) * where)] ^= 1
    path.write_bytes(data)
    with pytest.raises(OtaError) as caught:
        place.releases.add(place.build("2.0.0"), NOW)
    assert caught.value.exit_code == 3
    assert place.repos.pending("image") is None


def test_another_root_in_the_store_is_not_believed(place: Signed, tmp_path: Path) -> None:
    """The operator's own root decides: a store with another repository is refused."""
    other = Signed(tmp_path / "other").created()
    for name in names(other):
        target = place.folder / "store" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((other.folder / "store" / name).read_bytes())
    with pytest.raises(OtaError) as caught:
        place.releases.listing(NOW)
    assert caught.value.code == "signature"


def test_before_creation_every_edit_says_what_to_do(tmp_path: Path) -> None:
    """No root, no edits."""
    place = Signed(tmp_path)
    with pytest.raises(NotFound) as caught:
        place.releases.add(place.build(), NOW)
    assert caught.value.remedy == "ota repo create"
    with pytest.raises(NotFound):
        place.repos.refresh(NOW)


def test_the_summary_is_read_from_the_bytes(place: Signed) -> None:
    """A signer is shown what the change really says, whatever the file claims."""
    place.releases.add(place.build("1.0.0"), NOW)
    path = place.folder / "state" / "pending" / "image.json"
    pending = ceremony.load(path)
    assert pending is not None
    ceremony.save(path, msgspec.structs.replace(pending, summary=("nothing to see",)))
    shown = place.repos.sign("targets-1", NOW)[0].summary
    assert any("app/app-1.0.0.bin, version 1.0.0 for gw-rev-b, counter 1" in w for w in shown)
    assert any("component app, any 2 of these sign: " in w for w in shown)


def test_a_first_change_without_a_root_is_malformed(tmp_path: Path) -> None:
    """A pending file that lost its root can not be closed."""
    place = Signed(tmp_path)
    pending = Image(place.policy, place.store.get, None).create(NOW)
    broken = msgspec.structs.replace(pending, roles={"targets": pending.roles["targets"]})
    edit = Change(
        place.policy, Place("image", place.store.get, layout.image_metadata), None, broken, NOW
    )
    with pytest.raises(Malformed, match="without a root"):
        edit.trusted_root()
