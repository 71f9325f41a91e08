"""AWS calls of a wave over ``iot-jobs``: counted, not timed, from the first order to tidying up.

The engine, its journal, the registry and four signed reports for each device are real; requests
are made by botocore and answered in memory by a strict AWS (``simulators/awsfake.py``), which counts
what would have gone over the wire, retries included.

``python tests/benchmarks/bench_iot_jobs.py [-o json] [--devices N]``
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import figures
import pytest
from figures import Figure
from simulators.awsfake import FakeAws
from simulators.iotworld import IotWorld

from signing.plan import Gate, Limits

LIMIT = 1.2
EVERYBODY = Gate(silent="100%")


def wave(devices: int, batch: int) -> FakeAws:
    """One wave of so many devices, driven to its end and tidied up; AWS as it was counting."""
    with tempfile.TemporaryDirectory() as folder:
        world = IotWorld(Path(folder), FakeAws(), devices)
        world.start(devices, limits=Limits(in_flight=devices, batch=batch))
        state = world.drive()
        world.tick(8 * 86400)
        while world.campaign.tidy(world.now, timedelta(days=7), 1000):
            pass
        left = (world.fake.jobs, world.fake.groups)
        if state != "COMPLETED" or left != ({}, {}) or set(world.runs().values()) != {"2.0.0"}:
            raise SystemExit(f"{devices} devices: {state}, left at AWS: {left}")
        return world.fake


def polls(devices: int) -> int:
    """Calls of twenty steps in which no device has changed."""
    with tempfile.TemporaryDirectory() as folder:
        world = IotWorld(Path(folder), FakeAws(), devices)
        for device in world.devices.values():
            device.mood = "off"
        limits = Limits(in_flight=devices, batch=100)
        world.start(devices, limits=limits, deadline=86400, gate=EVERYBODY)
        world.step()
        world.fake.calls.clear()
        for _ in range(20):
            world.tick(10)
            world.step()
        return world.fake.calls.total()


def main() -> None:
    """Count, and print."""
    told = figures.arguments(__doc__, devices={"type": int, "default": 10_000})
    with pytest.MonkeyPatch.context() as patch:
        FakeAws().environment(patch)
        found = []
        for batch, name in ((50, "orders of 50"), (100, "orders of 100")):
            calls = wave(told.devices, batch).calls.total()
            each = calls / told.devices
            title = f"{told.devices} devices, {name}"
            found.append(Figure(title, each, "calls each", bound=LIMIT))
        whole = wave(told.devices, told.devices)
        title = f"{told.devices} devices, one order through a group"
        found.append(Figure(title, whole.calls.total() / told.devices, "calls each"))
        few, many = polls(100), polls(2_000)
        found.append(Figure("20 quiet polls, 2,000 devices", many, "calls", bound=few, peer="100"))
    figures.show("iot-jobs", found, told.output)


if __name__ == "__main__":
    main()
