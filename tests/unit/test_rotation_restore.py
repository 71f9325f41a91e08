"""A store restored from a backup: devices and operators have seen more than it holds."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest
from simulators.rotation import APP, DEVICES, Stage, fixtures
from simulators.signed import NOW

from ota.errors import Malformed, NotPermitted, OtaError, Refusal
from ota.repositories import restoring
from ota.repositories.restoring import Seen
from signing import layout
from signing.report import Versions

LATER = NOW + timedelta(hours=1)


template, before = fixtures()


@pytest.fixture
def stage(before: Stage) -> Stage:
    """A backup was made; then a root, a release, refreshes; two devices saw that; then a fire."""
    stage = before
    store, backup = stage.folder / "w" / "store", stage.folder / "backup"
    shutil.copytree(store, backup)
    stage.edit("image.toml", '"root-2"', '"root-4"')
    stage.change("root-1", "root-3")
    stage.place.released("1.1.0")
    for device in DEVICES:
        for _ in range(3):
            stage.place.desk.refresh(device, NOW)
    assert [stage.wanted(d) for d in ("gw-1", "gw-2")] == [APP, APP]
    assert stage.place.repos.image().state(NOW) is not None
    shutil.rmtree(store)
    shutil.copytree(backup, store)
    return stage


def reported(stage: Stage, *devices: str) -> dict[str, Seen]:
    """What devices say of their trusted versions."""
    found = {}
    for device in devices:
        director, image = stage.rooms[device].versions()
        found[device] = Seen(director=director, image=image)
    return found


def test_a_restored_store_strands_devices_until_it_is_lifted(stage: Stage) -> None:
    """Devices that had seen more refuse; lifted, signed and published, all of them come back."""
    with pytest.raises(Refusal) as caught:
        stage.look("gw-1")
    assert caught.value.code == "metadata-rollback"
    with pytest.raises(Refusal):
        stage.place.repos.image().state(NOW)
    seen = reported(stage, *DEVICES)
    done = restoring.lift(stage.place.repos, 5, seen, LATER)
    assert done.roots == (layout.image_metadata("2.root.json"),)
    assert (done.devices, done.problems) == (DEVICES, {})
    assert set(done.pending.roles) == {"targets", "app"}
    stage.sign("targets-1", "targets-3", now=LATER)
    assert stage.place.repos.publish(LATER) == ["image"]
    assert [stage.wanted(device, LATER) for device in DEVICES] == [APP] * 3
    state = stage.place.repos.image().state(LATER)
    assert state is not None
    assert state.client.timestamp.version > seen["gw-1"].image.timestamp + 4
    stage.place.released("1.2.0", LATER)
    assert [stage.wanted(device, LATER) for device in DEVICES] == [APP] * 3


def test_lifting_again_keeps_the_change_and_its_signatures(stage: Stage) -> None:
    """A run that was killed half-way is run again; nobody signs twice."""
    restoring.lift(stage.place.repos, 5, reported(stage, *DEVICES), LATER)
    stage.sign("targets-1", now=LATER)
    before = stage.place.repos.pending("image")
    done = restoring.lift(stage.place.repos, 5, reported(stage, *DEVICES), LATER)
    assert done.pending == before == stage.place.repos.pending("image")
    stage.sign("targets-3", now=LATER)
    stage.place.repos.publish(LATER)
    assert [stage.wanted(device, LATER) for device in DEVICES] == [APP] * 3


def test_what_devices_say_is_passed_where_nobody_else_remembers(stage: Stage) -> None:
    """Without state/seen the reports alone tell how far it went; a lost device gets metadata."""
    shutil.rmtree(stage.place.folder / "state" / "seen")
    for path in (stage.folder / "w" / "store" / "director" / "devices" / "gw-3").iterdir():
        path.unlink()
    restoring.lift(stage.place.repos, 9, reported(stage, *DEVICES), LATER)
    stage.sign("targets-1", "targets-3", now=LATER)
    stage.place.repos.publish(LATER)
    assert [stage.wanted(d, LATER) for d in DEVICES] == [APP, APP, []]


def test_one_device_can_not_wind_what_all_share_forward(stage: Stage) -> None:
    """Its report is signed by the right key, and still a lie: the next publish must be possible."""
    seen = reported(stage, *DEVICES)
    far = Versions(root=2, timestamp=10**9 - 2, snapshot=2**53, targets=2**62)
    seen["gw-2"] = Seen(director=seen["gw-2"].director, image=far)
    restoring.lift(stage.place.repos, 5, seen, LATER)
    stage.sign("targets-1", "targets-3", now=LATER)
    stage.place.repos.publish(LATER)
    state = stage.place.repos.image().state(LATER)
    assert state is not None
    assert state.client.timestamp.version == 1 + seen["gw-1"].image.timestamp + 5
    stage.place.released("1.2.0", LATER)
    assert [stage.wanted(device, LATER) for device in DEVICES] == [APP] * 3


@pytest.mark.parametrize("by", [0, -1, 1_000_001])
def test_a_senseless_bump_is_malformed(stage: Stage, by: int) -> None:
    """Nothing is written."""
    before = stage.stored()
    with pytest.raises(Malformed):
        restoring.lift(stage.place.repos, by, {}, LATER)
    assert stage.stored() == before


def test_another_waiting_change_goes_first(stage: Stage) -> None:
    """A release that waits is not swept away."""
    path = stage.place.folder / "state" / "pending" / "image.json"
    shutil.rmtree(stage.place.folder / "state" / "seen")
    stage.place.releases.add(stage.place.build("3.0.0"), LATER)
    before = path.read_bytes()
    with pytest.raises(NotPermitted) as caught:
        restoring.lift(stage.place.repos, 5, {}, LATER)
    assert caught.value.code == "another-change"
    assert path.read_bytes() == before


def test_a_tampered_backup_is_not_lifted(stage: Stage) -> None:
    """What was restored must verify: a forged timestamp is refused, nothing is signed on top."""
    name = layout.image_metadata("timestamp.json")
    stage.store.swap(name, b"{}", stage.store.get(name, 1 << 20))
    before = {n: d for n, d in stage.stored().items() if "director" in n}
    with pytest.raises(OtaError) as caught:
        restoring.lift(stage.place.repos, 5, {}, LATER)
    assert caught.value.code == "metadata-malformed"
    assert {n: d for n, d in stage.stored().items() if "director" in n} == before
    assert stage.place.repos.pending("image") is None
