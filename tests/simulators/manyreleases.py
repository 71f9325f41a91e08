"""An image repository with very many releases, published in one edition, quickly.

The metadata are those that the product would sign, one bin after the other; what a person would
do 100,000 times (a pending file, a review, a sync for each) is left out. Images are not there.

>>> place = many(tmp_path, releases=100_000, bins=1024)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from simulators.signed import HARDWARE, NOW, Signed, assignment, replaced
from tuf.api.metadata import Snapshot, TargetFile, Timestamp

from ota.agent.time import EPOCH
from ota.agent.trust import Cycle, Known, TrustRoom
from ota.stores.directory import DirectoryStore
from signing import bins, layout, repository, shared, strict
from signing.image.change import Change
from signing.image.state import COUNTER
from signing.release import Release
from signing.repository import Place

SIGNERS = ("targets-1", "targets-3")


MOST_COUNTER = 10
_BOARDS = ((HARDWARE,), (HARDWARE,), (HARDWARE, "gw-rev-c"), (HARDWARE,), ("gw-rev-a", HARDWARE))


def release(number: int, component: str = "app") -> Release:
    """The n-th release: a name, a length and a hash as real ones have.

    Two of five fit another board, too, and every ten thousand there was a security fix: releases of
    one bin do not say all the same.
    """
    version = f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
    path = f"{component}/{component}-{version}.tar.gz"
    return Release(
        path=path,
        component=component,
        version=version,
        hardware_ids=_BOARDS[number % len(_BOARDS)],
        release_counter=1 + number // 10_000 % MOST_COUNTER,
        format="tar",
        length=20_000_000 + number,
        hashes={"sha256": strict.digest(path.encode())},
    )


def many(folder: Path, releases: int, bins_: int, store: DirectoryStore | None = None) -> Signed:
    """A workspace whose component ``app`` lists so many releases over so many bins."""
    edit = {"image.toml": replaced(r"^bins = 1$", f"bins = {bins_}")} if bins_ > 1 else {}
    place = Signed(folder, edit=edit, store=store).created()
    state = place.repos.image().state(NOW)
    assert state is not None
    where = Place("image", place.store.get, layout.image_metadata)
    change = Change(place.policy, where, state, None, NOW)
    change.component("app")
    homes = bins.spread("app", change.role("app"), dict(targets(releases)))
    signers = [place.keys[name] for name in SIGNERS]
    roles = {}
    for name in change.done().roles:
        role = change.role(name)
        role.targets |= homes.get(name, {})
        if name == "app":
            role.unrecognized_fields[COUNTER] = MOST_COUNTER
        shared.share(role)
        roles[name] = repository.signed_by(role, signers)
    online = [place.keys["image-online"]]
    meta = dict(state.client.snapshot.meta)
    base = folder / "store" / layout.IMAGE
    for name, data in roles.items():
        version = change.role(name).version
        meta[f"{name}.json"] = repository.meta_of_role(name, version, data)
        (base / layout.versioned(version, name)).write_bytes(data)
    snapshot = Snapshot(2, repository.SPEC, NOW + timedelta(days=30), meta)
    data = repository.signed_by(snapshot, online)
    (base / "2.snapshot.json").write_bytes(data)
    listed = repository.meta_of(2, data)
    timestamp = Timestamp(2, repository.SPEC, NOW + timedelta(days=3), listed)
    timestamp.unrecognized_fields["issued"] = strict.stamp(NOW)
    (base / "timestamp.json").write_bytes(repository.signed_by(timestamp, online))
    return place


def targets(releases: int) -> Iterator[tuple[str, TargetFile]]:
    """Path -> target of each."""
    for number in range(releases):
        item = release(number)
        yield item.path, item.to_target()


# -- who reads it ------------------------------------------------------------------------------
class Counting(DirectoryStore):
    """A store that counts what is read, and how often."""

    reads = 0

    def get(self, name: str, limit: int) -> bytes | None:
        """Count, then get."""
        self.reads += 1
        return super().get(name, limit)


@dataclass
class Device:
    """A device with trusted roots, and what it has asked for: names, and the bytes that came."""

    place: Signed
    folder: Path
    asked: list[str] = field(default_factory=list)
    came: int = 0
    room: TrustRoom = field(init=False)

    def __post_init__(self) -> None:
        device = self.folder.name
        self.room = TrustRoom(
            device,
            {"app": HARDWARE},
            self.folder,
            self._fetch(lambda file: layout.director_metadata(device, file)),
            self._fetch(layout.image_metadata),
        )
        anchors = self.place.repos.anchors
        self.room.provision(anchors("director")[1], anchors("image")[1])

    def _fetch(self, name: Callable[[str], str]) -> Callable[[str, int], bytes | None]:
        def fetch(file: str, limit: int) -> bytes | None:
            self.asked.append(file)
            data = self.place.store.get(name(file), limit)
            self.came += len(data or b"")
            return data

        return fetch

    def look(self, runs: Release | None = None) -> Cycle:
        """One cycle, counted from nothing."""
        self.asked.clear()
        self.came = 0
        committed = {} if runs is None else {"app": runs.sha256}
        return self.room.cycle(Known(committed, {}, {}, EPOCH), NOW)


def assign(place: Signed, item: Release, device: str) -> None:
    """Assign a release to a device, which is registered if it is new."""
    place.desk.register(device, NOW)
    approved = place.authorised(place.plan(item, None, device))
    place.desk.assign(approved, device, assignment(item, least_image_snapshot=2), NOW)


def sizes(place: Signed) -> dict[str, int]:
    """Store name -> bytes, for everything of the image repository."""
    return {name: place.store.size(name) or 0 for name in place.store.list(f"{layout.IMAGE}/")}
