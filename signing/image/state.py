"""The image repository as it was verified: roles, releases, release counters.

A component's role, or each of its hash bins (``signing/bins.py``), lists releases of that component and
nothing else, and the role of playbooks nothing but those. Bins are read, and verified, when
somebody asks for what stands in them.

What devices refuse is not listed here either: a release whose description does not fit, every
release of a component that hands them on to other keyholders (:attr:`State.broken`), and whatever
top-level targets lists, which is asked first (TUF 5.6.7) and delegates releases only. It is named
by ``ota repo verify`` and taken off by a yank; but one component's keyholders stop nobody else's
rollouts, as on devices. Nothing of it is ever signed here: see :func:`releases_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tuf.api.metadata import TargetFile, Targets

from signing import bins, shared
from signing.approval import APPROVERS_PATH
from signing.client.workflow import TufClient
from signing.errors import Malformed, Refusal
from signing.layout import PLAYBOOKS
from signing.playbooks import target as playbook_target
from signing.playbooks.target import PlaybookTarget
from signing.release import Release

COUNTER = "release_counter"
"""Signed field of a component's role: the highest release counter that it ever listed."""
REMOVED = "removed"
"""Signed field of top-level targets: component that was removed -> its last counter."""


@dataclass(frozen=True)
class State:
    """The repository as verified: top-level targets, and component -> its role.

    ``broken``: component -> why no device takes a release of it; its role stands here without the
    delegations that break it, as its next version will.
    """

    client: TufClient
    targets: Targets
    roles: Mapping[str, Targets]
    broken: Mapping[str, Refusal] = field(default_factory=dict)
    _read: dict[str, dict[str, Release]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, client: TufClient) -> State:
        """From a client that has read top-level targets; loads every component's role.

        Raises what the client raises.
        """
        delegations = client.targets.delegations
        names = delegations.roles or {} if delegations else {}
        roles = {name: client.role(name, Targets.type) for name in names}
        broken: dict[str, Refusal] = {}
        for name, role in list(roles.items()):
            try:
                bins.refuse_others(name, role, client.targets)
            except Refusal as e:
                broken[name] = e
                roles[name] = Targets.from_dict(role.to_dict())
                roles[name].delegations = None
        return cls(client, client.targets, roles, broken)

    def live(self, name: str) -> bool:
        """Whether a role is delegated to; the snapshot also lists those that no longer are."""
        if name == Targets.type or name in self.roles:
            return True
        layout = bins.of(self.roles.get(bins.component_of(name)))
        return layout is not None and layout.is_delegated_role(name)

    def version(self, name: str) -> int:
        """Version of a live targets role, 0 for any other; reads no bin."""
        return self.client.snapshot.meta[f"{name}.json"].version if self.live(name) else 0

    def part(self, name: str) -> Targets | None:
        """A targets role by its name, verified: targets, a component's, or a bin."""
        if not self.live(name):
            return None
        if bins.is_bin(name):
            return self.client.role(name, bins.component_of(name))
        return self.targets if name == Targets.type else self.roles[name]

    def parts(self, component: str) -> Iterator[tuple[str, Targets]]:
        """Name and role of everything that lists releases of this component, itself first."""
        role = self.roles[component]
        yield component, role
        for name in bins.names(role):
            yield name, self.client.role(name, component)

    def releases(self, now: datetime | None = None) -> dict[str, Release]:
        """Path -> release; with ``now``, only those of roles that have not expired."""
        found: dict[str, Release] = {}
        if now is not None and self.targets.is_expired(now):
            return found
        for component, role in self.roles.items():
            if component not in self.broken and (now is None or not role.is_expired(now)):
                for name, part in self.parts(component):
                    if now is None or not part.is_expired(now):
                        found |= self.listed(name, part)
        return found

    def at(self, path: str, now: datetime | None = None) -> Release | None:
        """The release at one path, reading one bin at most; ``now`` as in :meth:`releases`."""
        component = path.partition("/")[0]
        role = self.roles.get(component)
        if role is None or component in self.broken:
            return None
        name = bins.home(component, role, path)
        part = self.part(name) or role
        if now is not None and any(r.is_expired(now) for r in (self.targets, role, part)):
            return None
        return self.listed(name, part).get(path)

    def listed(self, name: str, part: Targets) -> dict[str, Release]:
        """The releases of one role of this state that devices would take, read once."""
        if name not in self._read:
            found = fitting(name, part, self.roles[bins.component_of(name)])
            for path in found.keys() & self.targets.targets.keys():
                del found[path]
            self._read[name] = found
        return self._read[name]

    def refuse_unfit(self, name: str, part: Targets) -> None:
        """``Refusal`` for the first thing in a role that no device would take."""
        if name == Targets.type:
            refuse_above(part.targets)
            return
        component = bins.component_of(name)
        if component in self.broken:
            raise self.broken[component]
        releases_of(name, part, self.roles[component])

    def target(self, path: str) -> TargetFile | None:
        """What any targets role lists under a path: top-level, a component's, or a bin."""
        component = path.partition("/")[0]
        role = self.roles.get(component)
        found = self.targets.targets.get(path)
        if found is not None or role is None:
            return found
        part = self.part(bins.home(component, role, path)) or role
        found = part.targets.get(path)
        return None if found is None else shared.whole(part, found)

    def stands(self, path: str) -> bool:
        """Whether any role lists this path as a release, rightly or not; reads every bin."""
        return path in above(self.targets.targets) or any(
            path in part.targets for c in self.roles for _, part in self.parts(c)
        )

    def playbooks(self, now: datetime | None = None) -> dict[str, PlaybookTarget]:
        """Path -> playbook that devices would take; with ``now``, only while unexpired."""
        role = self.roles.get(PLAYBOOKS)
        if role is None or PLAYBOOKS in self.broken:
            return {}
        if now is not None and (role.is_expired(now) or self.targets.is_expired(now)):
            return {}
        found = playbook_target.fitting(role)
        return {p: t for p, t in found.items() if p not in self.targets.targets}


