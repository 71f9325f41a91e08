"""Use case: the playbooks of a workspace; listed, shown, signed, published, taken off.

A playbook is a target of the image repository with a role of its own. What is shown as published
was verified from the workspace's own roots, its text included.

>>> library = Library(repositories, store)
>>> library.sign(playbook, "playbooks-1", now); library.publish(now)
>>> library.read("restart-service@1.0.0", now).playbook.steps
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ota.errors import NotFound, NotPermitted, Refusal
from ota.ports import ArtifactStore
from ota.repositories.publishing import Progress
from ota.repositories.release import InUse, unused
from ota.repositories.repo import Repositories, Show, Signed
from ota.repositories.standing import standing
from signing import layout
from signing.changes.ceremony import Pending
from signing.image.repository import Image
from signing.layout import PLAYBOOKS
from signing.playbooks import target as playbook_target
from signing.playbooks.playbook import LIMIT, Playbook
from signing.playbooks.target import PlaybookTarget


@dataclass(frozen=True)
class Listed:
    """One playbook and where it stands: published, expired, waiting, or to be yanked."""

    target: PlaybookTarget
    state: str


@dataclass(frozen=True)
class Published:
    """A playbook whose description and text were verified just now."""

    target: PlaybookTarget
    playbook: Playbook


class Library:
    """Playbooks of one workspace."""

    def __init__(
        self,
        repositories: Repositories,
        store: ArtifactStore,
        in_use: InUse = unused,
    ) -> None:
        self._repos = repositories
        self._store = store
        self._in_use = in_use

    def listing(self, now: datetime) -> list[Listed]:
        """Every playbook, published or waiting, by path."""
        state = self._repos.image().state(now)
        published = state.playbooks() if state else {}
        current = state.playbooks(now) if state else {}
        after, pending = published, self._repos.pending("image")
        if pending is not None and PLAYBOOKS in pending.roles:
            after = playbook_target.fitting(pending.drafts()[PLAYBOOKS])
        known = standing(published, current, after)
        return [Listed(*item) for _, item in sorted(known.items())]

    def show(self, text: str, now: datetime) -> Listed:
        """The playbook of this ``NAME@VERSION`` or path; ``NotFound``."""
        for item in self.listing(now):
            if text in {item.target.short, item.target.path}:
                return item
        raise NotFound(f"no playbook {text!r:.80}", subject=text, remedy="ota playbook list")

    def read(self, text: str, now: datetime) -> Published:
        """A published playbook with its text; ``NotFound``, ``Refusal`` for tampered bytes."""
        item = self.show(text, now)
        if item.state != "published":
            raise NotFound(
                f"{item.target.short} is {item.state}, not published",
                subject=text,
                remedy="ota playbook publish",
            )
        return Published(item.target, self._text(item.target))

    def draft(self, text: str, now: datetime) -> Published:
        """The same for one that may still wait for signatures; its text comes from the change."""
        item = self.show(text, now)
        pending = self._repos.pending("image")
        name = layout.image_target(item.target.path, item.target.sha256)
        if item.state == "waiting" and pending is not None and name in pending.files:
            data = pending.files[name].encode()
            return Published(item.target, playbook_target.content(item.target, data))
        return Published(item.target, self._text(item.target))

    def add(self, playbook: Playbook, now: datetime) -> PlaybookTarget:
        """List a playbook in the waiting change; one that is listed so already changes nothing.

        Raises ``NotPermitted`` (``playbook-role``, ``path-taken``).
        """
        target = playbook_target.describe(playbook)
        known = {item.target.path: item for item in self.listing(now)}.get(target.path)
        if known is None or known.target != target or known.state == "to be yanked":
            self._repos.change_image(lambda image, p: image.add_playbook(p, playbook, now))
        return target

    def sign(self, keyholder: str, now: datetime, show: Show | None = None) -> list[Signed]:
        """Sign the waiting change of the image repository, after showing what it says."""
        return self._repos.sign(keyholder, now, "image", show)

    def publish(self, now: datetime, progress: Progress | None = None) -> list[str]:
        """Publish the waiting change of the image repository."""
        return self._repos.publish(now, "image", progress)

    def yank(self, text: str, now: datetime) -> PlaybookTarget:
        """Take a playbook off the list, in the waiting change.

        Raises ``NotPermitted`` (``in-use``) while a director or an open rollout names it (rule 9).
        """
        item = self.show(text, now)
        reasons = self._in_use([item.target.path])[item.target.path]
        if reasons:
            raise NotPermitted(
                f"{item.target.short} is in use: {'; '.join(reasons[:5])}",
                code="in-use",
                subject=item.target.path,
                remedy="ota rollout abort ROLLOUT --leave",
            )

        def edit(image: Image, pending: Pending | None) -> Pending:
            return image.yank(pending, item.target.path, now)

        self._repos.change_image(edit)
        return item.target

    def _text(self, target: PlaybookTarget) -> Playbook:
        data = self._store.get(layout.image_target(target.path, target.sha256), LIMIT)
        if data is None:
            raise Refusal("image-mismatch", f"{target.path}: its text is not in the store")
        return playbook_target.content(target, data)
