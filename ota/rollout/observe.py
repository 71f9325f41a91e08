"""Collecting what devices sent: verified, stored, and only then acknowledged.

For each delivery: the registry verifies and stores it; a refusal is quarantined under its code
and named; an outage leaves it with the courier. Acknowledged is only what is durable here, so a
crash between the two is harmless: the same bytes again are a ``duplicate``.

A signed ``refusal`` or ``stale`` report that could not name an order (its director metadata did
not verify, or had expired) is noted in the journal of every open rollout in which that device has
a live order. It can only ever count against. Complaints about hints are not counted: anybody who
can write to a courier can plant a hint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ota.errors import Misuse, NotPermitted, OtaError, Outage, Refusal, told
from ota.ports import Courier, Delivery, Fleet, Received
from ota.rollout.records import Log, Records
from ota.rollout.states import CLOSED
from signing.report import Report

_CHUNK: Final = 500
_ROUNDS: Final = 2000
_Verdicts = list[tuple[Delivery, Received | Refusal]]


@dataclass
class Observed:
    """How many reports came in, and what was wrong with others."""

    accepted: int = 0
    quarantined: int = 0
    problems: list[str] = field(default_factory=list)


class Observer:
    """Empties every courier into the registry."""

    def __init__(self, records: Records, fleet: Fleet, couriers: Mapping[str, Courier]) -> None:
        self._records = records
        self._fleet = fleet
        self._couriers = couriers

    def observe(self, now: datetime) -> Observed:
        """One sweep over all couriers; one that can not be reached, or may not be, stops nothing.

        What a person asked for (a pause, a way back) must not wait for a courier's credentials, nor
        for what somebody has done to its account.
        """
        seen = Observed()
        for name, courier in self._couriers.items():
            try:
                self._empty(name, courier, seen, now)
            except (Outage, NotPermitted, Misuse) as e:
                seen.problems.append(f"{name}: {told(e)}")
        return seen

    def _empty(self, name: str, courier: Courier, seen: Observed, now: datetime) -> None:
        for _ in range(_ROUNDS):
            try:
                deliveries = courier.collect(_CHUNK)
            except OtaError as e:  # whatever it is: it is the courier's, and the others go on
                seen.problems.append(f"{name}: {told(e)}")
                return
            if not deliveries:
                return
            verdicts = self._record(deliveries, seen, now)
            try:
                _settle(courier, verdicts, seen)
            except OtaError as e:
                seen.problems.append(f"{name}: {told(e)}")
                return
            if not _worth(verdicts):
                return

    def _record(self, deliveries: Sequence[Delivery], seen: Observed, now: datetime) -> _Verdicts:
        """Verify, store and note; each delivery with its verdict."""
        verdicts = self._fleet.record_all([d.data for d in deliveries], now)
        noted = [v.report for v in verdicts if not isinstance(v, Refusal) and _noteworthy(v)]
        seen.accepted += sum(
            not isinstance(v, Refusal) and v.status == "accepted" for v in verdicts
        )
        if noted:
            self._note(noted, now)
        return list(zip(deliveries, verdicts, strict=True))

    def _note(self, reports: Sequence[Report], now: datetime) -> None:
        for log in open_logs(self._records, skip_broken=True):
            for report in reports:
                order = log.view.last(report.device)
                if order is None or report.device in order.withdrawn:
                    continue
                known = log.view.notices.get(report.device)
                if known is not None and (known.state_id, known.counter) == (
                    report.state_id,
                    report.counter,
                ):
                    continue
                log.add("notice", _body(report), now)


def _worth(verdicts: _Verdicts) -> bool:
    """Whether to ask for more now: not when less than half of a chunk was news.

    Whoever can write to a courier can send garbage, or repeat what was honest, without end: that must
    not hold a step, and with it a pause. The next step goes on.
    """
    news = sum(not isinstance(v, Refusal) and v.status != "duplicate" for _, v in verdicts)
    return 2 * news >= len(verdicts)


def _settle(courier: Courier, verdicts: _Verdicts, seen: Observed) -> None:
    """Set aside what was refused, acknowledge what is stored."""
    try:
        for delivery, verdict in verdicts:
            if isinstance(verdict, Refusal):
                courier.quarantine(delivery, f"{verdict.code}: {verdict}")
                seen.quarantined += 1
                seen.problems.append(f"{delivery.source}: {verdict.code}: {verdict}")
    finally:  # a quarantine that is full must not keep the honest ones coming again
        courier.acknowledge([d for d, verdict in verdicts if not isinstance(verdict, Refusal)])


def open_logs(records: Records, *, skip_broken: bool = False) -> Iterator[Log]:
    """Every rollout that is not closed, oldest first.

    A broken journal raises ``Refusal("journal-broken")``: what it hides must not look free.
    ``skip_broken`` passes over it, for what must go on for the other rollouts.
    """
    for name in records.rollouts():
        try:
            log = Log.open(records, name)
        except Refusal:
            if skip_broken:
                continue
            raise
        if log.view.state not in CLOSED:
            yield log


def _noteworthy(received: Received) -> bool:
    report = received.report
    return (
        received.status != "held"
        and report.update is None
        and report.event in {"refusal", "stale"}
        and not report.code.startswith("hint-")
    )


def _body(report: Report) -> dict[str, object]:
    return {
        "device": report.device,
        "event": report.event,
        "code": report.code[:64],
        "state_id": report.state_id,
        "counter": report.counter,
    }
