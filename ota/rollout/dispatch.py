"""Handing orders over and taking them back, so that a crash anywhere is finished later.

Intent first: an ``order`` event stands in the journal before anything is published. Then, device
by device, the director's desk signs the assignment, the courier gets the hint, and a
``dispatched`` event says who was unreachable. Whatever is missing after a crash is done again
with the same content: the desk is idempotent, the courier is idempotent on the order's id.

Taking back goes the other way round (rule 10): director metadata first, then the courier; the
``withdrawn`` event keeps until when an old timestamp can be replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ota.errors import Busy, NotFound, OtaError, Outage, Refusal, Stale, told
from ota.ports import Courier, Desk, Fleet, Order, Sized
from ota.rollout.orders import OrderKind, OrderView
from ota.rollout.records import Log
from ota.rollout.replay import RolloutView
from signing import strict
from signing.approval import Authorisation
from signing.assignment import Assignment
from signing.plan import Plan, PlannedPlaybook
from signing.playbooks.run import Assigned, PlaybookRun


@dataclass
class Handed:
    """What went wrong on the way: ``refused`` must be seen by a human, ``problems`` retry."""

    refused: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Turn:
    authorisation: Authorisation
    now: datetime
    handed: Handed


def order_id(view: RolloutView, kind: OrderKind, wave: int, batch: int) -> str:
    """``ota-<rollout>-<u|r><attempt>-w<wave>-b<batch>``."""
    letter, attempt = ("u", view.attempt) if kind == "update" else ("r", view.back)
    return f"ota-{view.rollout}-{letter}{attempt}-w{wave}-b{batch}"


class Dispatcher:
    """The only writer of ``order``, ``dispatched``, ``assigned`` and ``withdrawn`` events."""

    def __init__(self, fleet: Fleet, desk: Desk, couriers: Mapping[str, Courier]) -> None:
        self._fleet = fleet
        self._desk = desk
        self._couriers = couriers
        self.sizes: Mapping[str, int] = {
            name: courier.order_size
            for name, courier in couriers.items()
            if isinstance(courier, Sized)
        }

    def intend(
        self,
        log: Log,
        authorisation: Authorisation,
        kind: OrderKind,
        batches: Iterable[tuple[int, str, Sequence[str]]],
        *,
        snapshot: int,
        now: datetime,
    ) -> list[str]:
        """Record one ``order`` event for each batch; nothing is published yet."""
        ends = now + timedelta(seconds=authorisation.plan.limits.order_lifetime)
        issued = []
        for wave, courier, devices in batches:
            name = order_id(log.view, kind, wave, log.view.batches(kind, wave))
            body = {
                "id": name,
                "kind": kind,
                "wave": wave,
                "attempt": log.view.attempt if kind == "update" else log.view.back,
                "devices": list(devices),
                "courier": courier,
                "snapshot": snapshot,
                "not_after": strict.stamp(min(ends, authorisation.expires)),
            }
            log.add("order", body, now)
            issued.append(name)
        return issued

    def carry_out(
        self, log: Log, authorisation: Authorisation, kind: OrderKind, now: datetime
    ) -> Handed:
        """Do whatever the journal says is ordered and not yet handed over."""
        turn = _Turn(authorisation, now, Handed())
        for order in log.view.undispatched():
            if order.kind == kind:
                self._hand_over(log, order, turn)
        for order in log.view.orders.values():
            if order.kind == kind and order.dispatched and order.unassigned:
                self._catch_up(log, order, turn)
        return turn.handed

    def _hand_over(self, log: Log, order: OrderView, turn: _Turn) -> None:
        refused, waiting = self._assign(order, order.live(), turn)
        ready = [d for d in order.live() if d not in refused]
        if waiting and len(waiting) == len(ready):
            return  # nothing to look at yet; the next step tries again
        unreachable: Mapping[str, str] = {}
        if ready:
            try:
                unreachable = self._courier(order).dispatch(_whole(turn, log.view, order, ready))
            except OtaError as e:
                turn.handed.problems.append(f"{order.courier}: {order.id}: {told(e)}")
                return
        body = {
            "id": order.id,
            "unreachable": {d: str(r)[:200] for d, r in unreachable.items() if d in ready},
            "unassigned": waiting,
            "refused": refused,
        }
        log.add("dispatched", body, turn.now)

    def _catch_up(self, log: Log, order: OrderView, turn: _Turn) -> None:
        late = sorted(order.unassigned)
        refused, waiting = self._assign(order, late, turn)
        done = [d for d in late if d not in waiting and d not in refused]
        if done:
            log.add("assigned", {"id": order.id, "devices": done}, turn.now)
        if refused:
            log.add("left-out", {"devices": refused}, turn.now)
            gone = dict.fromkeys(refused, strict.stamp(turn.now))
            log.add("withdrawn", {"id": order.id, "devices": gone}, turn.now)

    def _assign(
        self, order: OrderView, devices: Iterable[str], turn: _Turn
    ) -> tuple[dict[str, str], list[str]]:
        """Sign device by device; one device's fault does not stop the others."""
        refused: dict[str, str] = {}
        waiting: list[str] = []
        for device in devices:
            try:
                wanted = self._assigned(turn.authorisation.plan, order, device)
                self._desk.assign(turn.authorisation, device, wanted, turn.now)
            except (Refusal, NotFound) as e:
                refused[device] = f"{e.code}: {e}"[:300]
            except (Outage, Busy, Stale) as e:
                waiting.append(device)
                turn.handed.problems.append(f"{device}: not assigned yet: {e}")
        turn.handed.refused.update(refused)
        return refused, waiting

    def _assigned(self, plan: Plan, order: OrderView, device: str) -> Assigned:
        if plan.playbook is not None:
            return _run(plan, plan.playbook, order)
        row = plan.rows[device][1]
        target = plan.image(row) if order.kind == "update" else plan.origin(row)
        state = self._fleet.device(device).components.get(plan.component)
        if target is None or state is None:
            raise Refusal("outside-plan", f"{device}: nothing to assign", subject=device)
        return Assignment(
            path=target.path,
            length=target.length,
            hashes=dict(target.hashes),
            component=plan.component,
            hardware_id=state.hardware_id,
            release_counter=target.release_counter,
            rollout=plan.rollout,
            wave=order.wave,
            order=order.id,
            kind=order.kind,
            least_image_snapshot=order.snapshot,
            not_after=order.not_after,
            clear_denial=order.kind == "update" and plan.clear_denials,
        )

    def withdraw(self, log: Log, devices: Mapping[str, Iterable[str]], now: datetime) -> list[str]:
        """Take back: order id -> devices. Returns problems; those devices stay for next time."""
        problems: list[str] = []
        for name, wanted in devices.items():
            order = log.view.orders[name]
            gone: dict[str, str] = {}
            for device in wanted:
                try:
                    until = self._desk.withdraw(device, frozenset({name}), now)
                except NotFound:
                    until = now  # no director metadata at all
                except OtaError as e:
                    problems.append(f"{device}: not withdrawn yet: {e}")
                    continue
                gone[device] = strict.stamp(until or _bound(order, device, now))
            if gone:
                self._cancel(log, order, list(gone), problems)
                log.add("withdrawn", {"id": name, "devices": gone}, now)
        return problems

    def _cancel(self, log: Log, order: OrderView, devices: list[str], problems: list[str]) -> None:
        """A hint that stays is harmless: it wakes a device that finds nothing to do."""
        try:
            self._courier(order).cancel(order.outgoing(log.view.rollout, devices))
        except OtaError as e:
            problems.append(f"{order.courier}: {order.id} not cancelled: {told(e)}")

    def _courier(self, order: OrderView) -> Courier:
        found = self._couriers.get(order.courier)
        if found is None:
            raise NotFound(f"courier {order.courier} is not configured", subject=order.courier)
        return found


