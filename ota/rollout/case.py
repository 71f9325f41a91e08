"""One rollout at one moment: journal, plan, reports and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ota.rollout.outcomes import ACTIVATED, Outcome, Outcomes, Result, exposed, judge
from ota.rollout.records import Log
from ota.rollout.replay import RolloutView
from ota.rollout.states import State
from signing.plan import DeviceRow, Plan
from signing.report import Report

STRAGGLERS: Final[tuple[Outcome, ...]] = (
    "waiting",
    "pending",
    "in_progress",
    "silent",
    "unreachable",
    "stale",
    "refused",
)

BAD: Final = frozenset(
    {"failed", "reverted", "refused", "stale", "unreachable", "silent", "left_out", "stranded"}
)


@dataclass
class Case:
    """Everything that deciding and acting need; ``refresh`` after the journal has moved."""

    log: Log
    plan: Plan
    reports: Mapping[str, Report]
    now: datetime
    outcomes: Outcomes = field(init=False)

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Judge again."""
        self.outcomes = judge(self.plan, self.log.view, self.reports, self.now)

    @property
    def view(self) -> RolloutView:
        """What the journal says."""
        return self.log.view

    def add(self, kind: str, body: Mapping[str, object]) -> None:
        """Append an event and judge again."""
        self.log.add(kind, body, self.now)
        self.refresh()

    def candidates(self) -> Iterator[DeviceRow]:
        """Devices of the waves begun so far that are due an order."""
        for wave in self.plan.waves[: self.view.wave + 1]:
            for row in wave.devices:
                if self.outcomes.results[row.device].outcome == "waiting":
                    yield row

    def stragglers(self) -> list[str]:
        """Devices without a final outcome that nobody has accepted."""
        found = self.outcomes.of(*STRAGGLERS)
        return [d for d in found if d not in self.view.accepted]

    def ended_badly(self) -> dict[str, str]:
        """Devices of the waves begun that a human would have to go on without.

        With the courier's reason where one was unreachable: no report will ever tell it.
        """
        begun = {r.device for w in self.plan.waves[: self.view.wave + 1] for r in w.devices}
        return {
            device: _told(result)
            for device, result in self.outcomes.results.items()
            if result.outcome in BAD and device in begun and device not in self.view.accepted
        }

    def exposed(self) -> dict[str, datetime]:
        """Devices to which a withdrawn assignment can be replayed, and until when."""
        return exposed(self.view, self.outcomes, self.now)

    def to_withdraw(self) -> dict[str, list[str]]:
        """Order id -> devices whose assignment must not stand in the running state."""
        if not _withdraws(self.view):
            return {}
        found: dict[str, list[str]] = {}
        for device, result in self.outcomes.results.items():
            for kind in ("update", "rollback"):
                order = self.view.last(device, kind)
                if order is None or device in order.withdrawn:
                    continue
                if _withdrawable(kind, result, self.view.state) or self._done(result):
                    found.setdefault(order.id, []).append(device)
        return found

    def _done(self, result: Result) -> bool:
        """A playbook that was run is not a state to stay in: its order is taken off at the end."""
        over = self.view.tail_closed or self.view.state == "ABORTED"
        return self.plan.playbook is not None and over and result.outcome == "committed"


def _told(result: Result) -> str:
    if result.outcome == "unreachable" and result.code:
        return f"unreachable: {result.code}"
    return result.outcome


def _withdraws(view: RolloutView) -> bool:
    """Whether the state calls for taking assignments back (rule 10)."""
    if view.state in {"PAUSED", "HELD"}:
        return not view.keep
    return view.state in {"ABORTED", "ROLLING_BACK"} or view.tail_closed


def _withdrawable(kind: str, result: Result, state: State) -> bool:
    """Not yet reported past ACTIVATING, or ended without a commit.

    Orders of the way back stay while a human looks (they are the safe direction); only an abort
    takes them back.
    """
    if kind == "rollback":
        waiting = result.outcome in {"returning", "stranded"}
        return state == "ABORTED" and waiting and result.phase not in ACTIVATED
    if result.outcome in {"failed", "reverted", "refused", "stale", "unreachable", "pending"}:
        return not result.took
    return result.outcome in {"in_progress", "silent", "left_out"} and not result.took
