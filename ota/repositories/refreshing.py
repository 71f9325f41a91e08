"""Use case: sign timestamps anew before they expire, for both repositories.

An expired timestamp stops a whole fleet, silently, so this is run by a timer (``ota repo refresh``
every few hours) and says what it did. A timestamp is due in the second half of its life, a
snapshot past two thirds of it; what is not due stays as it is, so running it twice changes
nothing, and a run that was killed is simply run again. Retired devices are left to expire.

>>> refresh(repositories, desk, policy, now)
Refreshed(image=True, devices=('gw-1',), problems={})
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import datetime

from ota.errors import NotFound, OtaError
from ota.repositories import looking, repostatus
from ota.repositories.director import DirectorDesk
from ota.repositories.repo import Repositories
from signing.director.repository import DirectorState
from signing.policy import DirectorPolicy, Policy

Progress = Callable[[int, int], None]
"""(done, in all): devices looked at first, then devices signed for."""


@dataclass(frozen=True)
class Refreshed:
    """What was signed anew, or is due. ``problems``: device (or ``image``) -> why it was not."""

    image: bool
    devices: tuple[str, ...]
    problems: dict[str, OtaError]


def due(
    repos: Repositories,
    desk: DirectorDesk,
    policy: Policy,
    now: datetime,
    *,
    every: bool = False,
    retired: Container[str] = (),
    progress: Progress | None = None,
) -> Refreshed:
    """What :func:`refresh` would sign now; writes nothing into the store.

    Raises ``NotFound`` before anything is published.
    """
    if repos.anchor("image") is None:
        raise repos.uncreated()
    problems: dict[str, OtaError] = {}
    image = False
    try:
        image = _image_due(repos, policy, now) or every
    except OtaError as e:
        problems["image"] = e
    devices = [device for device in repostatus.devices(repos) if device not in retired]
    found: list[str] = []
    for number, (device, state) in enumerate(looking.states(desk, devices), 1):
        if progress:
            progress(number, len(devices))
        if isinstance(state, OtaError):
            problems[device] = state
        elif every or _due(state, policy.director, now):
            found.append(device)
    return Refreshed(image, tuple(found), problems)


def refresh(
    repos: Repositories,
    desk: DirectorDesk,
    policy: Policy,
    now: datetime,
    *,
    every: bool = False,
    retired: Container[str] = (),
    progress: Progress | None = None,
) -> Refreshed:
    """The image repository's timestamp, then each device's, where due (or ``every`` one).

    One problem does not stop the others: a broken image repository would otherwise let the
    director's timestamps expire as well. Raises ``NotFound`` before anything is published.
    """
    problems: dict[str, OtaError] = {}
    try:
        repos.publisher.resume("image")
    except OtaError as e:
        problems["image"] = e
    wanted = due(repos, desk, policy, now, every=every, retired=retired, progress=progress)
    problems |= wanted.problems
    done: list[str] = []
    if wanted.image and "image" not in problems:
        try:
            repos.refresh(now)
        except OtaError as e:
            problems["image"] = e
    for number, device in enumerate(wanted.devices, 1):
        try:
            desk.refresh(device, now)
            done.append(device)
        except OtaError as e:
            problems[device] = e
        if progress:
            progress(number, len(wanted.devices))
    return Refreshed(wanted.image and "image" not in problems, tuple(done), problems)


def _image_due(repos: Repositories, policy: Policy, now: datetime) -> bool:
    state = repos.image().state(now)
    if state is None:
        raise NotFound("the image repository was never published", remedy="ota repo status")
    if state.client.timestamp.expires - now < policy.image.timestamp.expires / 2:
        return True
    return state.client.snapshot.expires - now < policy.image.snapshot.expires / 3


def _due(state: DirectorState, policy: DirectorPolicy, now: datetime) -> bool:
    life = policy.open if state.assignments else policy.idle
    return state.expires - now < life / 2
