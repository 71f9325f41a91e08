"""Roles as they stand with a change: its drafts over what is published. The reading half of one.

Nothing that is handed out here is edited: :meth:`Drafts.role` copies. Hash bins of the published
state are read when somebody asks for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from signing import bins, repository, shared, strict
from signing.changes.ceremony import Pending, Waiting
from signing.errors import Busy, Malformed
from signing.image.state import REMOVED, State, newest_counter
from signing.policy import Policy
from signing.repository import Place


class Drafts:
    """Roles of a pending change over those of the verified state."""

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
        self._roles: dict[str, Waiting] = dict(self._pending.roles)
        self._read: dict[str, Targets] = {}
        self.root: Root | None = None

    # -- one role ------------------------------------------------------------------------------
    def waits(self, name: str) -> bool:
        """Whether a role is part of the change."""
        return name in self._roles

    def draft(self, name: str) -> Targets | None:
        """A targets role of the change, or None."""
        if name not in self._read and name in self._roles:
            signed = self._roles[name].metadata().signed
            if isinstance(signed, Targets):
                self._read[name] = signed
        return self._read.get(name)

    def standing(self, name: str) -> Targets | None:
        """A targets role as it stands with the change, or None; not to be edited."""
        found = self.draft(name)
        if found is None and self._state is not None and self.live(name):
            return self._state.part(name)
        return found

    def role(self, name: str) -> Targets:
        """A copy of a role that stands, or an empty one."""
        found = self.standing(name)
        return self.empty() if found is None else _copy(found)

    def empty(self) -> Targets:
        """A targets role with nothing in it; it is given its expiry when it is put."""
        return Targets(1, repository.SPEC, repository.until(self._now, timedelta()), {})

    def live(self, name: str) -> bool:
        """Whether a role is delegated to as things stand with the change."""
        if name == Targets.type:
            return True
        component = bins.component_of(name)
        if component not in self.components():
            return False
        layout = bins.of(self.standing(component)) if bins.is_bin(name) else None
        return name == component or bool(layout and layout.is_delegated_role(name))

    def parent(self, name: str) -> Root | Targets:
        """Who delegates to a role: root, targets, or a bin's component."""
        if name == Targets.type:
            return self.trusted_root()
        above = bins.component_of(name) if bins.is_bin(name) else Targets.type
        found = self.standing(above)
        if found is None:
            raise Malformed(f"{name} is delegated to by nobody", subject=name)
        return found

    # -- all of them ---------------------------------------------------------------------------
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

    def components(self) -> tuple[str, ...]:
        """Names of the components that are delegated to."""
        found = self.draft(Targets.type) or (self._state.targets if self._state else None)
        return repository.delegated(found) if found else ()

    def parts(self, component: str) -> Iterator[tuple[str, Targets]]:
        """Name and role of everything that lists releases of a component, itself first."""
        role = self.standing(component)
        for name in (component, *bins.names(role)):
            part = self.standing(name)
            if part is not None:
                yield name, part

    def listed(self, component: str) -> dict[str, TargetFile]:
        """Path -> target of a whole component."""
        return {
            path: target
            for _, part in self.parts(component)
            for path, target in shared.listed(part).items()
        }

    def home(self, component: str, path: str) -> str:
        """Name of the role that lists a path of a component."""
        role = self.standing(component)
        return bins.home(component, role, path) if role else component

    def counter(self, component: str) -> int:
        """The highest release counter that a component ever listed; 1 for a new one."""
        role = self.standing(component)
        if role is not None:
            return newest_counter(component, role)
        known = self.gone().get(component)
        return known if isinstance(known, int) else 1

    def gone(self) -> dict[str, Any]:
        """Components that were removed, and the last counter of each."""
        targets = self.standing(Targets.type)
        found = targets.unrecognized_fields.get(REMOVED) if targets else None
        return found if isinstance(found, dict) else {}

    # -- against what is published -------------------------------------------------------------
    def base(self, name: str) -> int:
        """The published version of a role that is delegated to, 0 for a new one."""
        if self._state is None:
            return 0
        return self._state.client.root.version if name == Root.type else self._state.version(name)

    def published(self) -> frozenset[str]:
        """Roles of the change that the store already lists, exactly so."""
        return frozenset(name for name in self._roles if self._is_published(name))

    def _is_published(self, name: str) -> bool:
        waits = self._roles[name]
        if self._state is None or waits.signed.get("version") != self.base(name):
            return False
        known = self._state.client.root if name == Root.type else self._state.part(name)
        body: Metadata[Any] = Metadata(known)
        return known is not None and body.signed_bytes == waits.metadata().signed_bytes

    def refuse_stale(self) -> None:
        """``Busy`` (code ``stale-base``) when a role has moved on since the change began.

        What a killed publish already made public is no reason.
        """
        for name, role in self._roles.items():
            if role.base != self.base(name) and not self._is_published(name):
                raise Busy(
                    f"{name} is at version {self.base(name)}, the change is built on {role.base}",
                    code="stale-base",
                    subject=name,
                    remedy="ota repo discard image, and make the change again",
                )

    def still_signed(self, name: str) -> bool:
        """Whether the published signatures of a role reach the threshold that it stands under."""
        if self._state is None or self._state.part(name) is None:
            return True
        data = self._state.client.kept(name)
        return data is not None and repository.holds(self.parent(name), name, data)


def _copy(role: Targets) -> Targets:
    return Targets.from_dict(msgspec.json.decode(msgspec.json.encode(role.to_dict())))
