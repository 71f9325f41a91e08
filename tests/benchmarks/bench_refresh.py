"""A refresher's look at a whole fleet, nothing due: how long, and how many requests a device.

The store is a folder that answers after a delay, as a bucket does; looks go side by side. The peer
is the same without a memory: every device's metadata read from the root up, one after the other.

``python tests/benchmarks/bench_refresh.py [-o json] [--devices N] [--delay MILLISECONDS]``
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import figures
from figures import Figure
from simulators.signed import NOW, Signed

from ota.repositories import refreshing
from ota.repositories.director import DirectorDesk
from ota.stores.directory import DirectoryStore

SOON = NOW + timedelta(hours=1)


class Slow(DirectoryStore):
    """A folder that is as far away as a bucket."""

    delay = 0.0
    asked = 0

    def get(self, name: str, limit: int) -> bytes | None:
        """Wait, then get."""
        time.sleep(self.delay)
        self.asked += 1
        return super().get(name, limit)


def measure(folder: Path, devices: int, delay: float) -> list[Figure]:
    """All figures."""
    store = Slow(folder / "store")
    place = Signed(folder, store=store).created()
    place.released("1.0.0")
    desk = place.desk
    for number in range(devices):
        desk.register(f"gw-{number}", NOW)
    blind = place.repos.director()
    blind._memory = None
    alone = DirectorDesk(blind, place.repos.publisher)

    def look(at: DirectorDesk) -> Callable[[], object]:
        return lambda: refreshing.due(place.repos, at, place.policy, SOON)

    def one_by_one() -> None:
        for number in range(devices):
            alone.state(f"gw-{number}")

    assert refreshing.due(place.repos, desk, place.policy, SOON).devices == ()
    store.delay, store.asked = delay / 1000, 0
    known = figures.timed(look(desk))
    asked = store.asked / devices
    store.asked = 0
    plain = figures.timed(one_by_one)
    return [
        Figure("a fleet that nothing is due for, devices a second", devices / known, ""),
        Figure("requests a device", asked, "", bound=1.1),
        Figure(
            "the same / without a memory, one by one",
            known / plain,
            "x",
            bound=0.2,
            peer=f"{store.asked / devices:.0f} requests a device, {devices / plain:.0f} a second",
        ),
    ]


def main() -> None:
    """Measure and print."""
    number = {"type": int}
    options = figures.arguments(
        __doc__, devices=number | {"default": 1000}, delay={"type": float, "default": 15.0}
    )
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as folder:
        found = measure(Path(folder), options.devices, options.delay)
    figures.show("refresh", found, options.output)


if __name__ == "__main__":
    main()
