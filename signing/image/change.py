"""A change of the image repository in the making: the editing half of ``signing/changes/drafts.py``.

Every method edits copies; :meth:`Change.done` returns the pending change. Touching a role gives
it the next free version, once per change, and drops the signatures that it had; a version that
anybody has signed is never given to another content (TUF 4.4: a version alone says which file).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec
from tuf.api.metadata import DelegatedRole, Delegations, Root, TargetFile, Targets

from signing import bins, layout, repository, shared, strict
from signing.approval import APPROVERS_PATH
from signing.changes import ceremony, lifting
from signing.changes.ceremony import Needs, Pending
from signing.changes.drafts import Drafts
from signing.changes.review import needs as needs_of
from signing.errors import Malformed, NotPermitted
from signing.image.state import COUNTER, REMOVED, State
from signing.policy import RESERVED, Policy
from signing.policy_file import Role as PolicyRole
from signing.repository import Place

APPROVERS_KIND = "approvers"


class Change(Drafts):
    """A change in the making: see :class:`~signing.changes.drafts.Drafts` for what it reads."""

    def __init__(
        self,
        policy: Policy,
        place: Place,
        state: State | None,
        pending: Pending | None,
        now: datetime,
    ) -> None:
        super().__init__(policy, place, state, pending, now)
        self._uploads = {item.name: item for item in self._pending.uploads}
        self._files = dict(self._pending.files)
        self._dormant = dict(self._pending.dormant)
        self._above = self._pending.above

    # -- roles ---------------------------------------------------------------------------------
    def put(self, name: str, signed: Root | Targets, base: int, *needs: Needs) -> None:
        """Set one role; signatures that it had are dropped."""
        self._roles[name] = ceremony.waiting(signed, base, *needs)
        self._read.pop(name, None)
        if isinstance(signed, Targets):
            self._read[name] = signed

    def drop(self, name: str) -> None:
        """Leave a role as it is published."""
        self._roles.pop(name, None)
        self._read.pop(name, None)

    def changed(self, name: str, role: Targets, above: int = 0) -> None:
        """Give a role its new expiry and its next free version.

        A version that this change gave it before, and that nobody has signed, will do. ``above``:
        a version that must be exceeded.
        """
        waits = self._roles.get(name)
        version = int(waits.signed["version"]) if waits is not None else 0
        if version <= above or (waits is not None and waits.signatures):
            least = max(self._seen(name), above, version)
            version = self._place.free_version(name, least)
        role.version = version
        role.expires = repository.until(self._now, self._policy_of(name).expires)
        role.unrecognized_fields["issued"] = strict.stamp(self._now)
        if bins.is_bin(name):
            role.unrecognized_fields[bins.NAME] = name
            shared.share(role)
        if name == Targets.type:
            lifting.seal(role, self._above, self._dormant)
        self.put(name, role, self.base(name), self._needs(name))

    def _seen(self, name: str) -> int:
        """The version that the snapshot lists of a role, delegated to or not any more."""
        meta = self._state.client.snapshot.meta.get(f"{name}.json") if self._state else None
        return meta.version if meta is not None else 0

    def reconsider(self, name: str) -> None:
        """Ask again who must sign a role, now that its delegator differs.

        One that waits keeps its bytes, and signatures that still count; a published one whose
        signatures do not reach the new threshold is signed again, in a new version.
        """
        if name in self._roles:
            needs = (self._needs(name),)
            self._roles[name] = msgspec.structs.replace(self._roles[name], needs=needs)
        elif not self.still_signed(name):
            self.changed(name, self.role(name))

    def _policy_of(self, name: str) -> PolicyRole:
        image = self._policy.image
        return image.targets if name == Targets.type else image.component(bins.component_of(name))

    def _needs(self, name: str) -> Needs:
        return needs_of(self.parent(name), name)

    # -- components ----------------------------------------------------------------------------
    def component(self, name: str) -> None:
        """See to it that a component is delegated to; a new one is a change of targets, too."""
        if name in RESERVED:
            raise Malformed(f"component: {name} is a reserved name", subject=name)
        if name in self._policy.image.removed:
            raise NotPermitted(
                f"the policy says that component {name} is removed",
                code="removed",
                subject=name,
                remedy=f"take `removed` out of [components.{name}] in image.toml",
            )
        if name in self.components():
            return
        counter = self.counter(name)
        self.delegate(name)
        role = self.empty()
        role.unrecognized_fields[COUNTER] = counter
        self.changed(name, role)
        self.lay_out(name)

    def delegate(self, name: str) -> bool:
        """Delegate a component to the policy's keyholders; False when it is so already."""
        policy = self._policy.image.component(name)
        keys = {key.keyid: key for key in self._policy.keys(policy.keyholders)}
        targets = self.role(Targets.type)
        delegations = targets.delegations or Delegations({}, {})
        targets.delegations = delegations
        if delegations.roles is None:
            raise Malformed("targets delegates to hash bins at the top", subject="targets")
        known = delegations.roles.get(name)
        if known and set(known.keyids) == set(keys) and known.threshold == policy.threshold:
            return False
        delegations.roles[name] = DelegatedRole(
            name, list(keys), policy.threshold, terminating=True, paths=[f"{name}/*"]
        )
        delegations.keys.update(keys)
        _forget_keys(delegations)
        _removed(targets, name, None)
        self.changed(Targets.type, targets)
        return True

    def lay_out(self, name: str) -> bool:
        """Spread a component over as many bins as the policy says, under its own keyholders.

        False when it is so already. Bins that stay are only asked whether they are still signed;
        with another number of bins, every release moves and every bin is new.
        """
        role, targets = self.role(name), self.standing(Targets.type)
        before, had = role.delegations, bins.names(role)
        number = self._policy.image.bins_of(name)
        if targets is None or targets.delegations is None:
            raise Malformed(f"{name} is delegated to by nobody", subject=name)
        bins.delegate(name, role, targets.delegations, number)
        if role.delegations == before:
            return False
        if len(had) == (number if number > 1 else 0):
            self.changed(name, role)
            for part in had:
                self.reconsider(part)
            return True
        listed = self.listed(name)
        for part in had:
            self.drop(part)
        role.targets = listed if number == 1 else {}
        self.changed(name, role)
        for part, found in bins.spread(name, role, listed).items():
            if part != name:
                fresh = self.empty()
                fresh.targets = found
                self.changed(part, fresh)
        return True

    def remove(self, name: str) -> bool:
        """Delegate to a component no longer; False when it is so already.

        Its names stay in the snapshot, since clients refuse one that drops a name (TUF 5.5.5).
        Raises ``NotPermitted`` (``not-empty``) while it lists a release, published or waiting.
        """
        role = self.standing(name)
        if role is None:
            return False
        published = self._state.parts(name) if self._state and self._state.live(name) else ()
        if self.listed(name) or any(part.targets for _, part in published):
            raise NotPermitted(
                f"component {name} lists releases; it can not be removed",
                code="not-empty",
                subject=name,
                remedy="ota release yank each of them, publish that, then ota repo change",
            )
        counter = self.counter(name)
        for part in (name, *bins.names(role)):
            self.drop(part)
        targets = self.role(Targets.type)
        if targets.delegations is not None:
            (targets.delegations.roles or {}).pop(name, None)
            _forget_keys(targets.delegations)
        _removed(targets, name, counter)
        self.changed(Targets.type, targets)
        return True

    # -- what goes with it ---------------------------------------------------------------------
    def approvers(self) -> bool:
        """List who may author and approve plans; False when exactly these are listed."""
        data = strict.compact(msgspec.to_builtins(self._policy.approvers()))
        custom = {"custom": {"kind": APPROVERS_KIND}}
        sha256 = strict.digest(data)
        targets = self.role(Targets.type)
        known = targets.targets.get(APPROVERS_PATH)
        if known is not None and known.hashes.get("sha256") == sha256:
            return False
        targets.targets[APPROVERS_PATH] = TargetFile(
            len(data), {"sha256": sha256}, APPROVERS_PATH, custom
        )
        self.file(layout.image_target(APPROVERS_PATH, sha256), data)
        self.changed(Targets.type, targets)
        return True

    def upload(self, name: str, source: Path, sha256: str, length: int) -> None:
        """Remember an image to upload; only while the change waits anyway."""
        if self._roles:
            self._uploads[name] = ceremony.Image(
                name=name, source=str(source.resolve()), sha256=sha256, length=length
            )

    def file(self, name: str, data: bytes) -> None:
        """Remember a text that travels within the change."""
        self._files[name] = data.decode()

    def lift(self, above: tuple[int, int], dormant: Mapping[str, int]) -> None:
        """Versions that snapshot and timestamp must exceed, and at which they list what is gone.

        Said before top-level targets is changed, which signs it.
        """
        self._above, self._dormant = above, dict(dormant)

    def done(self) -> Pending:
        """The change as it now waits, with what it replaces."""
        drafts = [self.draft(name) for name in self._roles]
        listed = repository.store_names(role for role in drafts if role is not None)
        return msgspec.structs.replace(
            self._pending,
            roles=self._roles,
            summary=tuple(sorted(self._roles)),
            uploads=tuple(item for name, item in self._uploads.items() if name in listed),
            files={name: text for name, text in self._files.items() if name in listed},
            before=self._replaced(),
            above=self._above,
            dormant=self._dormant,
        )

    def _replaced(self) -> dict[str, str]:
        """Published text of each role of the change, and of those which vouch for them.

        Where a component's number of bins differs, of all its bins: a signer sees what moves.
        """
        wanted: set[str] = set()
        for name in self._roles:
            if name != Root.type:
                wanted |= {Targets.type, name, bins.component_of(name)}
        state = self._state
        if state is None:
            return {}
        for name, role in state.roles.items():
            if name in self._roles and bins.count(role) != bins.count(self.draft(name)):
                wanted |= set(bins.names(role))
        texts = {n: state.client.kept(n) for n in wanted if state.part(n) is not None}
        return {name: data.decode() for name, data in texts.items() if data is not None}


def _forget_keys(delegations: Delegations) -> None:
    """Drop keys that no delegation names any more."""
    used = {keyid for role in (delegations.roles or {}).values() for keyid in role.keyids}
    for keyid in set(delegations.keys) - used:
        del delegations.keys[keyid]


def _removed(targets: Targets, name: str, counter: int | None) -> None:
    """Note, signed, the last counter of a component that is removed; None for one that is back."""
    known = targets.unrecognized_fields.pop(REMOVED, {})
    kept = {n: c for n, c in known.items() if n != name} if isinstance(known, dict) else {}
    if counter is not None:
        kept[name] = counter
    if kept:
        targets.unrecognized_fields[REMOVED] = kept
