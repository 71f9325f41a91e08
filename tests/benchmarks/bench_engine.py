"""A rollout to 1,000 devices, driven to its end: devices per second, and where the time goes.

Everything is real but the installing: a workspace with encrypted keys, a signed and approved
plan in four waves, the engine with its journal and registry in SQLite, the director's online
signatures, the spool. Each device has a key and a trust room of its own; woken by its hint it
verifies both repositories, verifies the image's bytes, asks the director once more, and leaves
a signed report. All of them and the engine share one process and one core, so the devices'
own work is in the figures, and is shown apart.

``python tests/benchmarks/bench_engine.py [-o json] [--devices N] [--profile FILE]``
"""

from __future__ import annotations

import cProfile
import fcntl
import os
import tempfile
from datetime import datetime
from pathlib import Path

import figures
import msgspec
from figures import Figure
from meter import REST, Meter
from securesystemslib.signer import CryptoSigner
from simulators.identities import HARDWARE, Identity
from tuf.api.metadata import Metadata
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from ota.agent import hints
from ota.agent.download import Downloader
from ota.agent.feeds.spool import SpoolFeed
from ota.agent.time import EPOCH
from ota.agent.trust import TrustRoom
from ota.agent.trustfolder import TrustFolder
from ota.agent.verdict import Known, Wanted
from ota.couriers import spool_tree
from ota.couriers.spool import Spool
from ota.fleet.registry import Registry
from ota.quickstart.stage import Stage, now
from ota.repositories.publishing import Publisher
from ota.repositories.release import Build
from ota.rollout.journal import SqlJournal
from ota.stores.directory import DirectoryStore
from signing import durable, handles, layout, report, statement, strict
from signing.report import ComponentState, Slot, UpdateState

WAVES = (
    {"name": "canary", "count": 4},
    {"name": "tenth", "percent": 10},
    {"name": "half", "percent": 40},
    {"name": "rest", "rest": True, "allow_empty": True},
)
STEPS = 400
DEVICES = "what the devices do"
ENGINE = "what the engine does"


class Device:
    """One simulated agent: its own key, trust folders, download folder and spool."""

    def __init__(self, name: str, stage: Stage, folder: Path) -> None:
        self.identity = Identity(name)
        self._store = Downloader((stage.folder / "store").as_uri(), folder / "downloads")
        self._room = TrustRoom(
            name,
            {"app": HARDWARE},
            folder / "trust",
            lambda file, limit: self._store.metadata(layout.director_metadata(name, file), limit),
            lambda file, limit: self._store.metadata(layout.image_metadata(file), limit),
        )
        director, image = stage.roots()
        self._digests = {"director_root": director["sha256"], "image_root": image["sha256"]}
        self._room.provision(*(Path(r["file"]).read_bytes() for r in (director, image)))
        self._feed = SpoolFeed(stage.folder / "spool" / name, name)
        self._known = Known({}, {}, {}, EPOCH)
        self._counter = 0

    def enrol(self) -> bytes:
        """Nothing installed yet."""
        empty = {"app": ComponentState(hardware_id=HARDWARE, floor=0)}
        return self.identity.enrol(empty, **self._digests)

    def look(self, clock: datetime) -> bool:
        """Obey one hint, when there is one."""
        hint = self._feed.next(0)
        if hint is None:
            return False
        hints.read(hint.data, self.identity.device)
        for wanted in self._room.cycle(self._known, clock).wanted:
            self._room.verify(wanted, self._store.image(wanted))
            assert self._room.still_assigned(wanted, self._known, clock)
            self._report(wanted, clock)
        self._feed.done(hint)
        return True

    def _report(self, wanted: Wanted, clock: datetime) -> None:
        release, order = wanted.release, wanted.assignment
        slot = Slot(
            sha256=release.sha256,
            length=release.length,
            path=release.path,
            version=release.version,
            release_counter=release.release_counter,
        )
        update = UpdateState(
            order=order.order,
            rollout=order.rollout,
            wave=order.wave,
            component=order.component,
            kind=order.kind,
            path=order.path,
            sha256=order.sha256,
            targets_version=wanted.targets_version,
            phase="DONE",
            outcome="committed",
        )
        director, image = self._room.versions()
        self._counter += 1
        body = self.identity.body(
            self._counter,
            event="outcome",
            time=strict.stamp(clock),
            components={"app": ComponentState(hardware_id=HARDWARE, floor=0, current=slot)},
            director=director,
            image=image,
            update=update,
            health="ok",
        )
        self._feed.send(self._counter, self.identity.sign(msgspec.to_builtins(body)))


