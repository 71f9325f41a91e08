"""A store that shows the operator's own side an older director set of one device.

Whoever holds the bucket keeps what it held before an assignment was withdrawn, and deletes what
came after. The refresher must not sign that anew: it would give the dead assignment a new life.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.signed import NOW, Signed, assignment

from ota.errors import Outage, Refusal
from ota.repositories import expiry, gc, refreshing, repostatus
from ota.repositories.director import DirectorDesk
from signing.director.memory import DirectorMemory
from signing.report import Versions

LATER = NOW + timedelta(days=2)


class Bucket:
    """Two devices; what ``gw-1`` was assigned was withdrawn, and a thief kept the set of before."""

    def __init__(self, folder: Path) -> None:
        self.place = Signed(folder).created()
        self.release = self.place.released("1.0.0")
        for device in ("gw-1", "gw-2"):
            self.place.desk.register(device, NOW)
        approved = self.place.authorised(self.place.plan(self.release, None, "gw-1"))
        self.item = assignment(self.release, least_image_snapshot=2)
        self.place.desk.assign(approved, "gw-1", self.item, NOW)
        self.live = folder / "store" / "director" / "devices" / "gw-1"
        shutil.copytree(self.live, folder / "before")
        self.before = folder / "before"
        self.place.desk.withdraw("gw-1", {self.item.order}, NOW)
        assert self.place.desk.assignments("gw-1") == {}
        shutil.copytree(self.live, folder / "after")
        self.after = folder / "after"

    def show(self, folder: Path) -> None:
        """Make the store hold this set of the device, and nothing else of it."""
        shutil.rmtree(self.live)
        shutil.copytree(folder, self.live)

    def shown(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in self.live.iterdir()}


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    bucket = Bucket(tmp_path)
    bucket.show(bucket.before)
    return bucket


def refreshed(bucket: Bucket, **more: bool) -> refreshing.Refreshed:
    place = bucket.place
    return refreshing.refresh(place.repos, place.desk, place.policy, LATER, **more)


def healed(bucket: Bucket) -> None:
    """With the honest set back, the next refresh signs it."""
    bucket.show(bucket.after)
    assert refreshed(bucket, every=True).problems == {}
    assert bucket.place.desk.assignments("gw-1") == {}


def test_the_refresher_does_not_revive_what_was_withdrawn(bucket: Bucket) -> None:
    """Named, the other device goes on, and nothing new is signed for this one."""
    before = bucket.shown()
    done = refreshed(bucket, every=True)
    assert {name: error.code for name, error in done.problems.items()} == {
        "gw-1": "metadata-rollback"
    }
    assert done.devices == ("gw-2",)
    assert bucket.shown() == before
    healed(bucket)


@pytest.mark.parametrize(
    "edit",
    [
        lambda b: b.place.desk.refresh("gw-1", LATER),
        lambda b: b.place.desk.withdraw("gw-1", {"other"}, LATER),
        lambda b: b.place.desk.assignments("gw-1"),
        lambda b: b.place.desk.register("gw-1", LATER),
        lambda b: b.place.repos.director().check("gw-1", NOW),
    ],
)
def test_nobody_builds_on_it(bucket: Bucket, edit: Callable[[Bucket], object]) -> None:
    """Every reading of the desk refuses, in this process and in a new one."""
    before = bucket.shown()
    for _ in range(2):
        with pytest.raises(Refusal) as caught:
            edit(bucket)
        assert caught.value.code == "metadata-rollback"
        bucket.place.reload()
    assert bucket.shown() == before
    healed(bucket)


def test_monitoring_and_verify_name_it(bucket: Bucket) -> None:
    """And ``gc`` removes nothing of that device."""
    place = bucket.place
    found = expiry.expiring(place.repos, LATER, timedelta(days=30))
    assert [e.why.partition(":")[0] for e in found if e.name == "gw-1"] == ["metadata-rollback"]
    faults = {f.name: f.code for f in repostatus.verify(place.repos, place.repos.director(), NOW)}
    assert faults["director of gw-1"] == "metadata-rollback"
    assert faults["director of gw-2"] == ""
    survey = gc.collect(place.repos, list, LATER, timedelta(days=1))
    assert {d: e.code for d, e in survey.problems.items()} == {"gw-1": "metadata-rollback"}
    assert bucket.shown() == {p.name: p.read_bytes() for p in bucket.before.iterdir()}
    healed(bucket)


def test_metadata_that_vanish_are_an_outage(bucket: Bucket) -> None:
    """Never a device that was not registered yet: it would begin at version one again."""
    shutil.rmtree(bucket.live)
    looks: list[Callable[[], object]] = [
        lambda: bucket.place.desk.register("gw-1", LATER),
        lambda: bucket.place.desk.assignments("gw-1"),
    ]
    for look in looks:
        with pytest.raises(Outage) as caught:
            look()
        assert caught.value.code == "missing"
        assert "recover --bump" in caught.value.remedy
    assert not bucket.live.exists()
    bucket.live.mkdir()
    healed(bucket)


def test_a_restored_store_is_lifted_past_what_was_seen(bucket: Bucket) -> None:
    """Whoever restored it says so; versions then pass those of before, which nobody reported."""
    seen = bucket.place.repos.director_memory.of("gw-1").versions()
    assert (seen.timestamp, seen.targets) == (3, 3)
    bucket.place.desk.bump("gw-1", 10, Versions(), LATER)
    state = bucket.place.desk.state("gw-1")
    assert min(state.versions.timestamp, state.versions.targets) > 12


@pytest.mark.parametrize("unsigned", [b"\n", b" " * 9000])
def test_what_is_not_signed_stops_nobody(bucket: Bucket, unsigned: bytes) -> None:
    """A space behind the timestamp is no other publisher: the next edit replaces it."""
    bucket.show(bucket.after)
    path = bucket.live / "timestamp.json"
    path.write_bytes(path.read_bytes() + unsigned)
    bucket.place.desk.refresh("gw-1", LATER)
    assert not path.read_bytes().endswith(b" ")
    assert bucket.place.desk.state("gw-1").versions.timestamp == 4
    image = bucket.place.folder / "store" / "image" / "metadata" / "timestamp.json"
    assert bucket.place.repos.image().state(NOW) is not None
    image.write_bytes(image.read_bytes() + unsigned)
    bucket.place.repos.refresh(LATER)
    assert not image.read_bytes().endswith(b" ")


def test_another_machine_knows_what_it_saw(bucket: Bucket, tmp_path: Path) -> None:
    """One that never saw the withdrawal can not know; the one that did notices at its next look."""
    other = bucket.place.repos.director()
    other._memory = DirectorMemory(tmp_path / "other.sqlite")
    DirectorDesk(other, bucket.place.repos.publisher).refresh("gw-1", LATER)
    with pytest.raises(Refusal) as caught:
        bucket.place.desk.assignments("gw-1")
    assert caught.value.code == "equivocation"
    healed(bucket)
