"""Reading and editing the image repository: what may run, before anybody signs it.

Root and targets are signed by thresholds of people; targets delegates to one terminating role
for each component (paths ``<component>/*``) with keyholders of its own; snapshot and timestamp
are online. Targets itself lists only ``workspace/approvers.json``: who may approve rollouts.

An edit makes or extends a :class:`~signing.changes.ceremony.Pending`; touching a role drops the
signatures it had. One built on versions which are no longer the newest is refused
(``stale-base``).

Rules: a path keeps its content for ever; release counters never fall, and rise by one only with
``security_fix`` (rules 1 to 3); the highest counter ever stands, signed, in the component's
role, so that yanking does not lower it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import Root, TargetFile, Targets

from signing import bins, layout, repository, shared
from signing.changes import rotation
from signing.changes.ceremony import Needs, Pending
from signing.errors import Malformed, NotFound, NotPermitted
from signing.image.change import Change
from signing.image.read import ImageReads
from signing.image.state import COUNTER, above, fitting
from signing.layout import PLAYBOOKS
from signing.playbooks import playbook as playbooks
from signing.playbooks import target as playbook_target
from signing.playbooks.playbook import Playbook
from signing.policy import RESERVED
from signing.release import Release, split_path

_TOP = frozenset({"root", "targets", "snapshot", "timestamp"})


class ImageEdits(ImageReads):
    """Reads and edits the image repository of one workspace."""

    def _top(self) -> dict[str, tuple[list[Key], int]]:
        """Keys and threshold of each top-level role, as the policy says."""
        roles = ((n, r) for n, r in self._policy.image.roles() if n in _TOP)
        return {name: (self._policy.keys(role.keyholders), role.threshold) for name, role in roles}

    def refuse_other_root(self, root: Root) -> None:
        """``Refusal`` for a first root that is not the policy's."""
        repository.refuse_other_root(root, self._top())

    def after(self, pending: Pending, now: datetime) -> dict[str, dict[str, Release]]:
        """Component -> path -> release, as every component of a change will stand with it."""
        edit = Change(self._policy, self._place, self.state(now), pending, now)
        touched = {bins.component_of(name) for name in pending.roles} & set(edit.components())
        top = edit.standing(Targets.type)
        hidden = top.targets if top is not None else {}
        return {
            component: {
                path: release
                for name, part in edit.parts(component)
                for path, release in fitting(name, part).items()
                if path not in hidden
            }
            for component in touched
        }

    def after_at(self, pending: Pending, path: str, now: datetime) -> Release | None:
        """The release that will stand at one path with a change, or None."""
        component, _ = split_path(path)
        edit = Change(self._policy, self._place, self.state(now), pending, now)
        part = edit.standing(edit.home(component, path))
        target = part.targets.get(path) if part else None
        if part is None or target is None:
            return None
        return Release.from_target(shared.whole(part, target))

    # -- edits ---------------------------------------------------------------------------------
    def create(self, now: datetime) -> Pending:
        """Root, targets and one role per component of the policy, all waiting for signatures."""
        if self._root is not None:
            raise NotPermitted(
                "this workspace has an image root", code="exists", remedy="ota repo status"
            )
        policy = self._policy.image
        top = self._top()
        root = repository.make_root(1, policy.root.expires, now, top)
        edit = Change(self._policy, self._place, None, None, now)
        edit.put("root", root, 0, Needs.of(*top["root"]))
        edit.root = root
        edit.approvers()
        for component in policy.components:
            edit.component(component)
        return edit.done()

    def add(
        self, pending: Pending | None, release: Release, source: Path, now: datetime
    ) -> Pending:
        """List a release; ``source`` is uploaded with the change.

        Raises ``NotPermitted``: ``path-taken`` (the path has other content), ``counter`` (see
        :meth:`next_counter`); ``Malformed`` for a reserved component.
        """
        edit = self._edit(pending, now)
        edit.component(release.component)
        home = edit.home(release.component, release.path)
        role = edit.role(home)
        known = role.targets.get(release.path)
        target = release.to_target()
        if known is not None:
            _refuse_taken(Release.from_target(shared.whole(role, known)).to_target(), target)
        else:
            newest = edit.counter(release.component)
            _check_counter(release, newest)
            if release.release_counter != newest and home != release.component:
                over = edit.role(release.component)
                over.unrecognized_fields[COUNTER] = release.release_counter
                edit.changed(release.component, over)
            elif home == release.component:
                role.unrecognized_fields[COUNTER] = release.release_counter
            role.targets[release.path] = target
            edit.changed(home, role)
        name = layout.image_target(release.path, release.sha256)
        edit.upload(name, source, release.sha256, release.length)
        return edit.done()

    def add_playbook(self, pending: Pending | None, playbook: Playbook, now: datetime) -> Pending:
        """List a playbook; its text travels with the change.

        Raises ``NotPermitted``: ``playbook-role`` (nobody is named to sign playbooks),
        ``path-taken`` (this name and version has other content).
        """
        if PLAYBOOKS not in self._policy.image.components:
            raise NotPermitted(
                f"image.toml names no keyholders for [components.{PLAYBOOKS}]",
                code="playbook-role",
                subject=playbook.path,
                remedy=f"add [components.{PLAYBOOKS}] with keyholders of its own to image.toml",
            )
        edit = self._edit(pending, now)
        edit.component(PLAYBOOKS)
        role = edit.role(PLAYBOOKS)
        target = playbook_target.describe(playbook).to_target()
        known = role.targets.get(target.path)
        _refuse_taken(known, target)
        if known is None:
            role.targets[target.path] = target
            edit.changed(PLAYBOOKS, role)
        name = layout.image_target(target.path, target.hashes["sha256"])
        edit.file(name, playbooks.encode(playbook))
        return edit.done()

    def yank(
        self, pending: Pending | None, path: str, now: datetime, *, astray: bool = False
    ) -> Pending:
        """Take a release or playbook off the list; ``NotFound`` when it is not on it.

        Whatever stands under that path goes, also what is no release, or stands in a role where
        it does not belong, top-level targets included. ``astray``: only from such roles.
        """
        edit = self._edit(pending, now)
        homes = [name for name, belongs in _where(edit, path) if not (astray and belongs)]
        if not homes:
            raise NotFound(f"{path} is not listed", subject=path, remedy="ota release list")
        for home in homes:
            role = edit.role(home)
            del role.targets[path]
            edit.changed(home, role)
        return edit.done()

    def where(self, pending: Pending | None, path: str, now: datetime) -> dict[str, bool]:
        """Role that lists a path as a release -> whether it belongs there; see :func:`_where`."""
        return dict(_where(self._edit(pending, now), path))

    def change(self, pending: Pending | None, now: datetime, renew: Sequence[str] = ()) -> Pending:
        """Whatever the policy says otherwise than what is published; see ``signing/changes/rotation.py``.

        ``renew`` names roles to be signed again for their expiry; ``NotFound`` for no role.
        """
        state = self.state(now)
        if state is None:
            raise unpublished()
        for name in renew:
            if name != Root.type and not state.live(name):
                raise NotFound(f"there is no role {name!r:.80}", remedy="ota repo status")
        edit = self._edit(pending, now)
        top = self._top()
        return rotation.rotate(edit, self._policy, state, top, now, renew=renew).done()

    def bump(self, by: int, seen: Mapping[str, int], now: datetime) -> Pending:
        """Every targets role again, ``by`` versions above what is here and what was ``seen``.

        For a store restored from backup: devices refuse versions that they have passed.
        ``seen``: role -> version, as somebody remembers it.
        """
        edit = self._edit(None, now)
        state = self.state(now)
        if state is None:
            raise unpublished()
        gone = edit.gone()
        for name in sorted(set(seen) - _TOP):
            if not edit.live(name) and name not in gone and not bins.is_bin(name):
                edit.component(name)
        client = state.client
        listed = {f.removesuffix(".json"): m.version for f, m in client.snapshot.meta.items()}
        dormant = {
            name: max(listed.get(name, 0), seen.get(name, 0)) + by
            for name in {*listed, *seen} - _TOP
            if not edit.live(name)
        }
        snapshot = max(client.snapshot.version, seen.get("snapshot", 0)) + by
        timestamp = max(client.timestamp.version, seen.get("timestamp", 0)) + by
        edit.lift((snapshot, timestamp), dormant)
        parts = [name for c in edit.components() for name, _ in edit.parts(c)]
        for name in (Targets.type, *parts):
            least = max(state.version(name), seen.get(name, 0)) + by
            edit.changed(name, edit.role(name), above=least)
        return edit.done()

    def refuse_stale(self, pending: Pending, now: datetime) -> None:
        """``Busy`` (``stale-base``) for a change whose base has moved on."""
        if self.state(now) is not None:
            self._edit(pending, now)

    def next_counter(
        self, pending: Pending | None, component: str, now: datetime, *, security_fix: bool
    ) -> int:
        """The counter a release of this component gets now: the newest, plus one for a fix."""
        if component in {*RESERVED, PLAYBOOKS}:
            raise Malformed(f"component: {component} is a reserved name", subject=component)
        return self._edit(pending, now).counter(component) + int(security_fix)

    def _edit(self, pending: Pending | None, now: datetime) -> Change:
        if self._root is None and pending is None:
            raise NotFound(
                "the image repository does not exist yet", subject="image", remedy="ota repo create"
            )
        edit = Change(self._policy, self._place, self.state(now), pending, now)
        if pending is not None:
            edit.refuse_stale()
        return edit