def _bound(order: OrderView, device: str, now: datetime) -> datetime:
    """Nothing was there to withdraw: never assigned, or taken back before a crash.

    The second case can not be told from the first, so the assignment's own end bounds it.
    """
    return now if device in order.unassigned else strict.instant(order.not_after)


def _whole(turn: _Turn, view: RolloutView, order: OrderView, devices: Iterable[str]) -> Order:
    """The order with all that a courier may need to carry it."""
    plan = turn.authorisation.plan
    return order.outgoing(
        view.rollout,
        devices,
        releases=_releases(plan, order),
        deadline=plan.waves[order.wave].deadline,
    )


def _releases(plan: Plan, order: OrderView) -> list[str]:
    """What the order sends out, as ``component@version``, each once."""
    rows = [plan.rows[device][1] for device in order.devices]
    found = [plan.target(row, order.kind) for row in rows]
    return sorted({target.short for target in found if target is not None})


def _run(plan: Plan, playbook: PlannedPlaybook, order: OrderView) -> PlaybookRun:
    """The order to run the plan's playbook, as the director signs it."""
    return PlaybookRun(
        path=playbook.target.path,
        length=playbook.target.length,
        hashes=dict(playbook.target.hashes),
        parameters=dict(playbook.parameters),
        rollout=plan.rollout,
        wave=order.wave,
        order=order.id,
        least_image_snapshot=order.snapshot,
        not_after=order.not_after,
    )
