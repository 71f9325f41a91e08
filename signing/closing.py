"""Closing an edit: snapshot and timestamp over the changed roles, then the proof.

The timestamp and the snapshot list length and SHA-256 of what they name, and the finished bytes
are laid over the store and read with a client, from the root up, before anyone may publish them.

A *bridge* is signed by the old and the new online keys, so that it holds before and after a new
root is published. A *recovery* follows stolen online keys: the new root replaces them, so that
devices forget the versions that those keys signed (TUF 5.3.11), and versions that nobody reaches
honestly are left behind.

>>> edition = close(place, before, root, Closing(roles, roots), online=online, now=now)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from signing import bins, layout, strict
from signing.client.workflow import Limits, TufClient
from signing.edition import Edition, Upload
from signing.errors import NotPermitted, Stale
from signing.repository import (
    SPEC,
    Place,
    delegated,
    meta_of,
    meta_of_role,
    signed_by,
    until,
)

CREDIBLE = 1_000_000_000
"""A version from here on was not reached by counting: somebody wound it forward."""
_LIMIT = 1024 * 1024
_READ = Limits()


@dataclass(frozen=True)
class Online:
    """How snapshot and timestamp are closed: who signs, for how long, and what else they say."""

    snapshot: Sequence[Signer]
    timestamp: Sequence[Signer]
    snapshot_life: timedelta
    timestamp_life: timedelta
    extra: Mapping[str, Any]


@dataclass(frozen=True)
class Closing:
    """What one close puts in beside snapshot and timestamp.

    ``roles`` are changed targets roles, ``roots`` new roots by version. ``renew`` makes a new
    snapshot although no role changed. ``recover``: the keys of before were stolen, so that no version
    which they signed is counted on. ``above``:
    versions of snapshot and timestamp that must be exceeded (a store restored from backup), and
    ``dormant`` names that the snapshot must list at these versions at least.
    """

    roles: Mapping[str, bytes]
    roots: Mapping[int, bytes]
    renew: bool = False
    uploads: tuple[Upload, ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()
    recover: bool = False
    above: tuple[int, int] = (0, 0)
    dormant: Mapping[str, int] = field(default_factory=dict)


def close(
    place: Place,
    before: TufClient | None,
    root: bytes,
    closing: Closing,
    *,
    online: Online,
    now: datetime,
) -> Edition:
    """Sign snapshot and timestamp over the changed roles, prove the result, return the edition.

    ``root`` is the operator's own trust anchor. Raises ``Stale`` for a changed role that
    expired while it waited for signatures, ``NotPermitted`` (``too-long``), ``Refusal`` if the
    result does not verify.
    """
    files = [*closing.files]
    meta = dict(before.snapshot.meta) if before else {}
    for name, version in closing.dormant.items():
        known = meta.get(f"{name}.json")
        meta[f"{name}.json"] = MetaFile(max(version, known.version if known else 0))
    for name, data in closing.roles.items():
        signed = Metadata[Targets].from_bytes(data).signed
        if signed.is_expired(now):
            raise Stale(f"{name} expired while it waited for signatures", subject=name)
        _refuse_long(name, data, _READ.targets)
        meta[f"{name}.json"] = meta_of_role(name, signed.version, data)
        files.append((place.name(layout.versioned(signed.version, name)), data))
    listed = before.timestamp.snapshot_meta if before else None
    if listed is None or closing.roles or closing.renew:
        after = max(listed.version if listed else 0, closing.above[0])
        version = next_version(place, "snapshot", CREDIBLE if closing.recover else after)
        snapshot = Snapshot(version, SPEC, until(now, online.snapshot_life), meta)
        snapshot.unrecognized_fields.update(online.extra)
        data = signed_by(snapshot, online.snapshot)
        _refuse_long("snapshot", data, _READ.snapshot)
        listed = meta_of(snapshot.version, data)
        files.append((place.name(layout.versioned(snapshot.version, "snapshot")), data))
    files += [
        (place.name(layout.versioned(number, "root")), data)
        for number, data in sorted(closing.roots.items())
    ]
    number = 1 + max(before.timestamp.version if before else 0, closing.above[1])
    counted = number < CREDIBLE and not closing.recover
    timestamp = _timestamp(number if counted else listed.version, listed, online, now)
    swap = (
        place.name("timestamp.json"),
        signed_by(timestamp, online.timestamp),
        _there(place, before, recover=closing.recover),
    )
    edition = Edition(place.key, tuple(files), swap, closing.uploads)
    prove(place, before, root, edition, now, changed=closing.roles)
    return edition


def _refuse_long(name: str, data: bytes, most: int) -> None:
    """Nothing is published that no device would read to its end."""
    if len(data) > most:
        raise NotPermitted(
            f"{name} is {len(data)} bytes long; devices read {most}",
            code="too-long",
            subject=name,
            remedy="set bins in image.toml: more for fewer releases in each, fewer for the snapshot",
        )


def _timestamp(version: int, listed: MetaFile, online: Online, now: datetime) -> Timestamp:
    timestamp = Timestamp(version, SPEC, until(now, online.timestamp_life), listed)
    timestamp.unrecognized_fields.update(online.extra)
    timestamp.unrecognized_fields["issued"] = strict.stamp(now)
    return timestamp


def _there(place: Place, before: TufClient | None, *, recover: bool) -> bytes | None:
    """The bytes that the swap replaces: what was verified, or whatever a thief left there."""
    if recover:
        return place.fetch("timestamp.json", _LIMIT)
    return before.served if before else None


def next_version(place: Place, role: str, after: int) -> int:
    """The next free version; past :data:`CREDIBLE` a free one above all that was counted."""
    if after + 1 < CREDIBLE:
        return place.free_version(role, after)
    return place.free_above(role)


def prove(
    place: Place,
    before: TufClient | None,
    root: bytes,
    edition: Edition,
    now: datetime,
    *,
    changed: Iterable[str],
) -> TufClient:
    """Read the repository as it will be after this edition, with the memory of before.

    Of hash bins those that ``changed`` are read, and all of them where their component did. Who
    signs a component's bins is asked of the components that ``changed``: another one's fault
    keeps nobody else from publishing.
    """
    overlay = dict(edition.files) | {edition.swap[0]: edition.swap[1]}

    def fetch(file: str, limit: int) -> bytes | None:
        name = place.name(file)
        return overlay[name] if name in overlay else place.reader(name, limit)

    cache = before.cache() if before else {"root.json": root}
    client = TufClient(cache, fetch, now, check_role=bins.refuse_misnamed, check_expiry=False)
    client.refresh()
    parts = set(changed)
    for name in delegated(client.targets):
        role = client.role(name, Targets.type)
        if Targets.type in parts or any(bins.component_of(part) == name for part in parts):
            bins.refuse_others(name, role, client.targets)
        for part in bins.names(role):
            if name in parts or part in parts:
                client.role(part, name)
    return client
