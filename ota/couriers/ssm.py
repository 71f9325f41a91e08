"""The courier ``ssm``: hints and reports through commands of AWS Systems Manager.

A command runs the pinned hint document (``ssm_document.py``) on up to 50 nodes at once; its answer
is read from each node's output. Visits, memory and pacing are those of every courier that can only
run a command (``visiting.py``); what is different here is that an answer comes later:

1. take the answers of commands on their way;
2. send new ones to devices that are due and not busy, grouped by what they are to be told;
3. take the answers of those that were quick.

Nothing that Systems Manager says is an outcome: a node that is offline, a delivery that timed out
or a command that failed makes a device unreachable for now, with the reason. ``MaxErrors`` is 100 %
by default, for the same reason: unsigned states must not stop a batch.

>>> courier = Ssm(api, nodes, folder, clock, Options(prefix="ota"))
>>> courier.dispatch(order)
{'press-09': 'ssm-offline: mi-0a1b is ConnectionLost'}
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ota.aws.api import Api, Said
from ota.aws.errors import shown
from ota.couriers import relay_answer, ssm_answers, ssm_document, ssm_nodes, visiting
from ota.couriers.orders import checked
from ota.couriers.ssm_commands import Book, Command
from ota.couriers.ssm_document import ACKS, WAIT, Pinned
from ota.couriers.visit_memory import Memory
from ota.couriers.visiting import Came, Pace, Visiting
from ota.errors import OtaError, Outage
from ota.ports import Clock, Delivery, Order
from signing import strict

BATCH: Final = 50
"""Instance ids of one SendCommand."""
_TICK: Final = 0.5
Nodes = Callable[[Sequence[str]], Mapping[str, str]]
"""Devices -> their managed nodes (``mi-...``, ``i-...``); one without a node is left out."""


@dataclass(frozen=True)
class Options:
    """``delivery``, ``patience``, ``visit`` and ``visit_max`` in seconds.

    ``delivery``: how long a command waits for an offline node. ``patience``: how long one
    ``collect`` waits for quick answers. ``calendars``: names or ARNs of Change Calendars.
    ``wait``: how long the relay waits for a report after a hint. ``look``: have the relay look at once where no agent runs.
    """

    prefix: str = "ota"
    max_concurrency: str = "100%"
    max_errors: str = "100%"
    delivery: int = 600
    patience: float = 5.0
    wait: int = WAIT
    visit: float = 10.0
    visit_max: float = 300.0
    config: str = ""
    look: bool = True
    calendars: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Errand:
    """What one command tells: the same to every node of it."""

    order: str = ""
    rollout: str = ""
    cancels: tuple[str, ...] = ()


class Ssm(Visiting):
    """Implements ``ports.Courier`` and ``ports.Follower``; see the module."""

    def __init__(
        self,
        api: Api,
        nodes: Nodes,
        folder: Path,
        clock: Clock,
        options: Options,
    ) -> None:
        super().__init__("ssm", Memory(folder), clock, Pace(options.visit, options.visit_max))
        self._api, self._nodes, self._options = api, nodes, options
        self._book = Book(folder)

    @cached_property
    def document(self) -> Pinned:
        """The hint document, made and compared once for each process."""
        return ssm_document.ensure(self._api, self._options.prefix)

    # -- the port --------------------------------------------------------------------------------
    def dispatch(self, order: Order) -> Mapping[str, str]:
        """Send the hint to each device's node; idempotent on the order's id.

        Returns device -> reason for those that have no node, or whose node is offline; they are
        tried again while the order lives. Raises ``Malformed``, ``Outage`` (``calendar-closed``
        and those of AWS), ``Refusal("ssm-document")``; nothing is sent then.
        """
        again = any(order.id in self._memory.load(d).orders for d in checked(order))
        waiting = self._intend(order)
        now = self._clock()
        self._open_calendar(now)
        if again and waiting:
            for command in self._lost(order, waiting, now):
                self._book.put(command)
        busy = self._book.busy()
        missed = self._send_all([d for d in waiting if d not in busy], now)
        self._take_answers()
        return visiting.reasons(missed)

    def cancel(self, order: Order) -> None:
        """Withdraw the hint at the next visit, and stop commands that still carry it."""
        super().cancel(order)
        for command in self._book.all():
            if command.order == order.id and set(command.devices.values()) <= set(order.devices):
                with contextlib.suppress(Said):  # AWS keeps no command for ever
                    self._api.call(
                        "CancelCommand",
                        command.id,
                        expects={"InvalidCommandId"},
                        CommandId=command.id,
                    )

    def collect(self, limit: int) -> Sequence[Delivery]:
        """Take answers, visit what is due, take quick answers; then what was not acknowledged."""
        self._take_answers()
        now = self._clock()
        busy = self._book.busy()
        due = [d for d in self._due(now) if d not in busy]
        if due:
            self._send_all(due, now)
            until = time.monotonic() + self._options.patience
            while self._take_answers() and time.monotonic() < until:
                time.sleep(_TICK)
        return self._deliveries(limit)

    # -- sending ---------------------------------------------------------------------------------
    def _open_calendar(self, now: datetime) -> None:
        """``Outage`` (``calendar-closed``) while a Change Calendar says no."""
        names = self._options.calendars
        if not names:
            return
        where = ",".join(names)
        found = self._api.call(
            "GetCalendarState", where, CalendarNames=list(names), AtTime=strict.stamp(now)
        )
        if "State" not in found:
            raise self._api.strange("GetCalendarState", where, "it has no State")
        if found["State"] != "OPEN":
            then = shown(found.get("NextTransitionTime", ""), 40)
            raise Outage(
                f"a Change Calendar is closed{f' until {then}' if then else ''}",
                code="calendar-closed",
                subject=",".join(names),
                remedy="it is tried again at the next step; ota rollout status",
            )

    def _send_all(self, devices: Sequence[str], now: datetime) -> dict[str, OtaError]:
        """Send to each what it is to be told; those without a node that listens, and why."""
        nodes, missed = ssm_nodes.named(devices, self._nodes(devices))
        for errand, group in self._grouped([d for d in devices if d in nodes], now).items():
            for start in range(0, len(group), BATCH):
                batch = {nodes[d]: d for d in group[start : start + BATCH]}
                missed |= self._send(errand, batch, now)
        for device, error in missed.items():
            self._failed(device, error, now)
        return missed

    def _grouped(self, devices: Sequence[str], now: datetime) -> dict[_Errand, list[str]]:
        groups: dict[_Errand, list[str]] = {}
        for device in devices:
            known = self._memory.load(device)
            order, rollout = next(iter(known.hints(now).items()), ("", ""))
            errand = _Errand(order, rollout, tuple(known.cancels()[:ACKS]))
            groups.setdefault(errand, []).append(device)
        return groups

    def _send(self, errand: _Errand, batch: dict[str, str], now: datetime) -> dict[str, OtaError]:
        offline = ssm_nodes.offline(self._api, batch)
        live = {node: device for node, device in batch.items() if node not in offline}
        missed = {batch[node]: error for node, error in offline.items()}
        return missed | (self._command(errand, live, now) if live else {})

    def _command(self, errand: _Errand, live: dict[str, str], now: datetime) -> dict[str, OtaError]:
        """One command. Where AWS does not know one of several nodes, to each half of them."""
        acks = self._acks(live.values())
        try:
            found = self._api.get(
                "Command",
                "SendCommand",
                f"document/{self.document.name}",
                expects={"InvalidInstanceId"},
                DocumentName=self.document.name,
                DocumentVersion=self.document.version,
                DocumentHash=self.document.sha256,
                DocumentHashType="Sha256",
                InstanceIds=list(live),
                Comment=_comment(errand.order, live.values()),
                TimeoutSeconds=self._options.delivery,
                MaxConcurrency=self._options.max_concurrency,
                MaxErrors=self._options.max_errors,
                Parameters=self._parameters(errand, acks, live),
            )
            name = str(found["CommandId"])
        except Said:
            return self._halves(errand, live, now)
        except KeyError as e:
            raise self._api.strange("SendCommand", self.document.name, "no CommandId") from e
        self._book.put(
            Command(
                id=name,
                devices=live,
                order=errand.order,
                acks=acks,
                cancels=errand.cancels,
                sent=strict.stamp(now),
                ends=strict.stamp(now + timedelta(seconds=self._options.delivery + 300)),
            )
        )
        return {}

    def _halves(self, errand: _Errand, live: dict[str, str], now: datetime) -> dict[str, OtaError]:
        rows = list(live.items())
        if len(rows) == 1:
            ((node, device),) = rows
            return {
                device: ssm_nodes.not_heard(node, device, "not known to AWS, though it is listed")
            }
        half = len(rows) // 2
        first = self._command(errand, dict(rows[:half]), now)
        return first | self._command(errand, dict(rows[half:]), now)

    def _parameters(
        self, errand: _Errand, acks: Sequence[str], live: Mapping[str, str]
    ) -> dict[str, list[str]]:
        """One list of one text for each; ``Device`` only where one device is meant."""
        device = next(iter(live.values())) if len(live) == 1 else "-"
        return {
            "Order": [errand.order],
            "Rollout": [errand.rollout],
            "Acks": [" ".join(acks)],
            "Cancels": [" ".join(errand.cancels)],
            "Device": [device],
            "Wait": [str(self._options.wait if errand.order else 0)],
            "Look": ["yes" if self._options.look else "no"],
            "Config": [self._options.config],
        }

    def _acks(self, devices: Any) -> tuple[str, ...]:
        """Reports that are safe here, of all these devices together.

        A name holds a counter and eight digits of a hash, so one device's name is not another's;
        one that is not there is passed over.
        """
        names = [name for device in devices for name in self._memory.load(device).acks]
        return tuple(dict.fromkeys(names))[:ACKS]

    def _lost(self, order: Order, waiting: Sequence[str], now: datetime) -> Iterator[Command]:
        """Commands of this order that were sent just before a crash and not written down."""
        known = {command.id for command in self._book.all()}
        nodes = dict(self._nodes(waiting))
        since = strict.stamp(now - timedelta(hours=1))
        for row in ssm_answers.sent(self._api, self.document.name, since):
            name, said = str(row.get("CommandId", "")), str(row.get("Comment", ""))
            devices = {n: d for d, n in nodes.items() if n in row.get("InstanceIds", [])}
            if name and devices and name not in known and said.startswith(f"{order.id} "):
                yield Command(
                    id=name,
                    devices=devices,
                    order=order.id,
                    sent=strict.stamp(now),
                    ends=strict.stamp(now + timedelta(seconds=self._options.delivery + 300)),
                )

    # -- answers -----------------------------------------------------------------------------------
    def _take_answers(self) -> bool:
        """Take what has come; whether something is still on its way that may come soon."""
        now = self._clock()
        soon = False
        for command in self._book.all():
            came = dict(ssm_answers.fetch(self._api, command))
            if command.over(now):
                for node in command.open():
                    came.setdefault(node, ssm_answers.silent(command, node))
            for node, answer in came.items():
                self._taken(command, command.devices[node], answer, now)
            left = command.finished(list(came))
            if came:
                self._book.put(left)
            soon = soon or bool(left.open())
        return soon

    def _taken(
        self, command: Command, device: str, answer: relay_answer.Answer | OtaError, now: datetime
    ) -> None:
        """One node's answer into the books."""
        if isinstance(answer, OtaError):
            self._failed(device, answer, now)
            return
        mine = set(self._memory.load(device).acks)
        told = [*([command.order] if command.order else []), *command.cancels]
        acked = tuple(name for name in command.acks if name in mine)
        self._came(device, Came(told, acked, answer.reports, answer.more), now)


def _comment(order: str, devices: Any) -> str:
    """At most 100 characters; the order's id is looked for here after a crash."""
    digest = strict.digest("\n".join(sorted(devices)).encode())[:8]
    return f"{order} {digest}" if order else f"ota visit {digest}"
