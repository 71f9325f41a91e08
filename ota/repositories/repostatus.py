"""Use case: how both repositories stand, and whether every byte in the store holds.

``status`` reads metadata only. ``verify`` reads everything that a device could be given: both
repositories from the operator's own roots with expiry asked, every image's bytes, and each
registered device's director metadata. Findings are data; the caller decides what to print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from tuf.api.metadata import Root, Targets

from ota.errors import NotFound, OtaError, Refusal
from ota.repositories.repo import Repositories
from signing import bins, layout, repository
from signing.changes.ceremony import Missing, Pending, Repository
from signing.client.workflow import TufClient
from signing.director.repository import Director
from signing.image.state import State

Health = Literal["ok", "soon", "expired"]
_SOON = 4
"""A role is ``soon`` in the last quarter of its life."""


@dataclass(frozen=True)
class RoleStatus:
    """One role as published: version, end, who may sign it, how many must, the policy's life.

    A component with hash bins is one row: ``expires`` is the earliest end of its role and bins,
    each of which is in ``ends``.
    """

    repository: Repository
    role: str
    version: int
    expires: datetime
    health: Health
    threshold: int
    keyholders: tuple[str, ...]
    life: timedelta = timedelta()
    ends: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def bins(self) -> int:
        """Over how many hash bins the releases are spread; 1 for none."""
        return max(1, len(self.ends) - 1)


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
    """Roles signed by people that end within this time, hash bins by their own names."""
    online = {("image", "snapshot"), ("image", "timestamp")}
    return [
        (r.repository, name)
        for r in status(repos, now).roles
        for name, expires in (r.ends or {r.role: r.expires}).items()
        if (r.repository, r.role) not in online and expires - now < within
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
            raise repos.uncreated()
        found.append(state)

    yield _checked("image metadata", read)
    for state in found:
        for name in (Targets.type, *state.roles):
            yield from _verify_part(repos, state, name)
            for part in bins.names(state.roles.get(name)):
                yield from _verify_part(repos, state, part)


def _verify_part(repos: Repositories, state: State, name: str) -> Iterator[Finding]:
    """One targets role and the bytes of what it lists."""
    found: list[Targets] = []

    def read() -> None:
        part = state.part(name)
        if part is None:
            raise NotFound(f"there is no role {name}")
        found.append(part)
        state.refuse_unfit(name, part)

    finding = _checked(f"image {name}", read)
    if not finding.ok or bins.is_bin(name):
        yield finding
    for part in found:
        for path, target in part.targets.items():
            sha256 = target.hashes.get("sha256", "")
            file = layout.image_target(path, sha256)
            yield _checked(file, _matching(repos, file, (target.length, sha256)))


def _matching(repos: Repositories, name: str, expected: tuple[int, str]) -> Callable[[], None]:
    def read() -> None:
        if repos.store.digest(name) != expected:
            raise Refusal("image-mismatch", f"{name} is missing or has other bytes", subject=name)

    return read


def _reading(director: Director, device: str, now: datetime) -> Callable[[], None]:
    def read() -> None:
        director.check(device, now)

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
            life = policy.component(name).expires
            row = self._row("image", name, role, life, state.targets)
            ends = {part: found.expires for part, found in state.parts(name)}
            first = min(ends.values())
            health = _health(first - self.now, life)
            yield replace(row, expires=first, health=health, ends=ends)

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
    return f"{lack.have} of {lack.need} signed; can sign: {who}"