def unpublished() -> NotFound:
    """The error of a repository without anything in it."""
    return NotFound("the image repository was never published", remedy="ota repo status")


def _refuse_taken(known: TargetFile | None, target: TargetFile) -> None:
    """A path keeps its content for ever."""
    if known is not None and known.to_dict() != target.to_dict():
        raise NotPermitted(
            f"{target.path} is listed with other content",
            code="path-taken",
            subject=target.path,
            remedy="give it another version or path",
        )


def _where(edit: Change, path: str) -> Iterator[tuple[str, bool]]:
    """Roles that list a path as a release, and whether it belongs there.

    Top-level targets, which clients ask first, and the role where it belongs; every other one,
    every bin included, is read only where that one does not list it.
    """
    top = edit.standing(Targets.type)
    if top is not None and path in above(top.targets):
        yield Targets.type, False
    component = path.partition("/")[0]
    own = edit.home(component, path) if component in edit.components() else ""
    home = edit.standing(own) if own else None
    if home is not None and path in home.targets:
        yield own, True
        return
    for name, role in [part for c in edit.components() for part in edit.parts(c)]:
        if path in role.targets:
            yield name, False


def _check_counter(release: Release, newest: int) -> None:
    expected = newest + int(release.security_fix)
    if release.release_counter != expected:
        why = "with" if release.security_fix else "without"
        raise NotPermitted(
            f"{release.path}: counter {release.release_counter}; {why} --security-fix it is "
            f"{expected}",
            code="counter",
            subject=release.path,
            remedy="leave the counter to ota release add",
        )
