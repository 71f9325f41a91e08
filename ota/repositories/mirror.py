"""What a device must be able to fetch now, for sites whose devices can not reach the store.

A courier pushes these files into a folder on the device, and its agent takes that folder as its
store; it verifies them there as it would anywhere. Which files these are is found by reading both
repositories with the devices' own client and noting what it reads: the way to each assigned
release, also through delegations, and nothing else. A set that does not verify is not pushed.

Files come in the order in which they must appear: images, then versioned metadata, image
repository before director, each timestamp after all that it leads to (rule 16).

>>> for file in Mirror(store, anchor, desk.assignments).files("press-07"):
...     print(file.name, file.length)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from threading import Lock

from ota.errors import NotFound
from ota.ports import ArtifactStore, MirrorFile
from signing import bins, layout, strict
from signing.changes.ceremony import Repository
from signing.client.workflow import TufClient
from signing.playbooks.run import Assigned

_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""Expiry is the device's to judge: what is stale is pushed, and reported as stale."""


class Mirror:
    """Implements ``ports.Mirror``.

    ``anchor(repository)`` is a root that every device of this workspace can follow from;
    ``assignments(device)`` what its director metadata says.
    """

    def __init__(
        self,
        store: ArtifactStore,
        anchor: Callable[[Repository], bytes | None],
        assignments: Callable[[str], Mapping[str, Assigned]],
    ) -> None:
        self._store = store
        self._anchor = anchor
        self._assignments = assignments
        self._one_at_a_time = Lock()

    def files(self, device: str) -> list[MirrorFile]:
        """What ``device`` reads in its next cycle; the errors of ``TufClient``, ``NotFound``."""
        with self._one_at_a_time:
            return self._files(device)

    def _files(self, device: str) -> list[MirrorFile]:
        assigned = self._assignments(device)
        images = [
            MirrorFile(layout.image_target(a.path, a.sha256), a.length, a.sha256, None)
            for a in assigned.values()
        ]
        image = self._read("image", layout.image_metadata)
        if assigned:
            image.follow([a.path for a in assigned.values()])
        director = self._read("director", lambda name: layout.director_metadata(device, name))
        director.follow([])
        return [*images, *image.found(), *director.found()]

    def piece(self, name: str, offset: int, length: int) -> bytes:
        """A part of one object, for images, which are too large for memory."""
        return self._store.piece(name, offset, length)

    def _read(self, repository: Repository, place: Callable[[str], str]) -> _Reading:
        anchor = self._anchor(repository)
        if anchor is None:
            raise NotFound(
                f"the {repository} repository was never published",
                subject=repository,
                remedy="ota repo publish",
            )
        return _Reading(self._store, anchor, place)


class _Reading:
    """One look at one repository; ``names`` of what was read, in that order."""

    def __init__(self, store: ArtifactStore, anchor: bytes, place: Callable[[str], str]) -> None:
        self._store = store
        self._place = place
        self._found: dict[str, bytes] = {}
        cache = {"root.json": anchor}
        self._client = TufClient(
            cache, self._fetch, _ANY_TIME, check_role=bins.refuse_misnamed, check_expiry=False
        )
        self._client.update_root()

    def _fetch(self, name: str, limit: int) -> bytes | None:
        place = self._place(name)
        data = self._store.get(place, limit)
        if data is not None:
            self._found[place] = data
        return data

    def follow(self, paths: list[str]) -> None:
        """Everything from the timestamp to each of these paths."""
        self._client.update_timestamp()
        self._client.update_snapshot()
        self._client.update_targets()
        for path in paths:
            self._client.find(path)

    def found(self) -> list[MirrorFile]:
        """What was read, the timestamp last."""
        last = self._place("timestamp.json")
        names = sorted(self._found, key=lambda name: name == last)
        return [
            MirrorFile(
                name, len(self._found[name]), strict.digest(self._found[name]), self._found[name]
            )
            for name in names
        ]
