"""A thief of the director's online key: signs whatever it likes for one device.

It has nothing else: no image key, no root key, no device key.

>>> thief = Thief(plant)
>>> thief.assign("a", thief.release("1.0.0"), release_counter=9)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from securesystemslib.signer import Signer
from simulators.plant import Plant
from tuf.api.metadata import Metadata, MetaFile, Signed, Snapshot, TargetFile, Targets, Timestamp

from ota.quickstart.devices import HARDWARE
from signing import strict
from signing.assignment import Assignment
from signing.release import Release

Lie = Callable[[Signed], None]


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
            "path": release.path,
            "length": release.length,
            "hashes": dict(release.hashes),
            "component": release.component,
            "hardware_id": HARDWARE,
            "release_counter": release.release_counter,
            "rollout": "evil-aaaaaa",
            "wave": 0,
            "order": "ota-evil-aaaaaa-u1-w0-b0",
            "kind": "update",
            "least_image_snapshot": 1,
            "not_after": strict.stamp(self._plant.now().replace(year=year, day=1)),
        }
        return Assignment(**honest | words)

    def assign(self, device: str, release: Release, **words: Any) -> None:
        """Sign and publish an assignment of this device."""
        self.publish(device, [self.assignment(release, **words).to_target()])

    def publish(
        self, device: str, targets: Sequence[TargetFile], lie: Lie = lambda _signed: None
    ) -> None:
        """Targets, snapshot and timestamp, signed; ``lie`` changes each before it is signed."""
        folder = self._plant[device]
        stamp = Metadata[Timestamp].from_bytes(folder.director("timestamp.json").read_bytes())
        version = stamp.signed.version + 1
        expires = stamp.signed.expires
        assigned = Targets(version, expires=expires, targets={t.path: t for t in targets})
        data = self._write(device, f"{version}.targets.json", assigned, lie)
        snapshot = Snapshot(version, expires=expires, meta={"targets.json": _meta(version, data)})
        data = self._write(device, f"{version}.snapshot.json", snapshot, lie)
        stamp.signed.version = version
        stamp.signed.snapshot_meta = _meta(version, data)
        self._write(device, "timestamp.json", stamp.signed, lie)

    def _write(self, device: str, file: str, signed: Any, lie: Lie) -> bytes:
        signed.unrecognized_fields["device"] = device
        lie(signed)
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(self._signer)
        data = metadata.to_bytes()
        self._plant[device].director(file).write_bytes(data)
        return data


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": strict.digest(data)})
