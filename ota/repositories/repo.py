"""Use case: create, change, sign, publish, refresh and discard changes of both repositories.

A workspace keeps the operator's own trust anchors in ``repo-metadata/roots/<repo>/N.root.json``
and one change per repository that waits for signatures in ``state/pending/<repo>.json``. What
is published is proven from those anchors; the store is never believed.

>>> repos = Repositories(workspace, policy, store, signer)      # signer("root-1") -> Signer
>>> repos.create(now)                        # later: edit repo-metadata/, repos.change(now)
>>> repos.sign("root-1", now)
>>> repos.publish(now)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import Metadata, Root

from ota.errors import Malformed, NotFound, NotPermitted, Outage
from ota.repositories import repopublish
from ota.repositories.opened import REPOSITORIES, Opened
from ota.repositories.publishing import Progress
from signing import durable
from signing.changes import bundle, ceremony
from signing.changes.ceremony import Pending, Repository
from signing.director import root as director_root
from signing.image.repository import Image
from signing.issued import refuse_ahead

Show = Callable[[Repository, tuple[str, ...]], None]
"""Shows what a change says before it is signed; raises to stop."""


@dataclass(frozen=True)
class Signed:
    """One signing act: what was signed, and what each role of the change still lacks."""

    repository: Repository
    roles: tuple[str, ...]
    summary: tuple[str, ...]
    missing: dict[str, str]


class Repositories(Opened):
    """Both repositories of one workspace: read, changed, signed, published."""

    # -- changes -------------------------------------------------------------------------------
    def create(self, now: datetime) -> dict[Repository, Pending]:
        """First roots of both repositories and targets, waiting for their signatures.

        Raises ``NotPermitted`` (code ``exists``) when either exists or waits already;
        ``NotFound`` (``roots-lost``) when the store holds an image repository.
        """
        with self.locked():
            for name in REPOSITORIES:
                if self.anchor(name) is not None or self.pending(name) is not None:
                    raise NotPermitted(
                        f"the {name} repository of this workspace exists",
                        code="exists",
                        subject=name,
                        remedy="ota repo status",
                    )
            made: dict[Repository, Pending] = {
                "image": self.image().create(now),
                "director": director_root.create_root(self.policy, now),
            }
            for pending in made.values():
                self._save(pending)
            return made

    def change(
        self,
        now: datetime,
        only: Repository | None = None,
        renew: Sequence[tuple[Repository, str]] = (),
        *,
        dry_run: bool = False,
        salvage: bool = False,
    ) -> dict[Repository, Pending]:
        """Make waiting changes of every difference between policy files and published roles.

        ``renew``: (repository, role) to be signed again for their expiry. Returns what waits
        now; empty when nothing differs. Raises ``Busy`` (``stale-base``), ``NotFound``.
        """
        with self.locked():
            made: dict[Repository, Pending | None] = {}
            for name in REPOSITORIES if only is None else (only,):
                newest = self.newest(name, keep=not dry_run)
                roles = [role for where, role in renew if where == name]
                waits = self.pending(name)
                if name == "image":
                    made[name] = self.image(salvage=salvage).change(waits, now, roles)
                else:
                    made[name] = director_root.change_root(
                        self.policy, newest, waits, now, renew="root" in roles
                    )
            found = {n: p for n, p in made.items() if p is not None and p.roles}
            for name in made if not dry_run else ():
                self._save(found[name]) if name in found else self._drop(name)
            return found

    def change_image(self, edit: Callable[[Image, Pending | None], Pending]) -> Pending:
        """Make or extend the image repository's waiting change; ``Busy`` beside another."""
        with self.locked():
            self.newest("image", keep=True) if self.anchor("image") else None
            pending = edit(self.image(), self.pending("image"))
            if not pending.roles:
                raise NotPermitted("nothing changes", code="unchanged", subject="image")
            self._save(pending)
            return pending

    def replace(self, pending: Pending) -> None:
        """Let a change wait; ``NotPermitted`` (``another-change``) when one waits already."""
        with self.locked():
            if self.pending(pending.repository) is not None:
                raise NotPermitted(
                    f"a change of the {pending.repository} repository waits",
                    code="another-change",
                    subject=pending.repository,
                    remedy=f"publish it, or ota repo discard {pending.repository}",
                )
            self._save(pending)

    def sign(
        self,
        keyholder: str,
        now: datetime,
        only: Repository | None = None,
        show: Show | None = None,
    ) -> list[Signed]:
        """Sign every waiting role that this keyholder holds, after showing what it says.

        Raises ``NotFound`` when nothing waits, ``NotPermitted`` (``key-not-in-role``,
        ``signed-before``, or what loading the key raises), ``Busy`` (``stale-base``), and as ``review`` does. ``only``
        narrows it to one repository. Needs no store; where there is one, it is asked.
        """
        with self.locked():
            found = self.waiting(only)
            if not found:
                raise NotFound("no change waits for signatures", remedy="ota repo status")
            keyid = self.policy.key(keyholder).keyid
            mine = {n: p for n, p in found.items() if _holds(p, keyid)}
            if not mine:
                waiting = ", ".join(f"{n} {r}" for n, p in found.items() for r in sorted(p.roles))
                raise NotPermitted(
                    f"{keyholder} holds none of the waiting roles: {waiting}",
                    code="key-not-in-role",
                    subject=keyholder,
                    remedy="ota repo status",
                )
            words = {name: self._reviewed(pending, now) for name, pending in mine.items()}
            for name in mine if show else ():
                show(name, words[name]) if show else None
            if "image" in mine:
                given = self.given
                given.refuse_other(mine["image"], keyid)
                given.note_signed(mine["image"], keyid)
            signer = self._signer(keyholder)
            signed = {n: ceremony.add_signature(p, signer) for n, p in mine.items()}
            for pending, _ in signed.values():
                self._save(pending)
            return [
                Signed(name, roles, words[name], lacking(pending))
                for name, (pending, roles) in signed.items()
            ]

    def _reviewed(self, pending: Pending, now: datetime) -> tuple[str, ...]:
        """Words of a change that still fits; where no store is at hand, publishing will tell."""
        if self.anchor(pending.repository) is not None:
            with contextlib.suppress(Outage):
                newest = self.newest(pending.repository, keep=True)
                if pending.repository == "director":
                    director_root.refuse_stale(pending, Metadata[Root].from_bytes(newest).signed)
                else:
                    image = self.image(remembered=pending.above == (0, 0), salvage=True)
                    image.refuse_stale(pending, now)
        root = repopublish.root_of(pending)
        if root is not None:
            refuse_ahead(root, now)
        return self.review(pending)

    def export(self, only: Repository | None = None) -> bytes:
        """All waiting changes as one file, to be signed on another machine."""
        found = self.waiting(only)
        if not found:
            raise NotFound("no change waits for signatures", remedy="ota repo status")
        return bundle.dump(list(found.values()))

    def adopt(self, data: bytes, *, replace: bool = False) -> dict[Repository, Pending]:
        """Take the changes of such a file: new ones, or signatures for those that wait here.

        Each is reviewed first. Raises ``Malformed``, ``Refusal``, ``Busy`` (``another-change``);
        then nothing was taken. ``replace`` lets go of everything that waits here.
        """
        with self.locked():
            ours = {} if replace else self.waiting()
            merged = {
                p.repository: bundle.merge(ours.get(p.repository), p) for p in bundle.load(data)
            }
            for pending in merged.values():
                self.review(pending)
            for name in REPOSITORIES if replace else ():
                self._drop(name)
            if "image" in merged:
                self.given.note_signed(merged["image"])
            for pending in merged.values():
                self._save(pending)
            return merged

    def discard(self, repository: Repository) -> bool:
        """Throw the waiting change away; False when there is none. The store stays as it is.

        Its version numbers are not given again.
        """
        with self.locked():
            with contextlib.suppress(Malformed):  # a file that can not be read is thrown away, too
                waits = self.pending(repository)
                if waits is not None and repository == "image":
                    self.given.note(waits)
            return self._drop(repository)

    def _save(self, pending: Pending) -> None:
        ceremony.save(self.pending_path(pending.repository), pending)

    def _drop(self, repository: Repository) -> bool:
        path = self.pending_path(repository)
        there = path.exists()
        durable.remove(path) if there else None
        return there

    # -- publishing ----------------------------------------------------------------------------
    def publish(
        self,
        now: datetime,
        only: Repository | None = None,
        progress: Progress | None = None,
        *,
        stolen: bool = False,
    ) -> list[str]:
        """Publish waiting changes that have their signatures; image first, then director.

        Completes what a killed publish began. ``stolen``: the online keys that the change
        replaces are a thief's (``ota repo recover``). Returns the repositories that were
        published. Raises ``NeedsHuman`` (unsigned), ``Busy`` (another was first; or
        ``stale-base``), ``NotPermitted`` (``strands``).
        """
        with self.locked():
            done = self.publisher.resume(progress=progress)
            found = self.waiting(only)
            if not found and not done:
                raise NotFound("no change waits to be published", remedy="ota repo status")
            for pending in found.values():
                pending.finished()
            for name, pending in found.items():
                done += repopublish.publish(self, pending, now, progress, stolen=stolen)
                self._drop(name)
            return list(dict.fromkeys(done))

    def refresh(self, now: datetime, progress: Progress | None = None) -> None:
        """Sign the image repository's timestamp anew, and its snapshot when that ends soon."""
        with self.locked():
            self.publisher.resume("image")
            root = self.root("image") if self.anchor("image") else None
            signers = self.online.image(root) if root else {}
            self.publisher.publish(self.image().refresh(signers, now), progress)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the workspace's changes; ``Busy`` while another command has them."""
        with durable.locked(self._folder / "state" / ".repo.lock", wait=2.0):
            yield


def repository_name(text: str) -> Repository:
    """``image`` or ``director``; anything else is ``Malformed``."""
    for name in REPOSITORIES:
        if name == text:
            return name
    raise Malformed(f"repository {text!r:.40} is not image or director", subject=text[:40])


def lacking(pending: Pending) -> dict[str, str]:
    """Role -> ``1 of 2``, for each that lacks signatures."""
    return {role: f"{m.have} of {m.need}" for role, m in pending.missing().items()}


def _holds(pending: Pending, keyid: str) -> bool:
    return any(keyid in need.by_id() for role in pending.roles.values() for need in role.needs)