@dataclass
class Latest:
    """The state that was verified last: good for as long as the timestamp is the same bytes.

    A command asks for the state many times; with a thousand bins, the snapshot alone takes a
    hundredth of a second to verify.
    """

    root: bytes = b""
    timestamp: bytes = b""
    state: State | None = None

    def get(self, root: bytes, timestamp: bytes | None) -> State | None:
        """The state under this root, or None when something moved on."""
        return self.state if (root, timestamp) == (self.root, self.timestamp) else None

    def put(self, root: bytes, state: State) -> None:
        """Keep what was verified under this root."""
        self.root, self.timestamp = root, state.client.served or b""
        self.state = state


def above(paths: Iterable[str]) -> list[str]:
    """What stands in top-level targets beside the approvers: nothing that a device would take."""
    return [path for path in paths if path != APPROVERS_PATH]


def refuse_above(paths: Iterable[str]) -> None:
    """``Refusal`` for releases in top-level targets, which names them."""
    found = above(paths)
    if found:
        names = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if found[5:] else "")
        why = f"{names}: in role targets, which delegates releases and lists none"
        raise Refusal("component-mismatch", why, subject=found[0])


def releases_of(name: str, part: Targets, role: Targets | None = None) -> dict[str, Release]:
    """The releases that one role lists: a component's, or a bin of the component's ``role``.

    Raises ``Refusal`` for one that is not the component's, or in a bin where nobody looks for it.
    The role of playbooks lists playbooks and no release.
    """
    found: dict[str, Release] = {}
    if bins.component_of(name) == PLAYBOOKS:
        playbook_target.playbooks_of(part)
        return found
    for path, release in _judged(name, part, role):
        if isinstance(release, Refusal):
            raise release
        found[path] = release
    return found


def fitting(name: str, part: Targets, role: Targets | None = None) -> dict[str, Release]:
    """The same, without what is refused."""
    judged = _judged(name, part, role)
    return {path: found for path, found in judged if not isinstance(found, Refusal)}


def _judged(
    name: str, part: Targets, role: Targets | None
) -> Iterator[tuple[str, Release | Refusal]]:
    """Each target as the release that it is, or why it is none; none at all for playbooks."""
    component = bins.component_of(name)
    for path, target in part.targets.items() if component != PLAYBOOKS else ():
        try:
            release = Release.from_target(shared.whole(part, target))
        except Malformed as e:
            yield path, Refusal("release-malformed", str(e), subject=path)
            continue
        astray = role is not None and bins.is_bin(name) and bins.home(component, role, path) != name
        if release.component != component or astray:
            why = f"{path} stands in role {name}"
            yield path, Refusal("component-mismatch", why, subject=path)
        else:
            yield path, release


def newest_counter(component: str, role: Targets) -> int:
    """The highest counter that a component's role ever listed, yanked releases included.

    Of a component with bins its role alone says so.
    """
    signed = role.unrecognized_fields.get(COUNTER, 1)
    if not isinstance(signed, int):
        raise Refusal("release-malformed", f"{component}: {COUNTER} is not a number")
    listed = fitting(component, role).values()
    return max([signed, *(release.release_counter for release in listed)])
