"""Repositories whose keys change, with devices that look at every moment of it.

>>> stage = Stage(tmp_path)                     # published, one release, three devices
>>> stage.edit("image.toml", '"root-2"', '"root-4"')
>>> stage.change("root-1", "root-3")            # made from the policy, signed, published
>>> stage.wanted("gw-1")                        # a device looks
>>> template, stage = fixtures(lambda stage: stage.list_more("1.0.1"))
"""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer
from simulators.signed import HARDWARE, NOW, Signed, assignment
from tuf.api.metadata import MetaFile, Snapshot, Targets, Timestamp

from ota.agent.time import EPOCH
from ota.agent.trust import TrustRoom
from ota.agent.verdict import Cycle, Known
from ota.stores.directory import DirectoryStore
from signing import layout, strict
from signing.changes.ceremony import Pending
from signing.repository import signed_by

KNOWN = Known(committed={}, floors={}, denied={}, clock_floor=EPOCH)
DEVICES = ("gw-1", "gw-2", "gw-3")
APP = ["app/app-1.0.0.bin"]
BOTH = ("targets-1", "targets-3")
"""Two of the three who sign images, as many as it takes."""
FAR = 2**31 - 1


class Watched(DirectoryStore):
    """A store that calls ``after`` whenever an object became public; ``after`` may raise."""

    after: Callable[[str], None] | None = None

    def put(self, name: str, data: bytes) -> None:
        """Put, then tell."""
        super().put(name, data)
        self._tell(name)

    def swap(self, name: str, data: bytes, expected: bytes | None) -> None:
        """Swap, then tell."""
        super().swap(name, data, expected)
        self._tell(name)

    def _tell(self, name: str) -> None:
        if self.after is not None:
            self.after(name)


