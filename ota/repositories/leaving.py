"""Use case: a device leaves the fleet, with its last word or without.

1. The receipt is verified, and names an order that the device was given.
2. What the director assigns to the device is looked up, and the director's key opened where it is
   needed: a wrong passphrase is said before anything changes.
3. Reports that wait are taken in: the device's last outcome still counts.
4. The registry: no plan takes it, its reports stop counting. Also when no store answers.
5. The director: everything assigned to it is withdrawn, so that no machine that takes its name over
   follows an order that was not meant for it.

Killed anywhere, or with a store that does not answer: the same again goes on. With a receipt that was
taken in before, it also says so (``receipt-again``).

>>> Leaving(registry, campaign, desk, assignments, unlock).leave("gw-7", receipt, now)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ota.errors import Busy, NotPermitted, OtaError, Outage, Refusal, Stale
from ota.ports import Device
from signing.playbooks.run import Assigned
from signing.receipt import Receipt


class Register(Protocol):
    """The part of the registry that lets devices go."""

    def device(self, device_id: str) -> Device:
        """One device, or ``NotFound``."""

    def check_receipt(self, device_id: str, receipt: bytes) -> Receipt:
        """The verified last word; ``Refusal``, ``NotPermitted``."""

    def retire(self, device_id: str, now: datetime) -> None:
        """Out of service."""

    def retire_with_receipt(self, device_id: str, receipt: bytes, now: datetime) -> None:
        """The same, with its verified last word."""


class Rollouts(Protocol):
    """What is known of orders."""

    def require_order(self, receipt: Receipt) -> None:
        """``Refusal`` unless the receipt's order was given to its device."""

    def observe(self, now: datetime) -> object:
        """Take in reports that wait; ``Busy``."""


class Withdrawing(Protocol):
    """The part of the director's desk that takes back."""

    def withdraw(self, device: str, orders: Container[str], now: datetime) -> datetime | None:
        """Take back assignments; until when they can be replayed, or None."""


@dataclass(frozen=True)
class Leaving:
    """``assigned`` reads a device's assignments; ``unlock`` opens the director's key.

    ``rollouts`` is asked only where there is a receipt.
    """

    registry: Register
    rollouts: Callable[[], Rollouts]
    desk: Withdrawing
    assigned: Callable[[str], Mapping[str, Assigned]]
    unlock: Callable[[], None]

    def check(self, device: str, receipt: bytes | None) -> list[str]:
        """Orders that :meth:`leave` would withdraw, once it is sure that it may; (1)."""
        self._check(device, receipt)
        return [item.order for item in self.assigned(device).values()]

    def _check(self, device: str, receipt: bytes | None) -> None:
        self.registry.device(device)
        if receipt is not None:
            self.rollouts().require_order(self.registry.check_receipt(device, receipt))

    def leave(self, device: str, receipt: bytes | None, now: datetime) -> datetime | None:
        """See the module; returns until when what was assigned can be replayed (rule 10)."""
        # (1)
        try:
            self._check(device, receipt)
        except NotPermitted:  # its receipt was taken in before: what was cut short goes on
            self.leave(device, None, now)
            raise
        # (2)
        trouble: OtaError | None = None
        orders: list[str] = []
        try:
            orders = [item.order for item in self.assigned(device).values()]
        except (Outage, Stale, Refusal) as e:
            trouble = e
        if orders:
            self.unlock()
        # (3), (4)
        if receipt is None:
            self.registry.retire(device, now)
        else:
            with contextlib.suppress(Busy):
                self.rollouts().observe(now)
            self.registry.retire_with_receipt(device, receipt, now)
        # (5)
        try:
            if trouble is not None:
                raise trouble
            return self.desk.withdraw(device, orders, now) if orders else None
        except OtaError as e:
            e.args = (f"{device} is retired; what is assigned to it was not withdrawn: {e}",)
            e.remedy = f"ota fleet retire {device}"
            raise
