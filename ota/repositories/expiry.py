"""Use case: what ends too soon, for monitoring; an expired role stops the fleet silently.

A role that people sign fails when it ends within the time asked for. One that lives shorter than
that is signed by a timer, and fails in the last quarter of its life: the timer has stopped. So
does a device's director metadata, of which only the timestamp is looked at.

>>> expiring(repos, now, timedelta(days=30), retired=set())
[Expiring('image', 'targets', datetime(2026, 12, 1, ...))]
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from ota.errors import OtaError
from ota.repositories import looking, repostatus
from ota.repositories.director import DirectorDesk
from ota.repositories.repo import Repositories

_LATE = 4
"""A timer has stopped when less than a quarter of a life is left."""


@dataclass(frozen=True)
class Expiring:
    """One thing that ends too soon; ``expires`` is None when it can not be read (``why``)."""

    repository: str
    name: str
    expires: datetime | None
    why: str = ""


def expiring(
    repos: Repositories, now: datetime, within: timedelta, retired: Container[str] = ()
) -> list[Expiring]:
    """Roles of both repositories, then devices. Raises ``Refusal`` for a tampered store."""
    roles = [
        Expiring(role.repository, role.role, role.expires)
        for role in repostatus.status(repos, now).roles
        if role.expires - now < (within if role.life > within else role.life / _LATE)
    ]
    return [*roles, *_devices(repos, now, retired)]


def _devices(repos: Repositories, now: datetime, retired: Container[str]) -> Iterator[Expiring]:
    if repos.anchor("director") is None:
        return
    desk = DirectorDesk(repos.director(), repos.publisher)
    policy = repos.policy.director
    watched = (device for device in repostatus.devices(repos) if device not in retired)
    for device, state in looking.states(desk, watched):
        if isinstance(state, OtaError):
            yield Expiring("director", device, None, f"{state.code}: {state}")
            continue
        life = policy.open if state.assignments else policy.idle
        if state.expires - now < life / _LATE:
            yield Expiring("director", device, state.expires)
