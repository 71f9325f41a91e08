"""A change of the image repository in the making: drafts over the verified state.

Every method edits copies; :meth:`Change.done` returns the pending change. Touching a role gives
it the next free version, once per change, and drops the signatures that it had.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets

from signing import ceremony, layout, repository, strict
from signing.ceremony import Needs, Pending
from signing.errors import Busy, Malformed
from signing.image_state import COUNTER, State, newest_counter, releases_of
from signing.plan import APPROVERS_PATH
from signing.policy import RESERVED, Policy
from signing.policy_file import Role as PolicyRole
from signing.repository import Place
from signing.review import needs as needs_of

APPROVERS_KIND = "approvers"


class Change:
    """A change in the making: roles of the pending change over those of the verified state."""

    def __init__(
        self,
        policy: Policy,
        place: Place,
        state: State | None,
        pending: Pending | None,
        now: datetime,
    ) -> None:
        self._policy = policy
        self._place = place
        self._state = state
        self._now = now
        self._pending = pending or Pending(
            schema=1, repository="image", created=strict.stamp(now), roles={}, summary=()
        )
        self._roles = dict(self._pending.roles)
        self._uploads = {item.name: item for item in self._pending.uploads}
        self._files = dict(self._pending.files)
        self.root: Root | None = None

    # -- what is there -------------------------------------------------------------------------
    def _before(self) -> dict[str, Targets]:
        if self._state is None:
            return {}
        return {Targets.type: self._state.targets, **self._state.roles}

    def _drafts(self) -> dict[str, Targets]:
        return msgspec.structs.replace(self._pending, roles=self._roles).drafts()

    def _base(self, name: str) -> int:
        known = self._before().get(name)
        if name == Root.type:
            return self._state.client.root.version if self._state else 0
        return known.version if known else 0

    def published(self) -> frozenset[str]:
        """Roles of the change that the store already lists, exactly so."""
        known: dict[str, Metadata[Any]] = {n: Metadata(r) for n, r in self._before().items()}
        if self._state is not None:
            known[Root.type] = Metadata(self._state.client.root)
        return frozenset(
            name
            for name, role in self._roles.items()
            if name in known and known[name].signed_bytes == role.metadata().signed_bytes
        )

    def refuse_stale(self) -> None:
        """``Busy`` (code ``stale-base``) when a role has moved on since the change began.

        What a killed publish already made public is no reason.
        """
        done = self.published()
        for name, role in self._roles.items():
            if name not in done and role.base != self._base(name):
                raise Busy(
                    f"{name} is at version {self._base(name)}, the change is built on {role.base}",
                    code="stale-base",
                    subject=name,
                    remedy="ota repo discard image, and make the change again",
                )

    def trusted_root(self) -> Root:
        """The root after this change."""
        if self.root is not None:
            return self.root
        if Root.type in self._roles:
            signed = self._roles[Root.type].metadata().signed
            if isinstance(signed, Root):
                return signed
        if self._state is None:
            raise Malformed("pending change: a first change without a root", subject="image")
        return self._state.client.root

    def targets(self) -> Targets:
        """A copy of top-level targets as it stands with this change."""
        known = self._drafts().get(Targets.type) or self._before().get(Targets.type)
        if known is not None:
            return _copy(known)
        life = self._policy.image.targets.expires
        return Targets(1, repository.SPEC, repository.until(self._now, life), {})

    def roles(self) -> dict[str, Targets]:
        """Copies of the components' roles as they stand with this change."""
        merged = self._before() | self._drafts()
        return {name: _copy(role) for name, role in merged.items() if name != Targets.type}

    def counter(self, component: str) -> int:
        """The highest release counter that this component ever listed; 1 for a new one."""
        role = self.roles().get(component)
        return newest_counter(component, role) if role is not None else 1

    # -- changes -------------------------------------------------------------------------------
    def put(self, name: str, signed: Root | Targets, base: int, *needs: Needs) -> None:
        """Set one role; signatures that it had are dropped."""
        self._roles[name] = ceremony.waiting(signed, base, *needs)

    def drop(self, name: str) -> None:
        """Leave a role as it is published."""
        self._roles.pop(name, None)

    def waits(self, name: str) -> bool:
        """Whether a role is part of the change."""
        return name in self._roles

    def changed(self, name: str, role: Targets, above: int = 0) -> None:
        """Give a role its new expiry and, once per change, its next free version.

        ``above``: a version that must be exceeded.
        """
        base = self._base(name)
        waits = self._roles.get(name)
        version = waits.metadata().signed.version if waits is not None else 0
        if version <= above:
            version = self._place.free_version(name, max(base, above))
        role.version = version
        role.expires = repository.until(self._now, self._policy_of(name).expires)
        role.unrecognized_fields["issued"] = strict.stamp(self._now)
        self.put(name, role, base, self._needs(name))

    def reconsider(self, name: str) -> None:
        """Ask again who must sign a role, now that its delegator differs.

        One that waits keeps its bytes, and signatures that still count; a published one whose
        signatures do not reach the new threshold is signed again, in a new version.
        """
        if name in self._roles:
            needs = (self._needs(name),)
            self._roles[name] = msgspec.structs.replace(self._roles[name], needs=needs)
        elif not self._still_signed(name):
            self.changed(name, _copy(self._before()[name]))

    def _still_signed(self, name: str) -> bool:
        if self._state is None or name not in self._before():
            return True
        data = self._state.client.cache()[f"{name}.json"]
        parent: Root | Targets = self.trusted_root() if name == Targets.type else self.targets()
        return repository.holds(parent, name, data)

    def _policy_of(self, name: str) -> PolicyRole:
        image = self._policy.image
        return image.targets if name == Targets.type else image.component(name)

    def _needs(self, name: str) -> Needs:
        return needs_of(self.trusted_root() if name == Targets.type else self.targets(), name)

    def component(self, name: str) -> Targets:
        """A component's role; a new one is delegated to first, a change of targets."""
        if name in RESERVED:
            raise Malformed(f"component: {name} is a reserved name", subject=name)
        known = self.roles().get(name)
        if known is not None:
            return known
        self.delegate(name)
        life = self._policy.image.component(name).expires
        role = Targets(1, repository.SPEC, repository.until(self._now, life), {})
        role.unrecognized_fields[COUNTER] = 1
        self.changed(name, role)
        return role

    def delegate(self, name: str) -> bool:
        """Delegate a component to the policy's keyholders; False when it is so already."""
        policy = self._policy.image.component(name)
        keys = {key.keyid: key for key in self._policy.keys(policy.keyholders)}
        targets = self.targets()
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
        used = {keyid for role in delegations.roles.values() for keyid in role.keyids}
        for keyid in set(delegations.keys) - used:
            del delegations.keys[keyid]
        self.changed(Targets.type, targets)
        return True

    def approvers(self) -> bool:
        """List who may author and approve plans; False when exactly these are listed."""
        data = strict.compact(msgspec.to_builtins(self._policy.approvers()))
        custom = {"custom": {"kind": APPROVERS_KIND}}
        sha256 = strict.digest(data)
        targets = self.targets()
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

    def done(self, above: tuple[int, int] = (0, 0)) -> Pending:
        """The change as it now waits, with what it replaces."""
        listed = self._listed()
        return msgspec.structs.replace(
            self._pending,
            roles=self._roles,
            summary=tuple(sorted(self._roles)),
            uploads=tuple(item for name, item in self._uploads.items() if name in listed),
            files={name: text for name, text in self._files.items() if name in listed},
            before=self._replaced(),
            above=max(above, self._pending.above),
        )

    def _replaced(self) -> dict[str, str]:
        """Published text of each role of the change, and of targets, which vouch for the rest."""
        if self._state is None or not self._drafts():
            return {}
        cache = self._state.client.cache()
        wanted = {*self._drafts(), Targets.type}
        return {n: cache[f"{n}.json"].decode() for n in wanted if f"{n}.json" in cache}

    def _listed(self) -> dict[str, TargetFile]:
        """Store name -> target, for every target of the changed roles."""
        return _names(self._drafts())

    def refuse_unfounded(self) -> None:
        """What a signed change lists must be sound, and must come with its bytes.

        Every component's role lists only releases of its own (``Refusal``); every target that is
        new comes with an upload or a file of exactly its hash, and nothing else comes along
        (``Malformed``): the waiting file's own words about bytes are not believed.
        """
        listed = self._listed()
        for name, role in self._drafts().items():
            if name != Targets.type:
                releases_of(name, role)
        bytes_of = {i.name: (i.length, i.sha256) for i in self._uploads.values()}
        for name, text in self._files.items():
            data = text.encode()
            bytes_of[name] = (len(data), strict.digest(data))
        for name, found in bytes_of.items():
            target = listed.get(name)
            if target is None or found != (target.length, target.hashes.get("sha256")):
                raise Malformed(f"pending change: {name} is not what the roles list", subject=name)
        known = _names(self._before())
        for name, target in listed.items():
            if name not in known and name not in bytes_of:
                raise Malformed(f"pending change: {target.path} comes without its bytes")


def _names(roles: dict[str, Targets]) -> dict[str, TargetFile]:
    return {
        layout.image_target(path, target.hashes.get("sha256", "")): target
        for role in roles.values()
        for path, target in role.targets.items()
    }


def _copy(role: Targets) -> Targets:
    return Targets.from_dict(msgspec.json.decode(msgspec.json.encode(role.to_dict())))
