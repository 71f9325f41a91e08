"""What a store must keep: every name that somebody may still be led to. Reads, and removes nothing.

Kept is what current metadata lead to, and

* the set before it, whole: a reader that began just before the newest publish finds its way;
* whatever any director metadata names, an open rollout sends out or goes back to (rule 9);
* whatever a waiting change or an unfinished publish will name;
* metadata above what is listed: somebody's number, which must not be given to other content, and
  perhaps a publish that is under way;
* versions that are powers of two, by which versions above all that were counted are found after
  a theft of online keys (``repository.Place.free_above``);
* roots, timestamps, and every name that this module does not know.

>>> needed = Needed(repos, opened=campaign.named, now=now)
>>> needed.unneeded(store.list(""))
['image/metadata/1.snapshot.json', 'image/targets/app/5f70.app-1.0.0.tar']
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Snapshot, TargetFile, Targets

from ota.errors import NotFound, OtaError
from ota.repositories.opened import REPOSITORIES
from ota.repositories.repo import Repositories
from signing import bins, layout, repository
from signing.changes.ceremony import Pending
from signing.client.errors import BROKEN
from signing.image.state import State
from signing.repository import Place

_IMAGE = re.compile(rf"{layout.IMAGE}/([1-9][0-9]{{0,9}})\.(.+)\.json")
_DEVICE = re.compile(rf"{layout.DEVICES}/([^/]+)/([1-9][0-9]{{0,9}})\.(snapshot|targets)\.json")
_LIMIT = 64 * 1024 * 1024


class Needed:
    """One look at both repositories; ``problems`` are devices whose metadata do not verify.

    ``opened`` gives the target paths that open rollouts name. Raises ``Refusal`` or ``Outage``
    when the image repository does not verify, or devices refuse a component of it: then nobody can
    say what is needed once that is mended, and nothing may be removed at all.
    """

    def __init__(
        self, repos: Repositories, opened: Callable[[], Iterable[str]], now: datetime
    ) -> None:
        state = repos.image(remembered=True).state(now)
        if state is None:
            raise NotFound("the image repository was never published", remedy="ota repo status")
        for refusal in state.broken.values():
            raise refusal
        self._repos = repos
        self._now = now
        self._names: set[str] = set()
        self._current: dict[str, int] = {}
        self._open = frozenset(opened())
        self.timestamp = state.client.served or b""
        self.problems: dict[str, OtaError] = {}
        self._image(state)
        for name in REPOSITORIES:
            self._waiting(repos.pending(name))
        self._names |= repos.publisher.names()

    def unneeded(self, listing: Iterable[str]) -> list[str]:
        """Of these names, in order, those that nobody can be led to any more."""
        names = list(listing)
        self._before(names)
        self._directors(names)
        return [name for name in names if self._unneeded(name)]

    def _unneeded(self, name: str) -> bool:
        if name in self._names:
            return False
        image, device = _IMAGE.fullmatch(name), _DEVICE.fullmatch(name)
        if image is not None and image[2] != "root":
            role = unquote(image[2])
            return self._past(role, int(image[1]), counted=role == Snapshot.type)
        if device is not None:
            return self._past(f"{device[1]}/{device[3]}", int(device[2]), counted=True)
        if name.startswith(f"{layout.TARGETS}/"):
            return _path(name) not in self._open
        return False

    def _past(self, role: str, version: int, *, counted: bool) -> bool:
        """Whether a version was passed, and is not one to count by."""
        return version <= self._current.get(role, 0) and not (counted and version.bit_count() == 1)

    # -- the image repository ------------------------------------------------------------------
    def _image(self, state: State) -> None:
        snapshot = state.client.snapshot
        self._current[Snapshot.type] = snapshot.version
        self._keep(Snapshot.type, snapshot.version)
        for file, meta in snapshot.meta.items():
            role = file.removesuffix(".json")
            self._current[role] = meta.version
            if state.live(role):
                self._keep(role, meta.version)
        self._list(state.targets.targets)
        for component in state.roles:
            for _, part in state.parts(component):
                self._list(part.targets)

    def _before(self, names: list[str]) -> None:
        """The snapshot before this one, the roles that it lists, and what those list."""
        newest = self._current[Snapshot.type]
        found = (m for m in map(_IMAGE.fullmatch, names) if m and m[2] == Snapshot.type)
        version = max((v for m in found if (v := int(m[1])) < newest), default=0)
        snapshot = self._read(layout.image_metadata(layout.versioned(version, Snapshot.type)))
        if not isinstance(snapshot, Snapshot):
            return
        self._keep(Snapshot.type, version)
        top = self._past_role(snapshot, Targets.type)
        for component in repository.delegated(top) if top else ():
            for part in bins.names(self._past_role(snapshot, component)):
                self._past_role(snapshot, part)

    def _past_role(self, snapshot: Snapshot, role: str) -> Targets | None:
        """Keep what a past snapshot lists of a role, and what that lists; read what differs."""
        meta = snapshot.meta.get(f"{role}.json")
        if meta is None:
            return None
        name = layout.image_metadata(layout.versioned(meta.version, role))
        if name in self._names and bins.is_bin(role):
            return None
        self._names.add(name)
        part = self._read(name)
        if not isinstance(part, Targets):
            return None
        self._list(part.targets)
        return part

    def _read(self, name: str) -> object:
        """Something from before, unverified: all that it decides is what stays a little longer."""
        data = self._repos.store.get(name, _LIMIT)
        try:
            body: Metadata[Any] | None = None if data is None else Metadata.from_bytes(data)
        except (RepositoryError, *BROKEN):
            return None
        return body.signed if body else None

    def _keep(self, role: str, version: int) -> None:
        self._names.add(layout.image_metadata(layout.versioned(version, role)))

    def _list(self, targets: dict[str, TargetFile]) -> None:
        for path, target in targets.items():
            self._names.add(layout.image_target(path, target.hashes.get("sha256", "")))

    # -- what is under way ---------------------------------------------------------------------
    def _waiting(self, pending: Pending | None) -> None:
        if pending is not None:
            self._names |= {item.name for item in pending.uploads} | set(pending.files)
            self._names |= set(repository.store_names(pending.drafts().values()))

    # -- directors -----------------------------------------------------------------------------
    def _directors(self, names: list[str]) -> None:
        if self._repos.anchor("director") is None:
            return
        root = self._repos.newest("director")
        files: dict[str, list[tuple[int, str, str]]] = {}
        for name in names:
            found = _DEVICE.fullmatch(name)
            if found is not None:
                item = int(found[2]), found[3], name
                files.setdefault(found[1], []).append(item)
        for device, mine in files.items():
            try:
                self._device(device, mine, root)
            except OtaError as e:
                self.problems[unquote(device)] = e
                self._names |= {name for _, _, name in mine}

    def _device(self, device: str, mine: list[tuple[int, str, str]], root: bytes) -> None:
        def name(file: str) -> str:
            return layout.director_metadata(unquote(device), file)

        seen = self._repos.director_memory.of(unquote(device))
        place = Place(f"director/{unquote(device)}", self._repos.store.get, name, seen)
        client = repository.opened(place, root, self._now)
        if client is None:
            raise NotFound(f"device {unquote(device)} has no timestamp", subject=unquote(device))
        for role, version in (
            (Snapshot.type, client.snapshot.version),
            (Targets.type, client.targets.version),
        ):
            self._current[f"{device}/{role}"] = version
            before = max((v for v, r, _ in mine if r == role and v < version), default=0)
            kept = {layout.versioned(v, role) for v in (before, version)}
            self._names |= {name(file) for file in kept}
            if role == Targets.type and before:
                self._list_of(name(layout.versioned(before, role)))
        self._list(client.targets.targets)

    def _list_of(self, name: str) -> None:
        part = self._read(name)
        self._list(part.targets if isinstance(part, Targets) else {})


def images(names: Iterable[str]) -> Iterator[str]:
    """Those names that are images."""
    return (name for name in names if name.startswith(f"{layout.TARGETS}/"))


def _path(name: str) -> str:
    """``image/targets/app/<sha256>.app-1.tar`` -> ``app/app-1.tar``."""
    component, _, file = name.removeprefix(f"{layout.TARGETS}/").partition("/")
    return f"{component}/{file.partition('.')[2]}"
