"""Use case: an offline keyholder's key was stolen: what it could have let in, and who runs it.

A release, or a playbook, is *vouched for* when a version of its role that was signed before the
theft lists the same bytes. Every version is read from the store and verified, since whoever stole
a key may have the bucket as well; it says itself when it was signed. All others that the
keyholder's roles list are suspect: to be taken off; and the devices that run one, keep one to go
back to, or ran one, are listed from their signed reports.

It works before and after the keyholder is replaced, which is a change like any other (``ota repo
change``) and fits into the same sitting. A thief of fewer keys than the threshold let nothing in
alone. A thief of as many could have forged older versions, too: where that is possible, name an
earlier ``since``, and compare with a backup of the store.

>>> found = suspects(repos, "targets-2", since, now)
>>> affected(found, registry.devices()), ran(found, registry.newest())
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tuf.api.metadata import Metadata, Root, Targets

from ota.errors import NotFound, Refusal
from ota.ports import Device
from ota.repositories.repo import Repositories
from signing import bins, layout
from signing.image.state import State, fitting
from signing.issued import issued
from signing.playbooks import target as playbook_target
from signing.playbooks.target import PlaybookTarget
from signing.release import Release
from signing.report import Report
from signing.repository import holds

_LIMIT = 64 * 1024 * 1024
_NOT_RUN = frozenset({"refused", "stale"})
Suspect = Release | PlaybookTarget


@dataclass(frozen=True)
class Affected:
    """One device: the suspect release, and whether it ``runs`` or is ``kept`` to go back to.

    Of a playbook: ``ran``, also where it came to a bad end.
    """

    device: str
    component: str
    path: str
    slot: str


def suspects(
    repos: Repositories, keyholder: str, since: datetime, now: datetime
) -> tuple[Suspect, ...]:
    """Listed releases and playbooks that no verified metadata from before ``since`` vouches for.

    Only components that the keyholder signs or once signed. Raises ``NotFound`` for a keyholder
    who never signed one.
    """
    keyid = repos.policy.key(keyholder).keyid
    state = repos.image().state(now)
    if state is None:
        raise NotFound("the image repository was never published", remedy="ota repo status")
    roots = [Metadata[Root].from_bytes(data).signed for data in repos.anchors("image").values()]
    tops = [state.targets, *_versions(repos, "targets", state.targets.version, roots)]
    mine = {name for top in tops for name, keyids in _holders(top) if keyid in keyids}
    if not mine:
        raise NotFound(
            f"{keyholder} never signed a component",
            subject=keyholder,
            remedy="ota repo status, ota key list",
        )
    found: list[Suspect] = []
    for component in sorted(mine & set(state.roles)):
        found += _unvouched(repos, state, component, tops, since)
    return tuple(sorted(found, key=lambda r: r.path))


def _holders(top: Targets) -> Iterator[tuple[str, list[str]]]:
    for name, role in (top.delegations.roles or {} if top.delegations else {}).items():
        yield name, role.keyids


def _unvouched(
    repos: Repositories, state: State, component: str, tops: list[Targets], since: datetime
) -> list[Suspect]:
    """What is listed that no verified version from before the theft lists with these bytes.

    Looked for where each stands now, then in every role that once listed any: the component's
    own, and bins of layouts that are no more.
    """
    life = repos.policy.image.component(component).expires
    parents = [top for top in tops if component in dict(_holders(top))]
    newest = state.roles[component].version
    own = list(_versions(repos, component, newest, parents))
    left: dict[tuple[str, str], Suspect] = {}
    for name, part in state.parts(component):
        here = {(path, r.sha256): r for path, r in _listed(state, name, part).items()}
        roles = _versions(repos, name, part.version, own) if bins.is_bin(name) else own
        left |= _strike(here, roles, life, since)
    for name, version in _slept(state, component).items():
        left = _strike(left, _versions(repos, name, version, own), life, since)
    return list(_strike(left, own, life, since).values())


def _listed(state: State, name: str, part: Targets) -> Mapping[str, Suspect]:
    """What devices could take from a role, also where top-level targets hides it for now."""
    component = bins.component_of(name)
    if component == layout.PLAYBOOKS:
        return playbook_target.fitting(part)
    return fitting(name, part, state.roles[component])


def _strike(
    left: dict[tuple[str, str], Suspect],
    roles: Iterable[Targets],
    life: timedelta,
    since: datetime,
) -> dict[tuple[str, str], Suspect]:
    """What is left when all is struck that these versions from before the theft list."""
    left = dict(left)
    for role in roles:
        if not left:
            break
        if _signed_at(role, life) < since:
            for path, target in role.targets.items():
                left.pop((path, target.hashes.get("sha256", "")), None)
    return left


def _slept(state: State, component: str) -> dict[str, int]:
    """Bins that this component had in another layout -> the last version of each."""
    listed = {f.removesuffix(".json"): m.version for f, m in state.client.snapshot.meta.items()}
    return {
        name: version
        for name, version in listed.items()
        if bins.is_bin(name) and bins.component_of(name) == component and not state.live(name)
    }


def _versions(
    repos: Repositories, role: str, newest: int, parents: list[Root] | list[Targets]
) -> Iterator[Targets]:
    """Every version in the store that one of these delegators vouches for, newest first."""
    for version in range(newest, 0, -1):
        data = repos.store.get(layout.image_metadata(layout.versioned(version, role)), _LIMIT)
        if data is not None and any(holds(parent, role, data) for parent in parents):
            yield Metadata[Targets].from_bytes(data).signed


def _signed_at(role: Targets, life: timedelta) -> datetime:
    try:
        return issued(role) or role.expires - life
    except Refusal:
        return role.expires


def affected(releases: Iterable[Suspect], devices: Iterable[Device]) -> tuple[Affected, ...]:
    """Devices whose newest signed report names one of these releases' bytes in a slot."""
    suspect = {(r.component, r.sha256): r for r in releases}
    found = []
    for device in devices:
        for component, state in sorted(device.components.items()):
            for slot, name in ((state.current, "runs"), (state.previous, "kept")):
                release = suspect.get((component, slot.sha256)) if slot else None
                if release is not None:
                    found.append(Affected(device.id, component, release.path, name))
    return tuple(found)


def ran(suspect: Iterable[Suspect], reports: Iterable[Report]) -> tuple[Affected, ...]:
    """Devices that reported an order of one of these playbooks, and did not refuse it."""
    known = {(p.path, p.sha256) for p in suspect if isinstance(p, PlaybookTarget)}
    if not known:
        return ()
    found = {
        Affected(report.device, layout.PLAYBOOKS, update.path, "ran")
        for report in reports
        if (update := report.update) is not None
        and (update.path, update.sha256) in known
        and update.outcome not in _NOT_RUN
    }
    return tuple(sorted(found, key=lambda a: (a.device, a.path)))
