"""What couriers' own books say about orders: who is lost on the way, and what must be closed there.

Some couriers keep books (a job with an execution for each device). They are never an outcome, but
they show what reports can not: a device that is through while no report of it came, a job that
somebody deleted. And they must be closed, because an execution that nobody takes up waits for
ever. Procedure, for each order that is due, the one that waited longest first:

1. Ask the courier (``Follower``) about the order and those of its devices without an outcome.
2. From the wave's deadline on, and once the rollout is closed, have it end what is open there. A
   device that comes later finds its assignment by itself: a hint only wakes it.
3. Record what was found, so that ``status`` names it and nothing is asked twice.

An order is due seldom: an eighth of its wave's deadline after it was handed over, then at twice
that, and so on; soon after its last device has ended; and at the deadline. At most ``AT_ONCE``
orders are looked up in one step. What fails is a problem of the step and is done by a later one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ota.errors import OtaError, told
from ota.ports import Courier, Follower
from ota.rollout.case import Case
from ota.rollout.moving import Step
from ota.rollout.orders import OrderView
from ota.rollout.states import CLOSED

AT_ONCE: Final = 10
"""Orders looked up in one step: a step takes seconds, whatever the size of the fleet."""
_LEAST: Final = timedelta(minutes=10)
_SOON: Final = timedelta(minutes=1)
_MOST: Final = timedelta(hours=6)
_WAITING: Final = frozenset({"pending", "in_progress", "silent", "returning"})
_UNHEARD: Final = _WAITING | {"withdrawn", "stranded"}
_SHOWN: Final = 200


@dataclass(frozen=True)
class Due:
    """An order to look up now: its devices without an outcome; ``close``: end what is open."""

    order: OrderView
    waiting: tuple[str, ...]
    close: bool


class Following:
    """Asks the couriers that keep books; writes ``followed`` events and nothing else."""

    def __init__(self, couriers: Mapping[str, Courier]) -> None:
        self.followers: Mapping[str, Follower] = {
            name: courier for name, courier in couriers.items() if isinstance(courier, Follower)
        }

    def run(self, case: Case, step: Step, limit: int = AT_ONCE) -> None:
        """Look up what is due, at most ``limit`` orders."""
        if not self.followers:
            return
        for item in due(case, self.followers)[:limit]:
            self._look(case, item, step)

    def _look(self, case: Case, item: Due, step: Step) -> None:
        order, plan = item.order, case.plan
        outgoing = order.outgoing(
            case.view.rollout, order.devices, deadline=plan.waves[order.wave].deadline
        )
        try:  # (1), (2)
            found = self.followers[order.courier].follow(outgoing, item.waiting, close=item.close)
        except OtaError as e:
            step.problems.append(f"{order.courier}: {order.id}: {told(e)}")
            return
        lost = {d: str(why)[:_SHOWN] for d, why in found.lost.items() if d in item.waiting}
        if lost != order.lost:
            step.problems += [f"{device}: no report: {why}" for device, why in lost.items()]
        if found.note and found.note != order.note:
            step.problems.append(f"{order.courier}: {order.id}: {found.note}")
        body = {
            "id": order.id,
            "closed": found.closed,
            "lost": lost,
            "note": found.note[:_SHOWN],
        }
        case.add("followed", body)  # (3)


def due(case: Case, followers: Mapping[str, object]) -> list[Due]:
    """Orders whose time has come, the one that waited longest first. Pure."""
    found: list[tuple[datetime, Due]] = []
    for order in case.view.orders.values():
        if order.dispatched is None or order.closed or order.courier not in followers:
            continue
        waiting = tuple(d for d in order.live() if _waits(case, order, d))
        ended = _ended(case, order)
        at = _at(case, order, waiting=bool(waiting), ended=ended)
        if case.now >= at:
            found.append((at, Due(order, waiting, case.now >= ended)))
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def lost(case: Case) -> dict[str, str]:
    """Device -> what its courier said of it, for those that still have not reported.

    Withdrawn ones too: what was withdrawn may have been installed and only its report be missing.
    """
    return {
        device: why
        for order in case.view.orders.values()
        for device, why in order.lost.items()
        if case.view.last(device, order.kind) is order
        and case.outcomes.results[device].outcome in _UNHEARD
    }


def notes(case: Case) -> dict[str, str]:
    """Order -> what its courier said of it, while devices of it have not reported."""
    return {
        order.id: order.note
        for order in case.view.orders.values()
        if order.note and any(_waits(case, order, d) for d in order.live())
    }


def _waits(case: Case, order: OrderView, device: str) -> bool:
    """Whether this is the device's newest order and it has no outcome yet."""
    newest = case.view.last(device, order.kind)
    return newest is order and case.outcomes.results[device].outcome in _WAITING


def _deadline(case: Case, order: OrderView) -> timedelta:
    return timedelta(seconds=case.plan.waves[order.wave].deadline)


def _ended(case: Case, order: OrderView) -> datetime:
    """From when on the order is over, whoever still waits: devices get a minute to say so."""
    if case.view.state in CLOSED and case.view.changed is not None:
        return case.view.changed + _SOON
    return order.issued + _deadline(case, order)


def _at(case: Case, order: OrderView, *, waiting: bool, ended: datetime) -> datetime:
    """When the order is to be looked up next."""
    begun = order.dispatched or order.issued
    times = 1 << min(order.follows, 6)
    if case.now >= ended:
        return ended if order.followed is None else max(ended, order.followed + _SOON)
    if not waiting:
        return (order.followed or begun) + min(_SOON * times, _MOST)
    return begun + max(_LEAST, _deadline(case, order) / 8) * times
