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
from ota.repositories import repostatus
from ota.repositories.director import DirectorDesk
from ota.repositories.repo import Repositories
from signing.policy import DirectorPolicy, Policy


@dataclass(frozen=True)
class Refreshed:
    """What was signed anew. ``problems``: device (or ``image``) -> why it was not."""

    image: bool
    devices: tuple[str, ...]
    problems: dict[str, OtaError]


def refresh(
    repos: Repositories,
    desk: DirectorDesk,
    policy: Policy,
    now: datetime,
    *,
    every: bool = False,
    retired: Container[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Refreshed:
    """The image repository's timestamp, then each device's, where due (or ``every`` one).

    One problem does not stop the others: a broken image repository would otherwise let the
    director's timestamps expire as well. Raises ``NotFound`` before anything is published.
    """
    done: list[str] = []
    problems: dict[str, OtaError] = {}
    image = False
    if repos.anchor("image") is None:
        raise repos.uncreated()
    try:
        image = every or _image_due(repos, policy, now)
        if image:
            repos.refresh(now)
    except OtaError as e:
        problems["image"] = e
    for number, device in enumerate(repostatus.devices(repos), 1):
        try:
            if device not in retired and (every or _due(desk, policy.director, device, now)):
                desk.refresh(device, now)
                done.append(device)
        except OtaError as e:
            problems[device] = e
        if progress:
            progress(number)
    return Refreshed(image and "image" not in problems, tuple(done), problems)


def _image_due(repos: Repositories, policy: Policy, now: datetime) -> bool:
    repos.publisher.resume("image")
    state = repos.image().state(now)
    if state is None:
        raise NotFound("the image repository was never published", remedy="ota repo status")
    if state.client.timestamp.expires - now < policy.image.timestamp.expires / 2:
        return True
    return state.client.snapshot.expires - now < policy.image.snapshot.expires / 3


def _due(desk: DirectorDesk, policy: DirectorPolicy, device: str, now: datetime) -> bool:
    state = desk.state(device)
    life = policy.open if state.assignments else policy.idle
    return state.expires - now < life / 2
