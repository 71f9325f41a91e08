"""Publishing one signed change, in an order that leaves no reader behind.

1. A change that replaces no root, or the first one: one edition.
2. A new image root: first a *bridge*, snapshot and timestamp signed by the old and the new online
   keys, with those roles that hold under both roots; then the root. A device that reads between
   the two finds everything in order under the root that it knows.
3. A new director root: refused (``strands``) while any device's metadata would not verify under
   it; ``ota repo rotate-online director`` signs them with both keys first.
4. Stolen online keys: the root at once, since every second under the old one trusts the thief.

Our own copy of a root is kept when it is public; the first one before, since without it nothing
could be read again.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from tuf.api.metadata import Metadata, Root

from ota.errors import NotPermitted
from ota.repositories.publishing import Progress
from signing import layout
from signing.changes.ceremony import Pending, Repository
from signing.director import root as director_root
from signing.edition import Edition
from signing.issued import refuse_ahead
from signing.repository import key_ids

if TYPE_CHECKING:
    from ota.repositories.repo import Repositories

_SHOWN = 5


def publish(
    repos: Repositories,
    pending: Pending,
    now: datetime,
    progress: Progress | None,
    *,
    stolen: bool,
) -> list[str]:
    """Publish one change; returns the keys of the editions that were needed."""
    root = root_of(pending)
    if root is not None:
        refuse_ahead(root, now)
    first = repos.anchor(pending.repository) is None
    make = _image if pending.repository == "image" else _director
    edition = make(repos, pending, now, progress, stolen=stolen, first=first)
    if first:
        _keep(repos, pending)
    if edition is not None:
        repos.publisher.publish(edition, progress)
    _keep(repos, pending)
    return [edition.key] if edition is not None else []


def _image(
    repos: Repositories,
    pending: Pending,
    now: datetime,
    progress: Progress | None,
    *,
    stolen: bool,
    first: bool,
) -> Edition | None:
    theirs = foreign(repos, "image")
    after = root_of(pending)
    before = None if first else repos.root("image")
    root = after or before or repos.root("image")
    image = repos.image(remembered=pending.above == (0, 0), salvage=stolen)
    if first:
        image.refuse_other_root(root)
    if before is not None and after is not None and not stolen:
        bridge = image.bridge(pending, repos.online.image(before, after), now, theirs)
        if bridge is not None:
            repos.publisher.publish(bridge, progress)
    return image.close(pending, repos.online.image(root), now, theirs, stolen=stolen)


def _director(
    repos: Repositories,
    pending: Pending,
    now: datetime,
    _progress: Progress | None,
    *,
    stolen: bool,
    first: bool,
) -> Edition | None:
    anchor = None if first else repos.anchor("director")
    theirs = foreign(repos, "director")
    edition = director_root.close_root(repos.policy, pending, repos.store.get, theirs, anchor)
    after = root_of(pending)
    if edition is not None and not first and not stolen and after is not None:
        _refuse_stranding(stranded(repos, after, now))
    return edition


def stranded(repos: Repositories, root: Root, now: datetime) -> list[str]:
    """Devices whose director metadata would not verify under this root."""
    if repos.root("director").roles["timestamp"].to_dict() == root.roles["timestamp"].to_dict():
        return []
    director = repos.director()
    found = layout.devices(repos.store.list)
    return [device for device in found if not director.holds_under(device, root, now)]


def _refuse_stranding(devices: list[str]) -> None:
    if devices:
        more = f" and {len(devices) - _SHOWN} more" if len(devices) > _SHOWN else ""
        raise NotPermitted(
            f"the new root would strand {', '.join(devices[:_SHOWN])}{more}: their metadata is "
            "not signed by the new online keys",
            code="strands",
            subject=devices[0],
            remedy="ota repo rotate-online director",
        )


def foreign(repos: Repositories, name: Repository) -> frozenset[str]:
    """Key ids of the other repository: signed ones, and those of its waiting change."""
    other: Repository = "director" if name == "image" else "image"
    found: frozenset[str] = frozenset()
    for data in repos.anchors(other).values():
        found |= key_ids(Metadata[Root].from_bytes(data).signed)
    pending = repos.pending(other)
    if pending is not None:
        found |= pending.key_ids()
    if other == "image":
        targets = repos.image().targets()
        found |= key_ids(targets[0], targets[1]) if targets else frozenset()
    return found


def root_of(pending: Pending) -> Root | None:
    """The new root of a change, if it has one."""
    signed = pending.signed(Root.type) if Root.type in pending.roles else None
    return signed if isinstance(signed, Root) else None


def _keep(repos: Repositories, pending: Pending) -> None:
    if Root.type in pending.roles:
        data = pending.finished()[Root.type]
        repos.roots(pending.repository).keep(Metadata[Root].from_bytes(data).signed.version, data)
