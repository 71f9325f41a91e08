"""100,000 releases: how much one more costs, and how little a device reads. Bytes and requests only.

The repository is generated (``manyreleases.py``), with the metadata that the product would sign;
what is measured in it is done by the product. Times are in ``tests/benchmarks/bench_scale.py``.
"""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path

import pytest
from simulators import manyreleases
from simulators.manyreleases import Counting, Device, assign, sizes
from simulators.signed import NOW, Signed

from signing import bins, layout
from signing.image.state import State

pytestmark = pytest.mark.xdist_group("scale")
"""One worker makes the repository, once, and its tests add to it in their order."""
RELEASES, BINS = 100_000, 1024
KB = 1000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signed, State]:
    """The repository, and its state before any test has added a release."""
    folder = tmp_path_factory.mktemp("scale") / "w"
    folder.mkdir()
    place = manyreleases.many(folder, RELEASES, BINS, Counting(folder / "store"))
    found = place.repos.image().state(NOW)
    assert found is not None
    return place, found


@pytest.fixture
def place(world: tuple[Signed, State]) -> Signed:
    return world[0]


@pytest.fixture
def state(world: tuple[Signed, State]) -> State:
    return world[1]


def test_every_bin_is_small_enough(place: Signed, state: State) -> None:
    """1,024 bins of about 98 releases each; 31 bytes for each bin in the snapshot.

    One more release writes its bin, a snapshot and a timestamp; a new device reads those and some
    4 kB that do not depend on the number of releases. Both stay within 64 kB for the fullest bin.
    """
    found = [size for name, size in sizes(place).items() if ".app.-" in name]
    snapshot = sizes(place)[layout.image_metadata("2.snapshot.json")]
    assert len(found) == BINS == bins.count(state.roles["app"])
    assert snapshot < 32 * KB
    assert statistics.mean(found) < 21 * KB
    assert max(found) + snapshot + KB <= 64 * KB


def test_one_more_release_writes_little_and_reads_little(place: Signed) -> None:
    """One bin, a snapshot, a timestamp: at most 64 kB, after a few small reads, not 100,000."""
    assert isinstance(place.store, Counting)
    for number in range(3):
        before = sizes(place)
        place.store.reads = 0
        place.released(f"200.0.{number}")
        after = sizes(place)
        new = {n: s for n, s in after.items() if before.get(n) != s or n.endswith("timestamp.json")}
        kinds = Counter(n.rpartition("/")[2].partition(".")[2].partition("-")[0] for n in new)
        assert kinds == {"json": 1, "snapshot.json": 1, "app.": 1}
        assert sum(new.values()) <= 64 * KB
        assert place.store.reads < 60


def test_an_idle_device_asks_for_almost_nothing(place: Signed, tmp_path: Path) -> None:
    """At most four requests and 4 kB, however many releases there are."""
    release = place.released("201.0.0")
    assign(place, release, "gw-idle")
    device = Device(place, tmp_path / "gw-idle")
    assert len(device.look().wanted) == 1
    assert device.look(release).wanted == ()
    assert device.asked == ["2.root.json", "timestamp.json", "2.root.json"]
    assert device.came <= 4 * KB


def test_a_device_fresh_from_the_factory_reads_one_bin(place: Signed, tmp_path: Path) -> None:
    """Both repositories, from the roots that it was given: at most 64 kB, whichever bin it is."""
    parts = {n.rpartition("/")[2]: size for n, size in sizes(place).items() if ".app.-" in n}
    fullest = max(parts, key=lambda name: parts[name])
    part = place.repos.image().state(NOW).part(fullest.removesuffix(".json").partition(".")[2])  # type: ignore[union-attr]
    assert part is not None
    numbers = (7, 12_345, 54_321, 77_777, 99_999)
    for path in (*(manyreleases.release(n).path for n in numbers), min(part.targets)):
        release = place.repos.image().state(NOW).at(path)  # type: ignore[union-attr]
        assert release is not None
        name = f"gw-{release.sha256[:8]}"
        assign(place, release, name)
        device = Device(place, tmp_path / name)
        (wanted,) = device.look().wanted
        assert wanted.release == release
        assert len(device.asked) == 10
        assert device.came <= 64 * KB


def test_the_next_release_costs_a_device_a_snapshot_and_a_bin(
    place: Signed, tmp_path: Path
) -> None:
    """What it keeps stays small, too: one bin, not one for each release that it ever took."""
    device = Device(place, tmp_path / "gw-next")
    for number in range(3):
        release = place.released(f"202.0.{number}")
        assign(place, release, "gw-next")
        assert [w.release.version for w in device.look().wanted] == [release.version]
        assert device.came <= 64 * KB
    current = tmp_path / "gw-next" / "image" / "current"
    assert sum(p.stat().st_size for p in current.iterdir()) <= 70 * KB
    assert len(list(current.glob("app.-*"))) == 1


def test_all_of_it_is_listed_and_verified(place: Signed, state: State) -> None:
    """Every release stands in the bin in which its path is looked for."""
    listed = state.releases(NOW)
    assert len(listed) == RELEASES
    assert listed[manyreleases.release(4711).path] == manyreleases.release(4711)
