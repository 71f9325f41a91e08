"""A device's whole look at both repositories, against python-tuf's own client on one of them.

Idle: nothing changed since the last look. Installing: a first look that finds a release to
install, everything fetched, verified and adopted on disk (the peer: a first refresh and
``get_targetinfo`` of the same release). The store is a folder, so there is no network in it;
our side syncs what it adopts, the peer does not.

``python tests/benchmarks/bench_verify.py [-o json] [--runs N]``
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import figures
from figures import Figure
from simulators.signed import HARDWARE, NOW, Signed, assignment, stock_client

from ota.agent.time import EPOCH
from ota.agent.trust import TrustRoom
from ota.agent.verdict import Known
from signing import layout
from signing.release import Release

DEVICE = "gw-1"
UNKNOWN = Known(committed={}, floors={}, denied={}, clock_floor=EPOCH)


class Bench:
    """One published release, assigned to one device; fresh folders for every first look."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self.waits: list[float] = []
        (folder / "w").mkdir()
        self._place = Signed(folder / "w").created()
        self._release: Release = self._place.released("1.0.0")
        self._place.desk.register(DEVICE, NOW)
        approved = self._place.authorised(self._place.plan(self._release, None, DEVICE))
        item = assignment(self._release, least_image_snapshot=2)
        self._place.desk.assign(approved, DEVICE, item, NOW)
        self._settled = Known({"app": self._release.sha256}, {}, {}, EPOCH)

    def _room(self) -> TrustRoom:
        store = self._place.store
        room = TrustRoom(
            DEVICE,
            {"app": HARDWARE},
            self._folder / f"trust-{next(self._numbers)}",
            lambda file, limit: store.get(layout.director_metadata(DEVICE, file), limit),
            lambda file, limit: store.get(layout.image_metadata(file), limit),
        )
        anchors = self._place.repos.anchors
        room.provision(anchors("director")[1], anchors("image")[1])
        return room

    def installing(self) -> float:
        """A first look that finds one release."""
        room = self._room()
        with figures.disk_waits() as found:
            began = time.perf_counter()
            cycle = room.cycle(UNKNOWN, NOW)
            seconds = time.perf_counter() - began
        self.waits.append(sum(found))
        assert len(cycle.wanted) == 1, cycle.held
        return seconds

    def stock_installing(self) -> float:
        """The same for python-tuf, on the image repository alone."""
        folder = self._folder / f"stock-{next(self._numbers)}"
        seconds = self._stock(folder, look_up=True)
        shutil.rmtree(folder)
        return seconds

    def idle(self) -> Callable[[], float]:
        """Looks of a device that runs what it is assigned."""
        room = self._room()
        room.cycle(UNKNOWN, NOW)

        def look() -> float:
            return figures.timed(lambda: room.cycle(self._settled, NOW))

        return look

    def stock_idle(self) -> Callable[[], float]:
        """Refreshes of python-tuf over its cache."""
        folder = self._folder / "stock-idle"
        self._stock(folder, look_up=True)
        return lambda: self._stock(folder, look_up=False)

    def _stock(self, folder: Path, *, look_up: bool) -> float:
        root = self._place.repos.anchors("image")[1]
        began = time.perf_counter()
        updater = stock_client(self._place.store, folder, root)
        if look_up:
            assert updater.get_targetinfo(self._release.path) is not None
        return time.perf_counter() - began


def measure(folder: Path, runs: int) -> list[Figure]:
    """All figures."""
    bench = Bench(folder)
    idle, stock_idle = bench.idle(), bench.stock_idle()
    figures.in_turn(3, idle, stock_idle, bench.installing, bench.stock_installing)  # warm up
    ours, theirs = figures.in_turn(runs, idle, stock_idle)
    bench.waits.clear()
    first, stock_first = figures.in_turn(runs, bench.installing, bench.stock_installing)
    waits = bench.waits
    busy = [whole - wait for whole, wait in zip(first, waits, strict=True)]
    peer = "python-tuf's Updater on one repository"
    return [
        Figure("idle cycle, both repositories", figures.median(ours) * 1000, "ms"),
        Figure("idle cycle / one refresh", figures.ratio(ours, theirs), "x", peer=peer),
        Figure("installing cycle, both repositories", figures.median(first) * 1000, "ms"),
        Figure(
            "installing cycle / one refresh and look-up",
            figures.ratio(first, stock_first),
            "x",
            bound=2.2,
            peer=peer,
        ),
        Figure("of it, waiting for the disk", figures.median(waits) * 1000, "ms"),
        Figure("the rest / one refresh and look-up", figures.ratio(busy, stock_first), "x", 2.2),
    ]


def main() -> None:
    """Measure and print."""
    options = figures.arguments(__doc__, runs={"type": int, "default": 41})
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as folder:
        found = measure(Path(folder), options.runs)
    figures.show("verify", found, options.output)


if __name__ == "__main__":
    main()
