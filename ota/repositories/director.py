"""The director's desk: what the engine asks of a device's director metadata, published.

Implements ``ports.Desk``. Each call resumes what a killed call left unfinished for that device,
edits, publishes by compare-and-swap, and tries again when another publisher was first.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime

from ota.errors import Busy
from ota.repositories.publishing import Publisher
from signing.approval import Authorisation
from signing.director.repository import Director, DirectorState
from signing.edition import Edition
from signing.playbooks.run import Assigned
from signing.report import Versions

_ATTEMPTS = 4
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""Operators read without asking for expiry, so the time of a plain read decides nothing."""


class DirectorDesk:
    """``Director`` decides and signs, ``Publisher`` makes it durable and public."""

    def __init__(self, director: Director, publisher: Publisher) -> None:
        self._director = director
        self._publisher = publisher

    def assign(
        self, authorisation: Authorisation, device: str, assignment: Assigned, now: datetime
    ) -> None:
        """Publish one assignment; other components' assignments stay. Repeating it is free.

        Raises ``Refusal`` (``outside-plan``, ``approval-expired``), ``NotFound``, ``Busy``.
        """
        self._publish(device, lambda: self._director.assign(authorisation, device, assignment, now))

    def withdraw(self, device: str, orders: Container[str], now: datetime) -> datetime | None:
        """Remove assignments of these orders; returns until when the old ones can be replayed.

        None when there was nothing to remove.
        """
        self._publisher.resume(f"director/{device}")
        exposed = self._director.read(device, now).expires
        changed = self._publish(device, lambda: self._director.withdraw(device, orders, now))
        return exposed if changed else None

    def assignments(self, device: str) -> Mapping[str, Assigned]:
        """Component -> what the device's current, verified director metadata assigns."""
        return self._director.read(device, _ANY_TIME).assignments

    def state(self, device: str) -> DirectorState:
        """Versions, assignments and expiry of a device's current metadata, verified."""
        return self._director.read(device, _ANY_TIME)

    def register(self, device: str, now: datetime) -> bool:
        """First metadata of a device, assigning nothing; False when it has some."""
        return self._publish(device, lambda: self._director.register(device, now))

    def refresh(self, device: str, now: datetime) -> None:
        """Sign anew what says "this is still so"."""
        self._publish(device, lambda: self._director.refresh(device, now))

    def bump(self, device: str, by: int, seen: Versions, now: datetime) -> None:
        """Publish the same again, ``by`` versions above what is here and what was ``seen``."""
        self._publish(device, lambda: self._director.bump(device, by, seen, now))

    def edit(self, device: str, make: Callable[[], Edition | None], *, drop: bool = False) -> bool:
        """Publish what ``make`` builds; False when it builds nothing.

        ``drop``: what a killed call left unfinished was signed by stolen keys, and is forgotten.
        """
        if drop:
            self._publisher.drop(f"director/{device}")
        return self._publish(device, make)

    def _publish(self, device: str, make: Callable[[], Edition | None]) -> bool:
        self._publisher.resume(f"director/{device}")
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._once(make)
            except Busy:
                continue
        return self._once(make)

    def _once(self, make: Callable[[], Edition | None]) -> bool:
        edition = make()
        if edition is None:
            return False
        self._publisher.publish(edition)
        return True