class Stage:
    """A workspace with one release, assigned to each of three devices."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Watched(folder / "w" / "store")
        self.place = Signed(folder / "w", store=self.store).created()
        self.release = self.place.released("1.0.0")
        self.approved = self.place.authorised(self.place.plan(self.release, None, *DEVICES))
        self.order = assignment(self.release, least_image_snapshot=2)
        for device in DEVICES:
            self.place.desk.register(device, NOW)
            self.assign(device)
        self.rooms = {device: self.room(device) for device in DEVICES}

    def copied(self, folder: Path) -> Stage:
        """The same again in another folder, to be spoilt."""
        shutil.copytree(self.folder, folder, symlinks=True)
        twin = copy.copy(self)
        twin.folder = folder
        twin.store = Watched(folder / "w" / "store")
        twin.place = copy.copy(self.place)
        twin.place.folder, twin.place.store = folder / "w", twin.store
        twin.place.keys = dict(self.place.keys)
        twin.place.reload()
        twin.rooms = {device: twin.opened(device) for device in DEVICES}
        return twin

    def room(self, device: str) -> TrustRoom:
        """A device fresh from the factory, with the first roots."""
        room = self.opened(device)
        repos = self.place.repos
        room.provision(repos.anchors("director")[1], repos.anchors("image")[1])
        return room

    def opened(self, device: str) -> TrustRoom:
        """The trust room of a device, as it was left."""
        store = self.store
        return TrustRoom(
            device,
            {"app": HARDWARE},
            self.folder / "devices" / device,
            lambda file, limit: store.get(layout.director_metadata(device, file), limit),
            lambda file, limit: store.get(layout.image_metadata(file), limit),
        )

    def assign(self, device: str, now: datetime = NOW) -> None:
        """Hand the order out, as an approved plan allows."""
        self.place.desk.assign(self.approved, device, self.order, now)

    def look(self, device: str, now: datetime = NOW) -> Cycle:
        """One cycle of a device."""
        return self.rooms[device].cycle(KNOWN, now)

    def wanted(self, device: str, now: datetime = NOW) -> list[str]:
        """Paths that a device would install after looking."""
        cycle = self.look(device, now)
        assert cycle.held == ()
        return [w.release.path for w in cycle.wanted]

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """``gw-1`` looks whenever anything became public; every look must be a good one."""

        def look(_name: str) -> None:
            self.store.after = None
            try:
                assert self.wanted("gw-1") == APP
            finally:
                self.store.after = look

        self.store.after = look
        yield
        self.store.after = None

    # -- the operator ----------------------------------------------------------------------------
    def edit(self, file: str, old: str, new: str) -> None:
        """Change a policy file, and make keys for names that are new in it."""
        path = self.place.folder / "repo-metadata" / file
        text = path.read_text()
        assert old in text, "the edit found nothing"
        path.write_text(text.replace(old, new))
        self.place.reload()

    def append(self, file: str, text: str) -> None:
        """Add a table to a policy file."""
        path = self.place.folder / "repo-metadata" / file
        path.write_text(path.read_text() + text)
        self.place.reload()

    def sign(self, *names: str, now: datetime = NOW) -> None:
        """Each of these keyholders signs what waits."""
        for name in names:
            self.place.repos.sign(name, now)

    def change(self, *signers: str, now: datetime = NOW) -> tuple[str, ...]:
        """What the edited policy changes, signed and published; the difference in words."""
        made = self.place.repos.change(now)
        words = tuple(line for p in made.values() for line in self.place.repos.review(p))
        self.sign(*signers, now=now)
        self.place.repos.publish(now)
        return words

    def pending(self) -> Pending:
        """The change of the image repository that waits for signatures."""
        found = self.place.repos.pending("image")
        assert found is not None
        return found

    def list_more(self, *versions: str) -> None:
        """New releases, listed, signed and published in one edition."""
        for version in versions:
            self.place.releases.add(self.place.build(version), NOW)
        self.place.signed()
        self.place.releases.publish(NOW)

    def stored(self) -> dict[str, bytes]:
        """Every object that is public."""
        return {n: self.store.get(n, 1 << 26) or b"" for n in self.store.list("")}

    # -- a thief ---------------------------------------------------------------------------------
    def wind(self, name: Callable[[str], str], key: Signer, version: int = FAR) -> None:
        """A thief of an online key signs a version that nobody reaches honestly.

        Timestamp and snapshot, a director's targets, too; they list what is there.
        """
        timestamp = read(self.store, name("timestamp.json"), Timestamp)
        listed = timestamp.snapshot_meta.version
        snapshot = read(self.store, name(f"{listed}.snapshot.json"), Snapshot)
        if "device" in timestamp.unrecognized_fields:
            old = snapshot.meta["targets.json"].version
            targets = read(self.store, name(f"{old}.targets.json"), Targets)
            targets.version = version
            data = signed_by(targets, [key])
            super(Watched, self.store).put(name(f"{version}.targets.json"), data)
            snapshot.meta["targets.json"] = meta(version, data)
        snapshot.version = timestamp.version = version
        data = signed_by(snapshot, [key])
        super(Watched, self.store).put(name(f"{version}.snapshot.json"), data)
        timestamp.snapshot_meta = meta(version, data)
        there = self.store.get(name("timestamp.json"), 1 << 20)
        super(Watched, self.store).swap(name("timestamp.json"), signed_by(timestamp, [key]), there)


def meta(version: int, data: bytes) -> MetaFile:
    """How a file is listed."""
    return MetaFile(version, len(data), {"sha256": strict.digest(data)})


def read(store: DirectoryStore, name: str, kind: type[Any]) -> Any:
    """The signed part of one metadata file, unverified."""
    data = store.get(name, 1 << 24)
    assert data is not None
    return kind.from_dict(strict.loads(data, limit=1 << 24, what=name)["signed"])


def of_device(device: str) -> Callable[[str], str]:
    """Names of a device's director metadata."""
    return lambda file: layout.director_metadata(device, file)


def fixtures(make: Callable[[Stage], object] = lambda _stage: None) -> tuple[Any, Any]:
    """``template``, which ``make`` brings along once a module, and ``stage``: a copy for each test."""

    @pytest.fixture(scope="module")
    def template(tmp_path_factory: pytest.TempPathFactory) -> Stage:
        stage = Stage(tmp_path_factory.mktemp("template"))
        make(stage)
        return stage

    @pytest.fixture
    def stage(template: Stage, tmp_path: Path) -> Stage:
        return template.copied(tmp_path / "s")

    return template, stage
