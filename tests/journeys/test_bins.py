"""Hash bins come, grow, shrink and go, with devices before, between and after: none needs a visit.

``gw-1`` looks at every moment, also between two objects of one publish; ``gw-2`` sleeps through
all layouts and wakes at the end; ``gw-3`` looks in some of them.
"""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from simulators.rotation import APP, BOTH, DEVICES, Stage, fixtures
from simulators.signed import NOW, stock_client
from tuf.api.metadata import Snapshot

from ota.errors import Busy, NotPermitted, Refusal, Stale
from ota.repositories import compromised, repostatus, restoring, rotating
from ota.repositories.release import Releases
from ota.repositories.restoring import Seen
from signing import bins, layout
from signing.image.state import State

LATER = NOW + timedelta(hours=1)


def released(stage: Stage) -> None:
    """1.0.0, assigned to every device, and 1.0.1 to 1.0.9; no bins yet."""
    stage.list_more(*(f"1.0.{number}" for number in range(1, 10)))
    stage.append("image.toml", "\n[components.app]\nbins = 1\n")


template, stage = fixtures(released)


@pytest.fixture(scope="module")
def spread(template: Stage, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    stage = template.copied(tmp_path_factory.mktemp("spread") / "s")
    lay_out(stage, 1, 4)
    return stage


@pytest.fixture
def four(spread: Stage, tmp_path: Path) -> Stage:
    """The same over four bins."""
    return spread.copied(tmp_path / "s")


def lay_out(stage: Stage, before: int, after: int, now: datetime = NOW) -> tuple[str, ...]:
    table = "[components.app]\nbins = "
    stage.edit("image.toml", f"{table}{before}\n", f"{table}{after}\n")
    return stage.change(*BOTH, now=now)


def state(stage: Stage) -> State:
    found = stage.place.repos.image().state(NOW)
    assert found is not None
    return found


def releases(stage: Stage) -> set[str]:
    return {r.version for r in state(stage).releases().values()}


def listed(stage: Stage) -> dict[str, int]:
    snapshot: Snapshot = state(stage).client.snapshot
    return {file.removesuffix(".json"): meta.version for file, meta in snapshot.meta.items()}


ALL = {f"1.0.{n}" for n in range(10)}


# -- layouts -----------------------------------------------------------------------------------
def test_layouts_come_and_go_and_no_device_is_stranded(stage: Stage) -> None:
    """1, 4, 32, 2 and 1 bins: all releases stay, old names stay in the snapshot, devices arrive."""
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3
    before = listed(stage)
    for had, has in ((1, 4), (4, 32), (32, 2), (2, 1)):
        with stage.watched():
            words = lay_out(stage, had, has)
        were = "1 bin becomes" if had == 1 else f"{had} bins become"
        assert f"app: {were} {has}; 10 releases move, unchanged" in words
        assert bins.count(state(stage).roles["app"]) == has
        assert releases(stage) == ALL
        after = listed(stage)
        assert set(before) <= set(after)
        assert all(after[name] >= version for name, version in before.items())
        before = after
        if has == 32:
            assert stage.wanted("gw-3") == APP
    assert len([name for name in before if bins.is_bin(name)]) == 4 + 32
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3
    stage.place.released("2.0.0")
    assert [stage.wanted(device) for device in DEVICES] == [APP] * 3
    assert all(finding.ok for finding in repostatus.verify(stage.place.repos, None, NOW))


def test_a_name_that_comes_back_goes_on_counting(four: Stage) -> None:
    """Bins that were given up and are taken again are above every version that was ever listed."""
    assert stage_versions(four) == {f"app.-{n}": 1 for n in range(4)}
    assert four.wanted("gw-1") == APP
    four.place.released("1.1.0")
    seen = listed(four)
    lay_out(four, 4, 1)
    lay_out(four, 1, 4)
    assert all(stage_versions(four)[name] > seen[name] for name in seen if bins.is_bin(name))
    assert four.wanted("gw-1") == APP


def stage_versions(stage: Stage) -> dict[str, int]:
    return {name: v for name, v in listed(stage).items() if bins.is_bin(name)}


def test_a_device_keeps_the_bins_that_it_needs_and_no_others(four: Stage) -> None:
    """A bin of the release before is let go of; what is stored verifies by itself."""
    for number in range(6):
        release = four.place.released(f"2.0.{number}")
        four.release = release
        four.approved = four.place.authorised(four.place.plan(release, None, *DEVICES))
        four.order = type(four.order)(
            **{f: getattr(four.order, f) for f in four.order.__struct_fields__}
            | {"path": release.path, "length": release.length, "hashes": dict(release.hashes)}
        )
        four.assign("gw-1")
        assert four.wanted("gw-1") == [release.path]
        kept = list((four.folder / "devices/gw-1/image/current/").glob("app.-*"))
        assert [p.name for p in kept] == [
            f"{bins.home('app', state(four).roles['app'], release.path)}.json"
        ]
        four.rooms["gw-1"].check()


def test_pythons_own_client_reads_them(four: Stage, tmp_path: Path) -> None:
    """python-tuf finds a release in its bin, and nothing where there is none."""
    root = four.place.repos.anchors("image")[1]
    updater = stock_client(four.store, tmp_path / "stock", root)
    found = updater.get_targetinfo(APP[0])
    assert found is not None
    assert found.hashes == four.release.hashes
    assert updater.get_targetinfo("app/none") is None


# -- edits -------------------------------------------------------------------------------------
def test_one_release_touches_one_bin(four: Stage) -> None:
    """Added, signed, published, taken off: each writes one bin, a snapshot and a timestamp."""
    before = four.stored()
    release = four.place.released("3.0.0")
    home = bins.home("app", state(four).roles["app"], release.path)
    new = {name for name, data in four.stored().items() if before.get(name) != data}
    assert new == {
        layout.image_metadata("timestamp.json"),
        layout.image_metadata(f"{listed(four)[home]}.{home}.json"),
        layout.image_metadata(f"{state(four).client.snapshot.version}.snapshot.json"),
        layout.image_target(release.path, release.sha256),
    }
    four.place.releases.yank(release.path, NOW)
    pending = four.place.repos.pending("image")
    assert pending is not None
    assert set(pending.roles) == {home}
    assert four.place.repos.review(pending)[0] == f"app: takes off {release.path}"
    states = {i.release.version: i.state for i in four.place.releases.listing(NOW)}
    assert (states["3.0.0"], states["1.0.1"]) == ("to be yanked", "published")
    four.place.signed()
    four.place.releases.publish(NOW)
    assert releases(four) == ALL


def test_a_security_fix_touches_the_components_role_too(four: Stage) -> None:
    """The highest counter stands in one place, whatever bin lists it, and outlives the yank."""
    fix = four.place.released("4.0.0", security_fix=True)
    assert fix.release_counter == 2
    four.place.releases.yank(fix.path, NOW)
    four.place.signed()
    four.place.releases.publish(NOW)
    assert four.place.released("4.0.1").release_counter == 2


def test_a_path_keeps_its_content_whatever_bin_lists_it(four: Stage) -> None:
    """The same build again changes nothing; another one under its path is refused."""
    again = four.place.releases.add(four.place.build("1.0.3"), NOW)
    assert again.version == "1.0.3"
    assert four.place.repos.pending("image") is None
    with pytest.raises(NotPermitted) as caught:
        four.place.releases.add(four.place.build("1.0.3", b"other"), NOW)
    assert caught.value.code == "path-taken"


def test_several_releases_are_one_sitting(four: Stage) -> None:
    """Each keyholder signs all touched bins at once, after reading what they say."""
    for number in range(8):
        four.place.releases.add(four.place.build(f"5.0.{number}"), NOW)
    pending = four.place.repos.pending("image")
    assert pending is not None
    assert set(pending.roles) == {f"app.-{n}" for n in range(4)}
    words = four.place.repos.review(pending)
    assert sum("lists app/app-5.0." in line for line in words) == 8
    (signed,) = four.place.repos.sign("targets-1", NOW)
    assert set(signed.roles) == set(pending.roles)
    assert signed.missing == dict.fromkeys(pending.roles, "1 of 2")
    four.place.repos.sign("targets-3", NOW)
    assert four.place.releases.publish(NOW) == ["image"]
    assert releases(four) == ALL | {f"5.0.{n}" for n in range(8)}


def test_two_publishers_of_two_bins_do_not_lose_each_others_release(
    four: Stage, tmp_path: Path
) -> None:
    """The second finds its bin as it was and only signs a new snapshot over both."""
    other = four.copied(tmp_path / "other")
    other.place.store = other.store = four.store
    other.place.reload()
    one, two = names_in_two_bins(four)
    for place, version in ((four.place, one), (other.place, two)):
        place.releases.add(place.build(version), NOW)
        place.signed()
    assert four.place.releases.publish(NOW) == ["image"]
    assert other.place.releases.publish(NOW) == ["image"]
    assert releases(four) == ALL | {one, two}


def names_in_two_bins(stage: Stage) -> tuple[str, str]:
    role = state(stage).roles["app"]
    homes = {bins.home("app", role, f"app/app-6.0.{n}.bin"): f"6.0.{n}" for n in range(20)}
    first, second, *_ = homes.values()
    return first, second


def test_a_change_of_one_bin_is_stale_when_that_bin_moved_on(four: Stage, tmp_path: Path) -> None:
    """The same path's bin was published meanwhile: nothing is overwritten."""
    other = four.copied(tmp_path / "other")
    other.place.store = other.store = four.store
    other.place.reload()
    for place, content in ((four.place, b"one"), (other.place, b"two")):
        place.releases.add(place.build("7.0.0", content), NOW)
        place.signed()
    four.place.releases.publish(NOW)
    before = four.stored()
    with pytest.raises(Busy) as caught:
        other.place.releases.publish(NOW)
    assert caught.value.code == "stale-base"
    assert four.stored() == before


# -- looking -----------------------------------------------------------------------------------
def test_status_shows_a_component_once_with_its_first_end(four: Stage) -> None:
    """A bin that was signed later ends later; renewing asks for those that end, in one sitting."""
    later = NOW + timedelta(days=90)
    released = four.place.released("8.0.0", later)
    home = bins.home("app", state(four).roles["app"], released.path)
    (row,) = (r for r in repostatus.status(four.place.repos, later).roles if r.role == "app")
    assert (row.bins, row.expires, row.keyholders[0]) == (4, NOW + timedelta(days=180), "targets-1")
    ending = repostatus.ending(four.place.repos, later, timedelta(days=100))
    mine = {name for _, name in ending if name.startswith("app")}
    assert mine == {"app", *(f"app.-{n}" for n in range(4))} - {home}
    (pending,) = four.place.repos.change(later, "image", ending).values()
    assert set(pending.roles) >= mine
    assert home not in pending.roles
    assert any("3 of 4 bins signed again" in w for w in four.place.repos.review(pending))
    four.sign(*BOTH, now=later)
    four.place.repos.publish(later)
    (row,) = (r for r in repostatus.status(four.place.repos, later).roles if r.role == "app")
    assert row.expires == later + timedelta(days=180)


def test_an_expired_bin_is_stale_for_its_releases_alone(four: Stage) -> None:
    """Devices wait for that release; the operator is not offered it; another bin goes on."""
    later = NOW + timedelta(days=179)
    role = state(four).roles["app"]
    version = next(
        v
        for v in (f"9.0.{n}" for n in range(50))
        if bins.home("app", role, f"app/app-{v}.bin") != bins.home("app", role, APP[0])
    )
    fresh = four.place.released(version, later)
    four.place.repos.change(later, "image", [("image", "targets"), ("image", "app")])
    four.sign(*BOTH, now=later)
    four.place.repos.publish(later)
    after = NOW + timedelta(days=181)
    four.place.repos.refresh(after)
    offered = {r.path for r in state(four).releases(after).values()}
    assert fresh.path in offered
    assert APP[0] not in offered
    four.place.desk.refresh("gw-1", after)
    (held,) = four.look("gw-1", after).held
    assert isinstance(held.error, Stale)


def test_verify_names_the_bin_that_was_touched(four: Stage) -> None:
    """A flipped byte in one bin is one finding, and the others are still checked."""
    name = layout.image_metadata(f"{listed(four)['app.-2']}.app.-2.json")
    path = four.folder / "w" / "store" / name
    path.write_bytes(path.read_bytes().replace(b'"release"', b'"releasf"', 1))
    findings = list(repostatus.verify(four.place.repos, None, NOW))
    assert [(f.name, f.code) for f in findings if not f.ok] == [("image app.-2", "signature")]
    assert {"image app.-0", "image app.-1", "image app.-3"} <= {f.name for f in findings if f.ok}


# -- keyholders --------------------------------------------------------------------------------
def test_keyholders_of_a_component_with_bins_are_rotated(four: Stage) -> None:
    """Bins whose signatures fall short are signed again, by the new keyholders, in one sitting."""
    assert [four.wanted(d) for d in DEVICES] == [APP] * 3
    with four.watched():
        four.append("image.toml", 'keyholders = ["app-1", "app-2"]\n')
        words = four.change(*BOTH, "app-1", "app-2")
    assert any("component app, keyholder targets-1" in line for line in words), words
    role = state(four).roles["app"]
    keys = {four.place.policy.key(name).keyid for name in ("app-1", "app-2")}
    assert set(bins.of(role).keyids) == keys  # type: ignore[union-attr]
    assert [four.wanted(d) for d in DEVICES] == [APP] * 3
    assert releases(four) == ALL


def test_a_keyholder_who_had_not_signed_leaves_the_bins_alone(four: Stage) -> None:
    """Two of three signed; the third goes: the role that delegates is signed again, no bin is."""
    four.append("image.toml", 'keyholders = ["targets-1", "targets-3"]\n')
    before = stage_versions(four)
    four.change(*BOTH)
    assert stage_versions(four) == before
    assert four.wanted("gw-2") == APP


ROTATIONS = {
    "a root keyholder": (('"root-2"', '"root-4"'), ("root-1", "root-3")),
    "the online keys": (('"image-online"', '"image-online-2"'), ("root-1", "root-3")),
    "who signed targets and bins": (
        ('["targets-1", "targets-2", "targets-3"]', '["targets-1", "targets-2"]'),
        ("root-1", "root-3", "targets-1", "targets-2"),
    ),
    "the threshold": (
        ('"targets-3"]\nthreshold = 2', '"targets-3"]\nthreshold = 3'),
        ("root-1", "root-3", *BOTH, "targets-2"),
    ),
}


@pytest.mark.parametrize("name", ROTATIONS)
def test_roles_above_the_bins_are_rotated(four: Stage, name: str) -> None:
    """No moment of it is a refusal, whatever must be signed again below."""
    edit, signers = ROTATIONS[name]
    assert four.wanted("gw-1") == APP
    with four.watched():
        four.edit("image.toml", *edit)
        four.change(*signers)
    assert [four.wanted(d) for d in DEVICES] == [APP] * 3
    four.place.releases.add(four.place.build("2.0.0"), NOW)
    four.sign(*[name for name in signers if name.startswith("targets")] or BOTH)
    four.place.releases.publish(NOW)
    assert releases(four) == ALL | {"2.0.0"}
    assert [four.wanted(d) for d in DEVICES] == [APP] * 3


def test_stolen_online_keys_are_replaced_above_the_bins(four: Stage) -> None:
    """What the thief wound forward is forgotten; names that are no more stay listed."""
    lay_out(four, 4, 2)
    four.wind(layout.image_metadata, four.place.keys["image-online"])
    assert four.wanted("gw-1") == APP
    before = set(listed(four))
    four.edit("image.toml", '"image-online"', '"image-new"')
    four.place.repos.change(NOW, "image", salvage=True)
    four.sign("root-1", "root-3")
    rotating.recover(four.place.repos, "image", NOW)
    assert set(listed(four)) == before >= {f"app.-{n}" for n in range(4)}
    assert [four.wanted(d) for d in DEVICES] == [APP] * 3
    assert releases(four) == ALL


# -- suspects, restores, removal ---------------------------------------------------------------
def test_what_was_listed_before_a_theft_is_vouched_for_in_any_layout(four: Stage) -> None:
    """Suspect is what came after, although every bin was signed anew since."""
    theft = NOW + timedelta(days=1)
    after = theft + timedelta(days=1)
    four.place.released("6.6.6", after)
    found = compromised.suspects(four.place.repos, "targets-1", theft, after)
    assert [r.version for r in found] == ["6.6.6"]
    lay_out(four, 4, 8, after)
    found = compromised.suspects(four.place.repos, "targets-1", theft, after)
    assert [r.version for r in found] == ["6.6.6"]


def test_a_restored_store_is_lifted_with_its_bins(stage: Stage) -> None:
    """The backup is of another layout; what devices saw since stays in the snapshot, above it."""
    lay_out(stage, 1, 2)
    backup = stage.folder / "backup"
    shutil.copytree(stage.store._root, backup)
    lay_out(stage, 2, 16)
    stage.place.released("1.1.0")
    assert [stage.wanted(d) for d in ("gw-1", "gw-2")] == [APP, APP]
    seen = listed(stage)
    shutil.rmtree(stage.store._root)
    shutil.copytree(backup, stage.store._root)
    with pytest.raises(Refusal):
        stage.look("gw-1")
    versions = stage.rooms["gw-1"].versions()
    done = restoring.lift(stage.place.repos, 5, {"gw-1": Seen(*versions)}, LATER)
    assert done.problems == {}
    assert {"app.-0", "app.-1"} <= set(done.pending.roles)
    stage.sign(*BOTH, now=LATER)
    stage.place.repos.publish(LATER)
    now = listed(stage)
    assert all(now[name] > version for name, version in seen.items() if name != "root")
    assert [stage.wanted(d, LATER) for d in DEVICES] == [APP] * 3
    stage.place.released("1.2.0", LATER)
    assert [stage.wanted(d, LATER) for d in DEVICES] == [APP] * 3


def test_a_component_is_removed_and_comes_back(four: Stage) -> None:
    """Only when it is empty; its names stay listed, its counter is remembered, versions go on."""
    releases = Releases(four.place.repos)
    mcu = releases.add(four.place.build("1.0.0", component="mcu", security_fix=True), NOW)
    four.place.signed()
    releases.publish(NOW)
    assert mcu.release_counter == 2
    four.append("image.toml", "\n[components.mcu]\nremoved = true\n")
    with pytest.raises(NotPermitted) as caught:
        four.place.repos.change(NOW)
    assert caught.value.code == "not-empty"
    four.place.releases.yank(mcu.path, NOW)
    with pytest.raises(NotPermitted):
        four.place.repos.change(NOW)
    four.place.signed()
    four.place.releases.publish(NOW)
    assert four.wanted("gw-1") == APP
    words = four.change(*BOTH)
    assert "targets: component mcu removed" in words
    assert four.wanted("gw-1") == APP
    assert "mcu" not in state(four).roles
    gone = listed(four)["mcu"]
    with pytest.raises(NotPermitted) as caught:
        four.place.releases.add(four.place.build("1.0.1", component="mcu"), NOW)
    assert caught.value.code == "removed"
    four.edit("image.toml", "removed = true", "bins = 2")
    back = four.place.releases.add(four.place.build("1.0.1", component="mcu"), NOW)
    assert back.release_counter == 2
    four.place.signed()
    four.place.releases.publish(NOW)
    assert listed(four)["mcu"] > gone
    assert [four.wanted(d) for d in DEVICES] == [APP] * 3
