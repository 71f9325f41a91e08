"""Thieves of keys: what each signs is signed with real keys, and is as false as it likes.

A thief has the named keys and the store, nothing else. ``lie`` is called with every signed part
just before it is signed; the rest is what an honest publisher would have written next.

>>> Thief(plant).assign("a", release, release_counter=9)        # the director's online key
>>> ImageThief(plant, "targets-1").publish(roles={"app": role}) # one release engineer's
>>> next_root(plant, "director", edit, "director-root-1", "director-root-2")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from simulators.plant import Plant
from simulators.signed import assignment
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from signing import layout, strict
from signing.assignment import Assignment
from signing.release import Release

Lie = Callable[[Signed], None]
Tamper = Callable[[bytes], bytes]
FAR = 2**31 - 1


def honestly(_signed: Signed) -> None:
    """No lie at all."""


def only(kind: type[Any], lie: Callable[[Any], None]) -> Lie:
    """A lie of one kind of metadata; the others stay honest."""

    def said(signed: Signed) -> None:
        if isinstance(signed, kind):
            lie(signed)

    return said


def says(**fields: Any) -> Lie:
    """Signed fields as one wants them."""

    def lie(signed: Signed) -> None:
        signed.unrecognized_fields.update(fields)

    return lie


class Thief:
    """Publishes director metadata of one device above whatever stands in the store."""

    def __init__(self, plant: Plant, key: str = "director-online") -> None:
        self._plant = plant
        self._signer: Signer = plant.wiring.keyring.signer(key)

    def release(self, version: str, component: str = "app") -> Release:
        """A listed release, to choose from."""
        (found,) = self._plant.wiring.releases.resolve(f"{component}@{version}", self._plant.now())
        return found

    def assignment(self, release: Release, **words: Any) -> Assignment:
        """An assignment as the director would write it, but for ``words``."""
        year = self._plant.now().year + 1
        honest: dict[str, Any] = {
            "rollout": "evil-aaaaaa",
            "order": "ota-evil-aaaaaa-u1-w0-b0",
            "not_after": strict.stamp(self._plant.now().replace(year=year, day=1)),
        }
        return assignment(release, **honest | words)

    def target(self, version: str = "2.0.0", **custom: Any) -> TargetFile:
        """The assignment of a listed release as a target; ``custom`` is written over unchecked."""
        made = self.assignment(self.release(version)).to_target()
        made.unrecognized_fields["custom"].update(custom)
        return made

    def assign(self, device: str, release: Release, **words: Any) -> None:
        """Sign and publish an assignment of this device."""
        self.publish(device, [self.assignment(release, **words).to_target()])

    def publish(self, device: str, targets: Sequence[TargetFile] = (), lie: Lie = honestly) -> None:
        """Targets, snapshot and timestamp, signed; ``lie`` changes each before it is signed."""
        folder = self._plant[device]
        stamp: Timestamp = read(folder.director("timestamp.json"))
        version, expires = stamp.version + 1, stamp.expires
        assigned = Targets(version, expires=expires, targets={t.path: t for t in targets})
        data = self._write(device, "targets", assigned, lie)
        snapshot = Snapshot(
            version, expires=expires, meta={"targets.json": listed(assigned.version, data)}
        )
        data = self._write(device, "snapshot", snapshot, lie)
        stamp.version = version
        stamp.snapshot_meta = listed(snapshot.version, data)
        self._write(device, "", stamp, lie)

    def stamp(self, device: str, lie: Lie) -> None:
        """A timestamp alone."""
        signed: Timestamp = read(self._plant[device].director("timestamp.json"))
        signed.version += 1
        self._write(device, "", signed, lie)

    def _write(self, device: str, role: str, signed: Any, lie: Lie) -> bytes:
        signed.unrecognized_fields["device"] = device
        lie(signed)
        file = f"{signed.version}.{role}.json" if role else "timestamp.json"
        return write(self._plant[device].director(file), signed, self._signer)


class ImageThief:
    """Publishes image metadata: the online key, and the keys of ``engineers`` for targets roles."""

    def __init__(self, plant: Plant, *engineers: str) -> None:
        self._plant = plant
        self.folder = plant.store / layout.IMAGE
        self._online = plant.wiring.keyring.signer("image-online")
        self._engineers = [plant.wiring.keyring.signer(name) for name in engineers]

    def read(self, role: str) -> Any:
        """The newest signed content of a role, as it stands in the store."""
        return read(newest(self.folder, role))

    def publish(
        self,
        lie: Lie = honestly,
        roles: Mapping[str, Targets] | None = None,
        tamper: Tamper = bytes,
    ) -> None:
        """New versions of these roles, a snapshot that lists them, a timestamp that lists that.

        ``tamper`` changes the bytes of the roles after they were signed.
        """
        snapshot: Snapshot = self.read("snapshot")
        for name, role in (roles or {}).items():
            role.version += 1
            lie(role)
            file = self.folder / f"{role.version}.{name}.json"
            data = tamper(write(file, role, *(self._engineers or [self._online])))
            put(file, data)
            snapshot.meta[f"{name}.json"] = listed(role.version, data)
        snapshot.version += 1
        lie(snapshot)
        data = write(self.folder / f"{snapshot.version}.snapshot.json", snapshot, self._online)
        stamp: Timestamp = self.read("timestamp")
        stamp.version += 1
        stamp.snapshot_meta = listed(snapshot.version, data)
        lie(stamp)
        write(self.folder / "timestamp.json", stamp, self._online)

    def lists(self, path: str, data: bytes, role: str = "app", **custom: Any) -> Targets:
        """A role with one release more, described like its others; its bytes lie in the store."""
        changed: Targets = self.read(role)
        like = next(iter(changed.targets.values())).unrecognized_fields["custom"]
        sha256 = strict.digest(data)
        words = {"custom": like | custom}
        changed.targets[path] = TargetFile(len(data), {"sha256": sha256}, path, words)
        put(self._plant.store / layout.image_target(path, sha256), data)
        return changed


def next_root(plant: Plant, repository: str, edit: Callable[[Root], None], *signers: str) -> None:
    """Write the next root of a repository, edited and signed by these keyholders."""
    folder = root_folder(plant, repository)
    root: Root = read(newest(folder, "root"))
    root.version += 1
    edit(root)
    keys = [plant.wiring.keyring.signer(name) for name in signers]
    write(folder / f"{root.version}.root.json", root, *keys)


def root_folder(plant: Plant, repository: str) -> Path:
    """Where a repository's roots lie in the store."""
    return plant.store / (layout.DIRECTOR_ROOT if repository == "director" else layout.IMAGE)


def read(path: Path) -> Any:
    """The signed part of a metadata file, unverified."""
    return Metadata.from_bytes(path.read_bytes()).signed


def newest(folder: Path, role: str) -> Path:
    """The file of a role that a device would fetch now."""
    found = folder.glob("timestamp.json" if role == "timestamp" else f"*.{role}.json")
    return max(found, key=lambda p: (len(p.name), p.name))


def write(path: Path, signed: Any, *signers: Signer) -> bytes:
    """Sign with all of these and put it there."""
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    data = metadata.to_bytes()
    put(path, data)
    return data


def put(path: Path, data: bytes) -> None:
    """Write over whatever is there, as whoever holds the store can."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def listed(version: int, data: bytes) -> MetaFile:
    """What a parent lists of a file."""
    return MetaFile(version, len(data), {"sha256": strict.digest(data)})
