"""Use case: online keys replaced, planned or after a theft, and versions lifted after a restore.

Each of them is run again until it is done: it looks at what is there, does what is missing, and
says who must sign when it can not go on. Killed anywhere, the next run goes on from there.

Planned (:func:`rotate`): the change of the root is made from the policy files; every device's
metadata is signed by the old *and* the new keys; then the root is published; nobody is stranded.

Stolen (:func:`recover`): the root at once, then every device's metadata anew, signed by the new
keys only, and assigning nothing: what lies in the store is the thief's word. Devices forget the
versions that the thief signed, since the root replaced the keys (TUF 5.3.11).

>>> rotate(repos, "director", now)
Rotated(repository='director', root=2, devices=('gw-1',))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import Metadata, Root

from ota.errors import NotPermitted, OtaError, Refusal
from ota.repositories import repopublish
from ota.repositories.director import DirectorDesk
from ota.repositories.repo import Repositories
from signing import layout
from signing.changes.ceremony import Repository
from signing.director.repository import Director

Progress = Callable[[int, int], None]
"""(devices done, devices in all)."""


@dataclass(frozen=True)
class Rotated:
    """The root that stands now, and the devices whose metadata was signed anew in this run.

    ``problems``: device -> why it was not; run again for those.
    """

    repository: Repository
    root: int
    devices: tuple[str, ...]
    problems: dict[str, OtaError]


def rotate(
    repos: Repositories, name: Repository, now: datetime, progress: Progress | None = None
) -> Rotated:
    """Replace online keys by those that the policy names now, without stranding a device.

    1. The change of the root waits; it is made from the policy files if there is none.
    2. Director: every device's metadata is signed by old and new keys.
    3. The root is published; ``NeedsHuman`` (unsigned) says whose signatures are missing.
    4. Director: devices that somebody edited meanwhile are signed by the new keys.
    """
    # (1)
    before = repos.newest(name, keep=True)
    pending = repos.change(now, name).get(name)
    after = repopublish.root_of(pending) if pending else None
    # (2)
    done: set[str] = set()
    problems: dict[str, OtaError] = {}
    if name == "director" and after is not None:
        done, problems = _each(
            repos, lambda d: _signed_by_both(repos, before, after, d, now), progress
        )
        if problems:
            return Rotated(name, after.version - 1, tuple(sorted(done)), problems)
    # (3)
    if pending is not None and after is not None:
        pending.finished()
        repos.publish(now, name)
    # (4)
    if name == "director":
        mended, problems = _each(repos, lambda d: _mended(repos, d, now), None)
        done |= mended
    return Rotated(name, repos.root(name).version, tuple(sorted(done)), problems)


def recover(
    repos: Repositories, name: Repository, now: datetime, progress: Progress | None = None
) -> Rotated:
    """Replace stolen online keys: the policy must name none of them any more.

    Assignments of all devices are withdrawn; an open rollout that is paused and resumed
    afterwards hands them out anew. Raises
    ``NotPermitted`` (``key-kept``), ``NeedsHuman`` (unsigned).
    """
    pending = repos.change(now, name, salvage=True).get(name)
    after = repopublish.root_of(pending) if pending else None
    if pending is not None and after is not None:
        _refuse_kept(repos.root(name), after, name)
        pending.finished()
        repos.publish(now, name, stolen=True)
    elif not _replaced_before(repos, name):
        raise NotPermitted(
            f"the policy names the published online keys of the {name} repository: nothing "
            "was replaced",
            code="key-kept",
            subject=name,
            remedy=f"ota key generate NAME, name it in {name}.toml in the stolen key's place",
        )
    done: set[str] = set()
    problems: dict[str, OtaError] = {}
    if name == "director":
        done, problems = _each(repos, lambda d: _recovered(repos, d, now), progress)
    return Rotated(name, repos.root(name).version, tuple(sorted(done)), problems)


# -- one device ----------------------------------------------------------------------------------
def _signed_by_both(
    repos: Repositories, before: bytes, after: Root, device: str, now: datetime
) -> bool:
    old = Metadata[Root].from_bytes(before).signed
    first, *more = repos.online.of("targets", old, after)
    memory = repos.director_memory
    director = Director(repos.policy, repos.store.get, before, first, *more, memory=memory)
    if director.holds_under(device, after, now):
        return False
    return DirectorDesk(director, repos.publisher).edit(
        device, lambda: director.resign(device, now)
    )


def _mended(repos: Repositories, device: str, now: datetime) -> bool:
    """Metadata that the last root holds for and the newest does not; its assignments stay."""
    director = repos.director()
    try:
        director.read(device, now)
    except Refusal as e:
        roots = repos.anchors("director")
        known = roots.get(repos.root("director").version - 1)
        if e.code != "signature" or known is None:
            raise
        desk = DirectorDesk(director, repos.publisher)
        return desk.edit(device, lambda: director.resign(device, now, known))
    return False


def _recovered(repos: Repositories, device: str, now: datetime) -> bool:
    director = repos.director()
    desk = DirectorDesk(director, repos.publisher)
    return desk.edit(device, lambda: director.recover(device, now), drop=True)


def _each(
    repos: Repositories, change: Callable[[str], bool], progress: Progress | None
) -> tuple[set[str], dict[str, OtaError]]:
    """Every device in the store; one device's problem does not stop the others."""
    done: set[str] = set()
    problems: dict[str, OtaError] = {}
    devices = layout.devices(repos.store.list)
    for number, device in enumerate(devices, 1):
        try:
            if change(device):
                done.add(device)
        except OtaError as e:
            problems[device] = e
        if progress:
            progress(number, len(devices))
    return done, problems


# -- roots ---------------------------------------------------------------------------------------
def online_keys(root: Root, name: Repository) -> frozenset[str]:
    """Key ids of a repository's online roles."""
    roles = ("timestamp", "snapshot") if name == "image" else ("timestamp", "snapshot", "targets")
    return frozenset(keyid for role in roles for keyid in root.roles[role].keyids)


def _refuse_kept(before: Root, after: Root, name: Repository) -> None:
    kept = online_keys(before, name) & online_keys(after, name)
    if kept:
        raise NotPermitted(
            f"key {min(kept)[:12]} stays an online key of the {name} repository: a thief keeps it",
            code="key-kept",
            subject=name,
            remedy=f"name only new keys in {name}.toml, or ota repo rotate-online {name}",
        )


def _replaced_before(repos: Repositories, name: Repository) -> bool:
    """Whether the newest root replaced all online keys of the one before: a run to go on with."""
    newest = repos.root(name)
    last = repos.anchors(name).get(newest.version - 1)
    if last is None:
        return False
    old = online_keys(Metadata[Root].from_bytes(last).signed, name)
    return not old & online_keys(newest, name)
