"""Use case: how both repositories stand, and whether every byte in the store holds.

``status`` reads metadata only. ``verify`` reads everything that a device could be given: both
repositories from the operator's own roots with expiry asked, every image's bytes, and each
registered device's director metadata. Findings are data; the caller decides what to print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from tuf.api.metadata import Root, TargetFile, Targets

from ota.errors import NotFound, OtaError, Refusal
from ota.repo import Repositories
from signing import layout, repository
from signing.ceremony import Missing, Pending, Repository
from signing.client import TufClient
from signing.director import Director
from signing.image_state import State

Health = Literal["ok", "soon", "expired"]
_SOON = 4
"""A role is ``soon`` in the last quarter of its life."""


@dataclass(frozen=True)
class RoleStatus:
    """One role as published: version, end, who may sign it, how many must, the policy's life."""

    repository: Repository
    role: str
    version: int
    expires: datetime
    health: Health
    threshold: int
    keyholders: tuple[str, ...]
    life: timedelta = timedelta()


@dataclass(frozen=True)
class PendingStatus:
    """One waiting change: what it says, and role -> (who has signed, what it lacks), in words."""

    repository: Repository
    summary: tuple[str, ...]
    roles: dict[str, tuple[tuple[str, ...], str]]

    @property
    def missing(self) -> dict[str, str]:
        """Role -> what it still lacks, complete ones left out."""
        return {name: text for name, (_, text) in self.roles.items() if text}


@dataclass(frozen=True)
class Status:
    """Everything that ``ota repo status`` shows. ``unfinished``: killed publishes to resume."""

    roles: tuple[RoleStatus, ...]
    pending: tuple[PendingStatus, ...]
    unfinished: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that was checked; ``code`` is "" when it holds."""

    name: str
    code: str = ""
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return not self.code


def status(repos: Repositories, now: datetime) -> Status:
    """Roles, waiting changes and unfinished publishes. Raises ``Refusal`` for a tampered store."""
    names = repos.policy.names()
    rows = _Rows(names, now)
    roles: list[RoleStatus] = []
    state = repos.image().state(now)
    if state is not None:
        roles += rows.image(repos, state)
    anchor = repos.anchor("director")
    if anchor is not None:
        roles.append(rows.director(repos, anchor))
    return Status(tuple(roles), pending(repos), tuple(repos.publisher.waiting()))


def pending(repos: Repositories) -> tuple[PendingStatus, ...]:
    """Waiting changes, read without a store."""
    names = repos.policy.names()
    return tuple(_pending(repos.review(found), found, names) for found in repos.waiting().values())


def ending(repos: Repositories, now: datetime, within: timedelta) -> list[tuple[Repository, str]]:
    """Roles signed by people that end within this time."""
    online = {("image", "snapshot"), ("image", "timestamp")}
    return [
        (r.repository, r.role)
        for r in status(repos, now).roles
        if (r.repository, r.role) not in online and r.expires - now < within
    ]


def verify(repos: Repositories, director: Director | None, now: datetime) -> Iterator[Finding]:
    """Check everything, one finding each; never stops at the first fault.

    ``director`` may be None where no online key is at hand: devices are then left out.
    """
    yield from _verify_image(repos, now)
    if director is not None:
        for device in devices(repos):
            yield _checked(f"director of {device}", _reading(director, device, now))


def devices(repos: Repositories) -> list[str]:
    """Ids of all devices that have director metadata in the store."""
    return layout.devices(repos.store.list)


def _verify_image(repos: Repositories, now: datetime) -> Iterator[Finding]:
    found: list[State] = []

    def read() -> None:
        state = repos.image(remembered=False).state(now, check_expiry=True)
        repos.image().state(now)  # and not older than what was seen before
        if state is None:
            raise NotFound("the image repository was never published")
        found.append(state)

    yield _checked("image metadata", read)
    for state in found:
        for path, target in _listed(state):
            sha256 = target.hashes["sha256"]
            name = layout.image_target(path, sha256)
            yield _checked(name, _matching(repos, name, (target.length, sha256)))


def _listed(state: State) -> Iterable[tuple[str, TargetFile]]:
    for role in (state.targets, *state.roles.values()):
        yield from role.targets.items()


def _matching(repos: Repositories, name: str, expected: tuple[int, str]) -> Callable[[], None]:
    def read() -> None:
        if repos.store.digest(name) != expected:
            raise Refusal("image-mismatch", f"{name} is missing or has other bytes", subject=name)

    return read


def _reading(director: Director, device: str, now: datetime) -> Callable[[], None]:
    def read() -> None:
        director.read(device, now, check_expiry=True)

    return read


def _checked(name: str, read: Callable[[], None]) -> Finding:
    try:
        read()
    except OtaError as e:
        return Finding(name, e.code, str(e))
    return Finding(name)


# -- status, in rows -----------------------------------------------------------------------------
@dataclass(frozen=True)
class _Rows:
    """Makes rows: key id -> keyholder, and the time that decides about expiry."""

    names: dict[str, str]
    now: datetime

    def image(self, repos: Repositories, state: State) -> Iterator[RoleStatus]:
        policy = repos.policy.image
        client = state.client
        lives = {name: role.expires for name, role in policy.roles()}
        for signed in (client.root, client.targets, client.snapshot, client.timestamp):
            yield self._row("image", signed.type, signed, lives[signed.type], client.root)
        for name, role in sorted(state.roles.items()):
            yield self._row("image", name, role, policy.component(name).expires, state.targets)

    def director(self, repos: Repositories, anchor: bytes) -> RoleStatus:
        place = repository.Place(
            "director-root", repos.store.get, lambda file: f"{layout.DIRECTOR_ROOT}/{file}"
        )
        client = TufClient({"root.json": anchor}, place.fetch, self.now, check_expiry=False)
        root = client.update_root()
        return self._row("director", "root", root, repos.policy.director.root.expires, root)

    def _row(
        self,
        where: Repository,
        name: str,
        signed: repository.AnyRole,
        life: timedelta,
        parent: Root | Targets,
    ) -> RoleStatus:
        role = parent.get_delegated_role(name)
        holders = tuple(self.names.get(keyid, str(keyid)[:16]) for keyid in role.keyids)
        health = _health(signed.expires - self.now, life)
        return RoleStatus(
            where, name, signed.version, signed.expires, health, role.threshold, holders, life
        )


def _health(left: timedelta, life: timedelta) -> Health:
    if left <= timedelta():
        return "expired"
    return "soon" if left < life / _SOON else "ok"


def _pending(words: tuple[str, ...], change: Pending, names: dict[str, str]) -> PendingStatus:
    missing = change.missing()
    roles = {}
    for name, role in change.roles.items():
        signed = sorted(names.get(k, k[:16]) for k in role.signatures if role.signed_by(k))
        text = _lacking(missing[name], names) if name in missing else ""
        roles[name] = (tuple(signed), text)
    return PendingStatus(change.repository, words, roles)


def _lacking(lack: Missing, names: dict[str, str]) -> str:
    who = ", ".join(sorted(names.get(keyid, keyid[:16]) for keyid in lack.keyids))
    return f"{lack.have} of {lack.need}; can sign: {who}"