def prepare(folder: Path, number: int) -> tuple[Stage, str, list[Device]]:
    """A workspace with one release, a registered fleet, and a started rollout."""
    stage = Stage(folder / "plant")
    stage.prepare()
    image = folder / "app.bin"
    image.write_bytes(b"a small program\n" * 256)
    stage.publish(Build(image, "app", "1.0.0", (HARDWARE,)))
    fleet = [Device(f"gw-{n:05}", stage, folder / "devices" / f"{n}") for n in range(number)]
    allow = folder / "devices.csv"
    allow.write_text("id,courier\n" + "".join(f"{d.identity.device},spool\n" for d in fleet))
    joined = stage.wiring.join([d.enrol() for d in fleet], allow, {}, "spool")
    assert all(j.result == "registered" for j in joined), joined[0]
    return stage, stage.start("app-1", "app@1.0.0", WAVES), fleet


def drive(stage: Stage, rollout: str, fleet: list[Device], meter: Meter) -> tuple[str, int]:
    """Engine and devices in turn, until the rollout is no longer running."""
    devices = meter.measured(DEVICES, lambda: [d.look(now()) for d in fleet])
    step = meter.measured(ENGINE, lambda: stage.wiring.campaign.step(rollout, now()))
    for steps in range(1, STEPS):
        state = step().state
        if state != "RUNNING":
            return state, steps
        devices()
    return "RUNNING", STEPS


def categories(meter: Meter) -> None:
    """What counts as what; inner ones take their time out of outer ones."""
    names = ("__init__", "update_root", "update_timestamp", "update_snapshot")
    meter.wrap("verification", TrustedMetadataSet, *names, "update_delegated_targets")
    meter.wrap("verification", Metadata, "from_bytes")
    meter.wrap("verification", TrustRoom, "verify")
    meter.wrap("verification", statement, "verify", "peek")
    meter.wrap("verification", report, "read")
    meter.wrap("signing", CryptoSigner, "sign")
    meter.wrap("signing", statement, "sign")
    meter.wrap("signing", Metadata, "to_bytes")
    for owner in (SqlJournal, Registry):
        public = [n for n, f in vars(owner).items() if callable(f) and not n.startswith("_")]
        meter.wrap("journal and registry", owner, *public)
    files = "file system"
    meter.wrap(files, TrustFolder, "load", "newest_root", "keep_root", "adopt")
    meter.wrap(files, DirectoryStore, "get", "put", "swap", "digest")
    meter.wrap(files, Downloader, "metadata", "image")
    meter.wrap(files, SpoolFeed, "next", "done", "send")
    meter.wrap(files, durable, "replace", "remove", "read", "create", "folder")
    meter.wrap(files, handles, "names", "write", "publish", "remove", "read")
    meter.wrap(files, spool_tree, "set_aside")
    meter.wrap(files, Spool, "dispatch", "collect", "acknowledge")
    meter.wrap(files, Publisher, "resume")
    meter.wrap("fsync", os, "fsync")
    meter.wrap("fsync", fcntl, "flock")


def measure(folder: Path, number: int, profile: str) -> list[Figure]:
    """Prepare, drive, and account for the time."""
    stage, rollout, fleet = prepare(folder, number)
    profiler = cProfile.Profile()
    with Meter() as meter:
        categories(meter)
        if profile:
            profiler.enable()
        state, steps = drive(stage, rollout, fleet, meter)
        profiler.disable()
    if profile:
        profiler.dump_stats(profile)
    status = stage.wiring.campaign.status(rollout, now())
    stage.wiring.close()
    assert state == "COMPLETED", (state, status)
    whole = sum(meter.seconds.values())
    found = [
        Figure("devices", number, "devices"),
        Figure("steps of the engine", steps, "steps"),
        Figure("to completion, devices included", number / whole, "devices/s"),
        Figure("the engine's side alone", number / meter.spans[ENGINE], "devices/s"),
    ]
    shares = sorted(meter.seconds.items(), key=lambda row: (row[0] == REST, -row[1]))
    found += [Figure(f"share: {name}", 100 * s / whole, "%") for name, s in shares]
    return found


def main() -> None:
    """Measure and print."""
    options = figures.arguments(
        __doc__,
        devices={"type": int, "default": 1000},
        profile={"default": "", "metavar": "FILE", "help": "cProfile of the drive"},
    )
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as folder:
        found = measure(Path(folder), options.devices, options.profile)
    figures.show("engine", found, options.output)


if __name__ == "__main__":
    main()
