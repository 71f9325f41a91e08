"""What couriers that visit remember of each device between two visits, one small file for each.

    <state>/<courier>/<device>.json        orders on their way, reports to acknowledge, the next visit

A courier is useful and untrusted, and so is its memory: lost, it costs visits and duplicates, and
nothing else. Orders are delivered once for each id by the device's own relay. A damaged file is
begun anew.

>>> memory = Memory(Path("plant/state/ssh"))
>>> state = memory.load("press-07").with_order(order)
>>> memory.save("press-07", state)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from ota.errors import Malformed, OtaError
from ota.ports import Order
from signing import durable, strict
from signing.report import read
from signing.statement import peek

_LIMIT: Final = 1024 * 1024
_ENDED: Final = frozenset({"committed", "failed", "reverted"})
_AFTER: Final = timedelta(days=1)
_REST: Final = 15
"""How many times the longest pause a device that does not answer is left alone."""


class Errand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order on its way. ``told``: the device has it, or its withdrawal."""

    rollout: str
    expires: str
    told: bool = False
    cancelled: bool = False
    ended: bool = False


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device. ``pause`` in seconds; ``pushed`` digests what its mirror held last.

    ``hurried``: visits in a row that were made without a pause.
    """

    schema: int = 1
    orders: dict[str, Errand] = {}
    acks: tuple[str, ...] = ()
    wanted: bool = False
    due: str = ""
    pause: float = 0.0
    seen: str = ""
    code: str = ""
    reason: str = ""
    pushed: str = ""
    hurried: int = 0

    def check(self) -> None:
        """``Malformed`` where a time or an order id is none."""
        times = [self.due, self.seen, *(e.expires for e in self.orders.values())]
        for time in filter(None, times):
            strict.instant(time)
        for name in self.orders:
            if not strict.ORDER.fullmatch(name):
                raise Malformed("an order id that is none")

    # -- what is to be done ----------------------------------------------------------------------
    def is_due(self, now: datetime) -> bool:
        """Whether there is a reason to visit it, and the time has come."""
        busy = self.wanted or self.acks or self.orders
        return bool(busy) and (not self.due or strict.instant(self.due) <= now)

    def hints(self, now: datetime) -> dict[str, str]:
        """Order -> rollout of what is still to be handed over."""
        return {
            name: e.rollout
            for name, e in self.orders.items()
            if not (e.told or e.cancelled) and now < strict.instant(e.expires)
        }

    def cancels(self) -> list[str]:
        """Orders whose withdrawal the device does not know yet."""
        return [name for name, e in self.orders.items() if e.cancelled and not e.told]

    # -- changes -----------------------------------------------------------------------------------
    def with_order(self, order: Order) -> State:
        """The same, with this order to be handed over, unless it is known."""
        if order.id in self.orders:
            return self
        made = Errand(rollout=order.rollout, expires=strict.stamp(order.expires))
        return self._replace(orders={**self.orders, order.id: made}, due="", pause=0.0)

    def without(self, order: str) -> State:
        """The same, with this order withdrawn: not sent any more, and taken back over there.

        Also where it seems never to have arrived: an answer may have been lost on its way.
        """
        errand = self.orders.get(order)
        if errand is None or errand.cancelled:
            return self
        gone = msgspec.structs.replace(errand, cancelled=True, told=False)
        return self._replace(orders={**self.orders, order: gone}, due="")

    def visit_now(self) -> State:
        """The same, to be visited whatever is expected of it."""
        return self._replace(wanted=True, due="", pause=0.0)

    def acknowledged(self, names: Iterable[str]) -> State:
        """The same, with these reports to be acknowledged at the next visit."""
        return self._replace(acks=tuple(dict.fromkeys((*self.acks, *names))))

    def took(self, names: Iterable[str]) -> State:
        """The same, after the device has these acknowledgements."""
        gone = set(names)
        return self._replace(acks=tuple(name for name in self.acks if name not in gone))

    def forgotten(self, order: str) -> State:
        """The same, without this order."""
        return self._replace(orders={n: e for n, e in self.orders.items() if n != order})

    def told(self, orders: Iterable[str]) -> State:
        """The same, after the device has these hints or withdrawals."""
        done = set(orders)
        changed = {
            name: msgspec.structs.replace(e, told=True) if name in done else e
            for name, e in self.orders.items()
        }
        return self._replace(orders=changed)

    def heard(self, reports: Iterable[bytes]) -> State:
        """The same, after these reports: which orders have ended, for pacing visits only."""
        over = {name for data in reports for name in _ended(data)}
        changed = {
            name: msgspec.structs.replace(e, ended=True) if name in over else e
            for name, e in self.orders.items()
        }
        return self._replace(orders=changed)

    def answered(self, now: datetime, due: float, pause: float, *, quiet: bool) -> State:
        """The same, after a visit that worked; the next one is due in ``due`` seconds.

        ``quiet``: nothing moved and nothing lies there, so what has ended is forgotten.
        """
        left = {
            name: e
            for name, e in self.orders.items()
            if now < strict.instant(e.expires) + _AFTER and not (quiet and _over(e))
        }
        return self._replace(
            orders=left,
            wanted=False,
            seen=strict.stamp(now),
            code="",
            reason="",
            due=strict.stamp(now + timedelta(seconds=due)),
            pause=pause,
        )

    def failed(self, error: OtaError, now: datetime, pause: float, most: float) -> State:
        """The same, after a visit that did not; the longer it lasts, the rarer the next ones."""
        pause = min(max(2 * self.pause, pause), _REST * most)
        left = {
            name: e for name, e in self.orders.items() if now < strict.instant(e.expires) + _AFTER
        }
        return self._replace(
            orders=left,
            code=error.code,
            reason=str(error)[:300],
            due=strict.stamp(now + timedelta(seconds=pause)),
            pause=pause,
        )

    def _replace(self, **words: Any) -> State:
        return msgspec.structs.replace(self, **words)


def _over(errand: Errand) -> bool:
    return errand.ended or (errand.cancelled and errand.told)


def _ended(data: bytes) -> Iterator[str]:
    """The order that a report says has ended. Unverified: it only paces visits."""
    try:
        update = read(peek("report", data)).update
    except OtaError:
        return
    if update is not None and update.outcome in _ENDED:
        yield update.order


class Memory:
    """States in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def devices(self) -> list[str]:
        """Every device that is remembered, sorted."""
        names = (path.name.removesuffix(".json") for path in self.folder.glob("[!.]*.json"))
        found = sorted(map(unquote, names))
        return [device for device in found if strict.IDENTIFIER.fullmatch(device)]

    def load(self, device: str) -> State:
        """What is remembered of a device; a new state where there is nothing, or nothing whole."""
        try:
            data = durable.read(self._path(device), _LIMIT, "memory of a courier")
            state = msgspec.json.decode(data, type=State) if data else State()
            state.check()
        except (msgspec.ValidationError, msgspec.DecodeError, Malformed):
            return State()
        return state

    def save(self, device: str, state: State) -> None:
        """Durably; a state that holds nothing any more is a small file and stays."""
        durable.replace(self._path(device), msgspec.json.encode(state), mode=0o600)

    def lock(self, device: str) -> Path:
        """Held by whoever pushes to a device."""
        return self.folder / f".push-{quote(strict.identifier(device, 'device'), safe='')}.lock"

    def _path(self, device: str) -> Path:
        return self.folder / f"{quote(strict.identifier(device, 'device'), safe='')}.json"
