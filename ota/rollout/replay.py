"""Folding a rollout's events into what is true now. Pure; no clock, no I/O.

Kinds that move the state stand in ``states.MOVES``; the others add facts:

* ``approval``    one more approval document
* ``order``       intent: these devices get this order (before anything is published)
* ``dispatched``  the order was handed over; who was unreachable, not yet assigned, or refused
* ``assigned``    devices of an order whose director metadata could be written only later
* ``left-out``    devices that no longer match the plan, with the reason (rule 7)
* ``withdrawn``   assignments taken back, and until when the old ones can be replayed (rule 10)
* ``advanced``    the next wave begins
* ``settled``     every device of a wave has an outcome; soak counts from here
* ``notice``      a signed refusal or ``stale`` report that could not name an order
* ``tail-closed`` stragglers no longer count
* ``followed``    what a courier's own books say about an order, and whether they are closed
* ``tidied``      what an order had left at its courier is removed
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ota.errors import Misuse, Refusal
from ota.ports import Event
from ota.rollout.orders import Notice, OrderKind, OrderView
from ota.rollout.states import TRIGGERS, State, move
from signing import strict


@dataclass
class RolloutView:
    """Everything that the journal says about one rollout.

    ``plan`` is the SHA-256 of the plan's envelope, ``digest`` that of its payload, which approvals bind.
    ``attempt`` counts resumptions of the update, ``back`` those of the way back; both stand in
    order ids. ``started`` is wave -> (attempt, when its deadline began): its first order of an attempt, or,
    while it has none (attempt 0), its turn; ``settled`` is wave -> (when,
    commits). ``bad`` are the devices that had ended badly when it was held, with
    their outcomes; ``accepted`` are devices whose bad end a human has looked at and accepted.
    """

    rollout: str
    version: int = 0
    state: State = "NEW"
    plan: str = ""
    digest: str = ""
    approvals: tuple[str, ...] = ()
    wave: int = 0
    attempt: int = 1
    back: int = 0
    partial: bool = False
    automatic: bool = False
    keep: bool = False
    tail_closed: bool = False
    reasons: tuple[str, ...] = ()
    by_gate: bool = False
    created: datetime | None = None
    changed: datetime | None = None
    orders: dict[str, OrderView] = field(default_factory=dict)
    updates: dict[str, list[str]] = field(default_factory=dict)
    returns: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    started: dict[int, tuple[int, datetime]] = field(default_factory=dict)
    settled: dict[int, tuple[datetime, int]] = field(default_factory=dict)
    notices: dict[str, Notice] = field(default_factory=dict)

    def check(self, kind: str) -> None:
        """Raise ``Misuse`` if an event of this kind would be illegal now; change nothing."""
        if kind in TRIGGERS:
            move(self.state, kind, self.rollout)
        elif kind not in _FACTS:
            raise Misuse(f"no such event: {kind}", subject=self.rollout)

    def apply(self, event: Event) -> None:
        """Fold in one event that is already in the journal."""
        if event.kind in TRIGGERS:
            self.state = move(self.state, event.kind)
            self.reasons = tuple(event.body.get("reasons", ()))
            self.by_gate = bool(event.body.get("gate"))
            self.changed = event.time
        _FACTS[event.kind](self, event)
        self.version = event.version

    def last(self, device: str, kind: OrderKind = "update") -> OrderView | None:
        """The newest order of this kind for a device."""
        ids = (self.updates if kind == "update" else self.returns).get(device)
        return self.orders[ids[-1]] if ids else None

    def undispatched(self) -> list[OrderView]:
        """Orders recorded but not yet known to have been handed over, oldest first."""
        return [o for o in self.orders.values() if o.dispatched is None and o.live()]

    def batches(self, kind: OrderKind, wave: int) -> int:
        """How many batches of the running attempt and wave exist already."""
        attempt = self.attempt if kind == "update" else self.back
        return sum(
            o.kind == kind and o.wave == wave and o.attempt == attempt for o in self.orders.values()
        )


def fold(rollout: str, events: Iterable[Event]) -> RolloutView:
    """Replay; ``Refusal("journal-broken")`` for events that no engine could have written."""
    view = RolloutView(rollout)
    for event in events:
        try:
            view.apply(event)
        except (Misuse, KeyError, TypeError, ValueError, AttributeError) as e:
            raise Refusal(
                "journal-broken",
                f"{rollout}: event {event.version} ({event.kind}) can not follow: {e}",
                subject=rollout,
            ) from e
    return view


# -- one function per kind -----------------------------------------------------------------------


def _nothing(_view: RolloutView, _event: Event) -> None:
    """The move alone is the fact."""


def _drafted(view: RolloutView, event: Event) -> None:
    view.plan, view.digest = event.body["plan"], event.body["digest"]
    view.created = event.time


def _started(view: RolloutView, event: Event) -> None:
    view.started[0] = (0, event.time)


def _approval(view: RolloutView, event: Event) -> None:
    if event.body["document"] not in view.approvals:
        view.approvals = (*view.approvals, event.body["document"])


def _paused(view: RolloutView, event: Event) -> None:
    view.keep = bool(event.body["keep"])


def _held(view: RolloutView, event: Event) -> None:
    view.keep = False
    view.bad = dict(event.body["bad"])


def _aborted(view: RolloutView, _event: Event) -> None:
    view.keep = False


def _resumed(view: RolloutView, event: Event) -> None:
    view.attempt += 1
    view.keep = False
    view.accepted.update(event.body["accepted"])
    if view.wave in view.started:
        view.started[view.wave] = (view.attempt, event.time)


def _rolling_back(view: RolloutView, event: Event) -> None:
    view.back += 1
    view.keep = False
    view.partial = bool(event.body["partial"])
    view.automatic = bool(event.body["automatic"])


def _order(view: RolloutView, event: Event) -> None:
    order = OrderView(
        id=event.body["id"],
        kind=event.body["kind"],
        wave=event.body["wave"],
        attempt=event.body["attempt"],
        devices=tuple(event.body["devices"]),
        courier=event.body["courier"],
        snapshot=event.body["snapshot"],
        not_after=event.body["not_after"],
        issued=event.time,
    )
    if order.id in view.orders:
        raise Misuse(f"order {order.id} stands twice")
    view.orders[order.id] = order
    book = view.updates if order.kind == "update" else view.returns
    for device in order.devices:
        book.setdefault(device, []).append(order.id)
        view.notices.pop(device, None)
    begun = view.started.get(order.wave)
    if order.kind == "update" and (begun is None or begun[0] < order.attempt):
        view.started[order.wave] = (order.attempt, event.time)


def _dispatched(view: RolloutView, event: Event) -> None:
    order = view.orders[event.body["id"]]
    order.dispatched = event.time
    order.unreachable = dict(event.body["unreachable"])
    order.unassigned = set(event.body["unassigned"])
    for device, reason in event.body["refused"].items():
        order.withdrawn[device] = event.time
        view.left_out[device] = reason


def _assigned(view: RolloutView, event: Event) -> None:
    view.orders[event.body["id"]].unassigned.difference_update(event.body["devices"])


def _left_out(view: RolloutView, event: Event) -> None:
    view.left_out.update(event.body["devices"])


def _withdrawn(view: RolloutView, event: Event) -> None:
    order = view.orders[event.body["id"]]
    for device, until in event.body["devices"].items():
        order.withdrawn[device] = strict.instant(until)
        order.unassigned.discard(device)


def _advanced(view: RolloutView, event: Event) -> None:
    view.wave = event.body["wave"]
    view.started[view.wave] = (0, event.time)


def _settled(view: RolloutView, event: Event) -> None:
    view.settled[event.body["wave"]] = (event.time, event.body["committed"])


def _notice(view: RolloutView, event: Event) -> None:
    view.notices[event.body["device"]] = Notice(
        event.body["event"],
        event.body["code"],
        event.body["state_id"],
        event.body["counter"],
        event.time,
    )


def _tail_closed(view: RolloutView, _event: Event) -> None:
    view.tail_closed = True


def _followed(view: RolloutView, event: Event) -> None:
    order = view.orders[event.body["id"]]
    order.followed = event.time
    order.follows += 1
    order.closed = bool(event.body["closed"])
    order.lost = dict(event.body["lost"])
    order.note = str(event.body["note"])


def _tidied(view: RolloutView, event: Event) -> None:
    order = view.orders[event.body["id"]]
    order.closed = order.tidied = True


_FACTS: dict[str, Callable[[RolloutView, Event], None]] = {
    "drafted": _drafted,
    "approved": _nothing,
    "started": _started,
    "approval": _approval,
    "paused": _paused,
    "held": _held,
    "resumed": _resumed,
    "rolling-back": _rolling_back,
    "rolled-back": _nothing,
    "completed": _nothing,
    "aborted": _aborted,
    "order": _order,
    "dispatched": _dispatched,
    "assigned": _assigned,
    "left-out": _left_out,
    "withdrawn": _withdrawn,
    "advanced": _advanced,
    "settled": _settled,
    "notice": _notice,
    "tail-closed": _tail_closed,
    "followed": _followed,
    "tidied": _tidied,
}
