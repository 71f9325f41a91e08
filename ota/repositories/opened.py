"""Reading both repositories of a workspace, verified from its own roots.

The operator's own trust anchors lie in ``repo-metadata/roots/<repo>/N.root.json``, changes that
wait in ``state/pending/<repo>.json``, what was seen in ``state/seen``. The store is never
believed.

>>> Opened(workspace, policy, store, signer).root("image").version
3
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import get_args

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root

from ota.errors import Malformed, NotFound, Outage
from ota.ports import ArtifactStore
from ota.repositories.anchors import Anchors
from ota.repositories.onlinekeys import OnlineKeys
from ota.repositories.publishing import Publisher
from signing import layout, strict
from signing.changes import ceremony
from signing.changes.ceremony import Pending, Repository
from signing.changes.review import review
from signing.client.workflow import TufClient
from signing.director.memory import DirectorMemory
from signing.director.repository import Director
from signing.given import Given
from signing.image.repository import Image
from signing.image.state import Latest
from signing.memory import Memory
from signing.plan import Workspace
from signing.policy import Policy

REPOSITORIES: tuple[Repository, ...] = get_args(Repository)
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_TIMESTAMP = 1024 * 1024


class Opened:
    """Both repositories of one workspace, for reading.

    ``signer`` turns a keyholder's name into a signer, asking for a passphrase if it must.
    """

    def __init__(
        self,
        workspace: Path,
        policy: Policy,
        store: ArtifactStore,
        signer: Callable[[str], Signer],
    ) -> None:
        self._folder = workspace
        self.policy = policy
        self.store = store
        self._signer = signer
        self.online = OnlineKeys(policy, signer)
        self.publisher = Publisher(store, workspace / "state" / "outbox")
        self._latest = Latest()

    # -- what is there -------------------------------------------------------------------------
    def roots(self, repository: Repository) -> Anchors:
        """The operator's own roots."""
        return Anchors(self._folder / "repo-metadata", repository)

    def anchors(self, repository: Repository) -> dict[int, bytes]:
        """Version -> bytes of the operator's own roots."""
        return self.roots(repository).all()

    def anchor(self, repository: Repository) -> bytes | None:
        """The operator's own newest root, or None before the first one is published."""
        return self.roots(repository).newest()

    def newest(self, repository: Repository, *, keep: bool = False) -> bytes:
        """The newest published root, verified step by step from our own.

        ``keep`` makes every step an own root. ``NotFound`` before the first one.
        """
        anchor = self.anchor(repository)
        if anchor is None:
            raise self.uncreated()
        folder = layout.DIRECTOR_ROOT if repository == "director" else layout.IMAGE
        client = TufClient(
            {"root.json": anchor},
            lambda file, limit: self.store.get(f"{folder}/{file}", limit),
            _ANY_TIME,
            keep_root=self.roots(repository).keep if keep else None,
            check_expiry=False,
        )
        client.update_root()
        return client.cache()["root.json"]

    def root(self, repository: Repository) -> Root:
        """The newest published root, read."""
        return Metadata[Root].from_bytes(self.newest(repository)).signed

    def workspace(self) -> Workspace:
        """Digests of both first roots: what plans and approvals bind."""
        first = {name: self.anchors(name).get(1) for name in REPOSITORIES}
        image, director = first["image"], first["director"]
        if image is None or director is None:
            raise self.uncreated()
        return Workspace(image_root=strict.digest(image), director_root=strict.digest(director))

    def uncreated(self) -> NotFound:
        """The error of a workspace without roots: nothing was published yet, or they are lost."""
        if self.published():
            return NotFound(
                "repo-metadata/roots is without the roots of what is in the store",
                code="roots-lost",
                subject="repo-metadata/roots",
                remedy="take that folder from version control, or from a colleague",
            )
        return NotFound(
            "this workspace has no published repositories yet",
            subject="repositories",
            remedy="ota repo create, then sign and publish",
        )

    def _refuse_lost(self) -> None:
        """Without roots of our own nothing is read, made or listed beside what the store holds."""
        with contextlib.suppress(Outage):  # a store that is not at hand stops nobody
            if self.anchor("image") is None and self.published():
                raise self.uncreated()

    def published(self) -> bool:
        """Whether the store holds an image repository, whoever made it."""
        return self.store.get(layout.image_metadata("timestamp.json"), _TIMESTAMP) is not None

    @property
    def memory(self) -> Memory:
        """What this workspace has seen of the image repository."""
        return Memory(self.state_path("seen") / "image")

    @cached_property
    def director_memory(self) -> DirectorMemory:
        """What this workspace has seen of each device's director metadata."""
        return DirectorMemory(self.state_path("seen") / "director.sqlite")

    def close(self) -> None:
        """Let go of what was opened."""
        if "director_memory" in self.__dict__:
            self.director_memory.close()

    @property
    def given(self) -> Given:
        """Version numbers of the image repository that belong to some content already."""
        return Given(self.state_path("given") / "image.json")

    def image(self, *, remembered: bool = True, salvage: bool = False) -> Image:
        """The image repository, read through the store.

        What was seen before is not read again and can not be rolled back, unless ``remembered``
        is false: then every byte comes from the store. ``salvage`` goes on from what was seen
        where the store can not be read.
        """
        self._refuse_lost()
        return Image(
            self.policy,
            self.store.get,
            self.anchor("image"),
            self.memory if remembered else None,
            given=self.given,
            latest=self._latest if remembered else None,
            salvage=salvage,
        )

    def director(self) -> Director:
        """The director, with its online signers; asks for their passphrase when it signs."""
        newest = self.newest("director")
        root = Metadata[Root].from_bytes(newest).signed
        first, *more = self.online.of("targets", root)
        return Director(
            self.policy, self.store.get, newest, first, *more, memory=self.director_memory
        )

    def pending(self, repository: Repository) -> Pending | None:
        """The change that waits for signatures, if there is one."""
        found = ceremony.load(self.pending_path(repository))
        if found is not None and found.repository != repository:
            raise Malformed(f"pending change: {repository}.json is of the {found.repository}")
        return found

    def waiting(self, only: Repository | None = None) -> dict[Repository, Pending]:
        """Every waiting change."""
        return {n: p for n in REPOSITORIES if only in {None, n} and (p := self.pending(n))}

    def review(self, pending: Pending) -> tuple[str, ...]:
        """What a change says, computed from its bytes and our own roots; needs no store."""
        return review(pending, self.anchors(pending.repository), self.policy.names())

    def pending_path(self, repository: Repository) -> Path:
        """Where a change waits."""
        return self.state_path("pending") / f"{repository}.json"

    def state_path(self, name: str) -> Path:
        """Something of this workspace's own state."""
        return self._folder / "state" / name
