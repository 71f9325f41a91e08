"""The feed ``iot-jobs`` on a device: memory at rest, and how soon a notification is acted on.

``ota-agent run`` from the lean environment (as devices have it, see ``bench_agent.py``) on a real
Mosquitto with mTLS and a strict Jobs service, and a store over loopback HTTP. Memory is the
resident set after some updates and a while of rest, beside that of the same agent without a feed.
The delay is from CreateJob on the service to the first request for the image, which comes after
start-next and both repositories' full verification.

``python tests/benchmarks/bench_feed.py [-o json] [--runs N] [--lean FOLDER]``
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import figures
from bench_agent import lean, outside
from figures import Figure
from simulators import broker as brokers
from simulators import jobs_service
from simulators.agentcli import Device
from simulators.broker import Broker
from simulators.feed_sides import hint, until
from simulators.jobs_service import JobsService
from simulators.webstore import WebStore, webstore

from ota.agent.feeds.options import IotJobsOptions

REST = 5.0
PAUSE = 1.0
POLL = "[poll]\ninterval = 3600\n"


def toml(options: IotJobsOptions) -> str:
    """The keys of ``[feed]`` that differ from a default."""
    names = ("endpoint", "port", "certificate", "key", "ca", "start_jitter")
    lines = (f"{name} = {getattr(options, name)!r}" for name in names)
    return "\n".join(['kind = "iot-jobs"', "fallback = []", *lines])


@contextlib.contextmanager
def agent(binaries: Path, device: Device) -> Iterator[int]:
    """The installed agent, running; its process id."""
    words = [binaries / "ota-agent", "run", "--config", device.config]
    with (device.folder / "log").open("ab") as log:
        process = subprocess.Popen(words, env=outside(), stdout=log, stderr=log)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)


def resident(pid: int) -> float:
    """MiB of a process's resident set."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(row for row in status.splitlines() if row.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def publish(device: Device, store: WebStore) -> None:
    """Serve what lies in the device's store folder."""
    root = device.folder / "store"
    store.objects = {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def made(folder: Path, store: WebStore, feed: str) -> Device:
    """A provisioned device of this store."""
    device = Device(folder, feed=feed, extra=POLL)
    text = device.config.read_text()
    device.config.write_text(text.replace((folder / "store").as_uri(), store.url))
    device.provision()
    publish(device, store)
    return device


def delay(device: Device, store: WebStore, service: JobsService, number: int) -> float:
    """Seconds from a job to the first request for its image, for a device that has nothing to do.

    Returns once the job has succeeded.
    """
    order = f"ota-app-{number}-aaaaaa-u1-w0-b0"
    name = f"app-{number}.bin"
    device.ship(f"app/{name}", f"image {number}".encode(), order=order)
    publish(device, store)
    store.requests.clear()
    time.sleep(PAUSE)
    began = time.perf_counter()
    service.jobs.create(order, hint(order), "press-07")
    while not any(asked.endswith(name) for asked, _ in store.requests):
        assert time.perf_counter() - began < 60, "the image is not asked for"
        time.sleep(0.001)
    seconds = time.perf_counter() - began
    job = service.jobs.execution(order, "press-07")
    assert until(lambda: job.status == "SUCCEEDED"), job
    return seconds


def measured(folder: Path, binaries: Path, broker: Broker, runs: int) -> list[Figure]:
    """Both figures."""
    thing = broker.authority.issue("press-07")
    with webstore() as store, jobs_service.serving(broker) as service:
        bare = made(folder / "bare", store, 'kind = "none"')
        with agent(binaries, bare) as pid:
            time.sleep(REST)
            without = resident(pid)
        device = made(folder / "gw", store, toml(broker.options(thing)))
        with agent(binaries, device) as pid:
            delays = [delay(device, store, service, n) for n in range(1, runs + 1)]
            time.sleep(REST)
            idle = resident(pid)
    return [
        Figure("memory at rest with the MQTT feed", idle, "MiB", bound=60.0),
        Figure("memory at rest without a feed", without, "MiB"),
        Figure("from job to download, median", figures.median(delays), "s", bound=1.0),
        Figure("from job to download, longest", max(delays), "s", bound=1.0),
    ]


def main() -> None:
    """Measure and print."""
    options = figures.arguments(
        __doc__,
        runs={"type": int, "default": 20},
        lean={"type": Path, "help": "bin folder of a lean environment that is there already"},
    )
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as name:
        folder = Path(name)
        binaries = options.lean or lean(folder)
        with brokers.running(folder / "broker") as broker:
            found = measured(folder, binaries, broker, options.runs)
    figures.show("feed", found, options.output)


if __name__ == "__main__":
    main()
