"""The image repository as it was verified: roles, releases, release counters.

A component's role lists releases of that component and nothing else, and the role of playbooks
nothing but those; anything else is a refusal on the operator's side, too, not only on devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import Targets

from signing import playbook_target
from signing.client import TufClient
from signing.errors import Malformed, Refusal
from signing.layout import PLAYBOOKS
from signing.playbook_target import PlaybookTarget
from signing.release import Release

COUNTER = "release_counter"
"""Signed field of a component's role: the highest release counter that it ever listed."""


@dataclass(frozen=True)
class State:
    """The repository as verified: top-level targets, and component -> its role."""

    client: TufClient
    targets: Targets
    roles: Mapping[str, Targets]

    def releases(self, now: datetime | None = None) -> dict[str, Release]:
        """Path -> release; with ``now``, only those of roles that have not expired."""
        if now is not None and self.targets.is_expired(now):
            return {}
        return {
            path: release
            for name, role in self.roles.items()
            if now is None or not role.is_expired(now)
            for path, release in releases_of(name, role).items()
        }

    def playbooks(self, now: datetime | None = None) -> dict[str, PlaybookTarget]:
        """Path -> playbook; with ``now``, only while their role has not expired."""
        role = self.roles.get(PLAYBOOKS)
        if role is None or (
            now is not None and (role.is_expired(now) or self.targets.is_expired(now))
        ):
            return {}
        return playbook_target.playbooks_of(role)


def releases_of(component: str, role: Targets) -> dict[str, Release]:
    """The releases of one component's role; ``Refusal`` for one that is not the component's.

    The role of playbooks lists playbooks and no release.
    """
    found: dict[str, Release] = {}
    if component == PLAYBOOKS:
        playbook_target.playbooks_of(role)
        return found
    for path, target in role.targets.items():
        try:
            release = Release.from_target(target)
        except Malformed as e:
            raise Refusal("release-malformed", str(e), subject=path) from e
        if release.component != component:
            raise Refusal("component-mismatch", f"{path} stands in role {component}", subject=path)
        found[path] = release
    return found


def newest_counter(component: str, role: Targets) -> int:
    """The highest counter that a component's role ever listed, yanked releases included."""
    signed = role.unrecognized_fields.get(COUNTER, 1)
    if not isinstance(signed, int):
        raise Refusal("release-malformed", f"{component}: {COUNTER} is not a number")
    listed = [r.release_counter for r in releases_of(component, role).values()]
    return max([signed, *listed])
