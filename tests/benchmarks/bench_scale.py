"""100,000 releases in one component: one more of them, and what devices read and verify of it.

The peer is python-tuf's own client on the image repository alone: the same bins, one of the two
repositories that a device reads. Its cache is not synced, ours is. The store is a folder, so there
is no network in it. ``adding`` is a description, two signatures and a publish in one process, with
everything that makes them durable; the image is a few bytes, so that nothing is hashed.

``python tests/benchmarks/bench_scale.py [-o json] [--runs N] [--releases N] [--bins N]``
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import figures
from figures import Figure
from simulators import manyreleases
from simulators.manyreleases import Counting, Device, assign, sizes
from simulators.signed import NOW, Signed, stock_client

PEER = "python-tuf's Updater on the image repository alone"
KB = 1000


class Bench:
    """The repository, a device that is settled, and fresh ones for every cold look."""

    def __init__(self, folder: Path, releases: int, bins: int) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        (folder / "w").mkdir()
        store = Counting(folder / "w" / "store")
        self.place: Signed = manyreleases.many(folder / "w", releases, bins, store)
        self.release = manyreleases.release(releases // 3)
        assign(self.place, self.release, "gw-1")

    def device(self) -> Device:
        """The device as it left the factory."""
        return Device(self.place, self._folder / f"fresh-{next(self._numbers)}" / "gw-1")

    def adding(self) -> float:
        """One more release, from its description to the store."""
        build = self.place.build(f"300.0.{next(self._numbers)}")
        return figures.timed(lambda: self._add(build))

    def _add(self, build: object) -> None:
        self.place.releases.add(build, NOW)  # type: ignore[arg-type]  # Signed makes it
        self.place.signed()
        self.place.releases.publish(NOW)

    def cold(self) -> float:
        """A first look at both repositories."""
        device = self.device()
        seconds = figures.timed(device.look)
        shutil.rmtree(device.folder.parent)
        return seconds

    def stock_cold(self) -> float:
        """A first refresh and look-up by the peer."""
        folder = self._folder / f"stock-{next(self._numbers)}"
        seconds = self._stock(folder)
        shutil.rmtree(folder)
        return seconds

    def idle(self) -> Callable[[], float]:
        """Looks of a device that runs what it is assigned."""
        device = self.device()
        device.look()
        return lambda: figures.timed(lambda: device.look(self.release))

    def stock_idle(self) -> Callable[[], float]:
        """Refreshes of the peer over its cache."""
        folder = self._folder / "stock-idle"
        self._stock(folder)
        return lambda: self._stock(folder)

    def _stock(self, folder: Path) -> float:
        root = self.place.repos.anchors("image")[1]
        began = time.perf_counter()
        updater = stock_client(self.place.store, folder, root)
        assert updater.get_targetinfo(self.release.path) is not None
        return time.perf_counter() - began


def measure(folder: Path, runs: int, releases: int, bins: int) -> list[Figure]:
    """All figures."""
    bench = Bench(folder, releases, bins)
    began = time.perf_counter()
    state = bench.place.repos.image().state(NOW)
    assert state is not None
    assert len(state.releases()) == releases
    listing = time.perf_counter() - began
    device = bench.device()
    device.look()
    cold_bytes, cold_asked = device.came, len(device.asked)
    device.look(bench.release)
    idle_bytes, idle_asked = device.came, len(device.asked)
    written = _written(bench)
    idle, stock_idle = bench.idle(), bench.stock_idle()
    figures.in_turn(3, bench.cold, bench.stock_cold, idle, stock_idle)  # warm up
    ours, theirs = figures.in_turn(runs, bench.cold, bench.stock_cold)
    ours_idle, theirs_idle = figures.in_turn(runs, idle, stock_idle)
    adding = [bench.adding() for _ in range(runs)]
    parts = [size for name, size in sizes(bench.place).items() if ".app.-" in name]
    return [
        Figure("one more release, signed by two, published", _ms(adding), "ms", bound=150),
        Figure("its metadata", written / KB, "kB", bound=64),
        Figure("a bin, on average", statistics.mean(parts) / KB, "kB"),
        Figure("the fullest bin", max(parts) / KB, "kB"),
        Figure("an idle look", idle_bytes / KB, "kB", bound=4),
        Figure("its requests", idle_asked, "", bound=4),
        Figure("a first look", cold_bytes / KB, "kB", bound=64),
        Figure("its requests", cold_asked, ""),
        Figure("a first look at both repositories", _ms(ours), "ms"),
        Figure("the same / one repository", figures.ratio(ours, theirs), "x", 2.2, peer=PEER),
        Figure("an idle look at both", _ms(ours_idle), "ms"),
        Figure("the same / one repository", figures.ratio(ours_idle, theirs_idle), "x", peer=PEER),
        Figure("reading and verifying all releases", listing, "s"),
    ]


def _written(bench: Bench) -> int:
    before = sizes(bench.place)
    bench.adding()
    after = sizes(bench.place)
    return sum(s for n, s in after.items() if before.get(n) != s or n.endswith("timestamp.json"))


def _ms(seconds: list[float]) -> float:
    return figures.median(seconds) * 1000


def main() -> None:
    """Measure and print."""
    number = {"type": int}
    options = figures.arguments(
        __doc__,
        runs=number | {"default": 31},
        releases=number | {"default": 100_000},
        bins=number | {"default": 1024},
    )
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as folder:
        found = measure(Path(folder), options.runs, options.releases, options.bins)
    figures.show("scale", found, options.output)


if __name__ == "__main__":
    main()
