"""One order, and one notice, as the journal knows them; made by ``replay`` alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ota.ports import Order
from signing import strict

OrderKind = Literal["update", "rollback"]


@dataclass
class OrderView:
    """One order as the journal knows it. ``withdrawn`` is device -> end of its exposure.

    ``followed`` is when the courier's books were last looked up, ``lost`` and ``note`` what they
    said, ``closed`` that nothing of the order is open there, ``tidied`` that nothing is left.
    """

    id: str
    kind: OrderKind
    wave: int
    attempt: int
    devices: tuple[str, ...]
    courier: str
    snapshot: int
    not_after: str
    issued: datetime
    dispatched: datetime | None = None
    unreachable: dict[str, str] = field(default_factory=dict)
    unassigned: set[str] = field(default_factory=set)
    withdrawn: dict[str, datetime] = field(default_factory=dict)
    followed: datetime | None = None
    follows: int = 0
    closed: bool = False
    tidied: bool = False
    lost: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def live(self) -> list[str]:
        """Devices whose assignment was not taken back."""
        return [d for d in self.devices if d not in self.withdrawn]

    def outgoing(
        self,
        rollout: str,
        devices: Iterable[str],
        *,
        releases: Iterable[str] = (),
        deadline: int = 0,
    ) -> Order:
        """The order as a courier gets it, about these devices."""
        return Order(
            self.id,
            rollout,
            tuple(devices),
            strict.instant(self.not_after),
            issued=self.devices,
            releases=tuple(releases),
            deadline=deadline,
        )


@dataclass(frozen=True)
class Notice:
    """A signed report without an order: it can only ever count against."""

    event: Literal["refusal", "stale"]
    code: str
    state_id: str
    counter: int
    time: datetime
