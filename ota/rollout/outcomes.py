"""What happened to each device, from the journal and the devices' signed reports. Pure.

Only the journal (what was ordered) and reports that a device signed are read; what a courier or a
cloud says about its own jobs never counts as an outcome, except that it could not hand over.

A report counts when its *signed* order is one that the journal issued to that very device, of the
same rollout, wave, kind and component, for the path and SHA-256 that the plan says, and when a
commit agrees with the signed state of the component (rule 13). Otherwise it is ``mismatched``.

Words: ``waiting`` no order yet; ``pending`` ordered, nothing heard; ``silent`` the deadline passed
without an outcome; ``returning``, ``returned``, ``stranded`` on the way back, back, not come back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from ota.rollout.gate import Tally
from ota.rollout.orders import OrderView
from ota.rollout.replay import RolloutView
from signing.plan import DeviceRow, Plan
from signing.release import Release
from signing.report import Report, UpdateState

Outcome = Literal[
    "waiting",
    "pending",
    "in_progress",
    "committed",
    "failed",
    "reverted",
    "refused",
    "stale",
    "unreachable",
    "silent",
    "withdrawn",
    "left_out",
    "returning",
    "returned",
    "stranded",
]

ACTIVATED: Final = frozenset(
    {
        "ACTIVATING",
        "PENDING_REBOOT",
        "TRIAL",
        "COMMITTING",
        "DONE",
        "ROLLING_BACK",
        "ROLLED_BACK",
        "NEEDS_HUMAN",
        *("RUNNING", "LAST", "WIPING"),
    }
)
"""Phases of the agent from which on withdrawing an assignment changes nothing any more."""
_BACK: Final = frozenset({"returning", "returned", "stranded"})
_ACCEPTABLE: Final = frozenset(
    {"failed", "reverted", "refused", "stale", "unreachable", "silent", "withdrawn", "left_out"}
)


@dataclass(frozen=True)
class Result:
    """One device's outcome. ``code`` is what the device said; ``took``: may run the release."""

    outcome: Outcome
    code: str = ""
    phase: str = ""
    took: bool = False


@dataclass(frozen=True)
class Outcomes:
    """Every device of the plan, and the reports that were ignored, with the reason."""

    results: Mapping[str, Result]
    mismatched: Mapping[str, str] = field(default_factory=dict)

    def of(self, *wanted: Outcome) -> Iterator[str]:
        """Devices with one of these outcomes, in the plan's order."""
        return (d for d, r in self.results.items() if r.outcome in wanted)

    def tally(self, plan: Plan, view: RolloutView, wave: int) -> Tally:
        """The gate's view of one wave."""
        counts: Counter[str] = Counter()
        rows = plan.waves[wave].devices
        for row in rows:
            outcome = self.results[row.device].outcome
            if row.device in view.accepted and outcome in _ACCEPTABLE:
                outcome_name = "accepted"
            else:
                outcome_name = "taken_back" if outcome in _BACK else outcome
            counts[outcome_name] += 1
        return Tally(size=len(rows), **counts)


def judge(plan: Plan, view: RolloutView, reports: Mapping[str, Report], now: datetime) -> Outcomes:
    """Every device's outcome as of ``now``."""
    results: dict[str, Result] = {}
    mismatched: dict[str, str] = {}
    for index, wave in enumerate(plan.waves):
        late = _late(view, index, wave.deadline, now)
        for row in wave.devices:
            report = reports.get(row.device)
            if report is not None:
                fault = mismatch(plan, view, row, report)
                if fault:
                    mismatched[row.device] = fault
                    report = None
            case = _Case(plan, view, row, report, late, now)
            results[row.device] = _judge_one(case)
    return Outcomes(results, mismatched)


def mismatch(plan: Plan, view: RolloutView, row: DeviceRow, report: Report) -> str:
    """Why this report does not count for this row, or "" (rule 13)."""
    update = report.update
    if update is None or report.device != row.device:
        return "names no order, or another device"
    order = view.orders.get(update.order)
    if order is None or row.device not in order.devices:
        return f"order {update.order!r:.80} was not issued to this device"
    target = plan.target(row, order.kind)
    said = (update.rollout, update.wave, update.kind, update.component, update.path, update.sha256)
    if target is None or said != (
        plan.rollout,
        order.wave,
        plan.signs(order.kind),
        plan.component,
        target.path,
        target.sha256,
    ):
        return "rollout, wave, kind, component, path or hash is not what was ordered"
    if update.targets_version < 1:
        return "no director targets version"
    installed = isinstance(target, Release) and update.outcome == "committed"
    if installed and not runs(report, plan.component, target.sha256):
        return "says committed, but its signed state runs something else"
    return ""


def runs(report: Report, component: str, sha256: str) -> bool:
    """Whether the report's signed state says that this content runs."""
    state = report.components.get(component)
    return state is not None and state.current is not None and state.current.sha256 == sha256


@dataclass(frozen=True)
class _Case:
    plan: Plan
    view: RolloutView
    row: DeviceRow
    report: Report | None
    late: bool
    now: datetime


def _late(view: RolloutView, wave: int, deadline: int, now: datetime) -> bool:
    begun = view.started.get(wave)
    return begun is not None and now >= begun[1] + timedelta(seconds=deadline)


def _judge_one(case: _Case) -> Result:
    device = case.row.device
    back = case.view.last(device, "rollback")
    if back is not None and device not in back.withdrawn:
        return _judge_return(case, back)
    order = case.view.last(device)
    if order is None:
        return Result("left_out" if device in case.view.left_out else "waiting")
    said = _reported(case, order)
    return said if said is not None else _unreported(case, order)


def _reported(case: _Case, order: OrderView) -> Result | None:
    """What the newest counting report says, or None when it says nothing about this order."""
    report = case.report
    if report is None or report.update is None:
        return None
    update = report.update
    activated = update.phase in ACTIVATED
    if update.kind == "rollback":
        return Result("committed", report.code, took=True)  # its return order was taken back
    if update.outcome in {"committed", "reverted"}:
        took = update.outcome == "committed"
        return Result(update.outcome, report.code, update.phase, took=took)
    if not activated and _bygone(case, order, report, update):
        return None
    if update.outcome == "in_progress":
        return _progress(case, report, update, took=activated)
    stuck = update.phase == "NEEDS_HUMAN"
    return Result(update.outcome, report.code, update.phase, took=stuck)


def _bygone(case: _Case, order: OrderView, report: Report, update: UpdateState) -> bool:
    """About an order that was withdrawn before anything was activated."""
    if update.order != order.id:
        return True
    unfinished = update.outcome in {"in_progress", "stale", "refused"}
    return case.row.device in order.withdrawn and (unfinished or report.code == "withdrawn")


def _progress(case: _Case, report: Report, update: UpdateState, *, took: bool) -> Result:
    noticed = _noticed(case, report)
    if noticed is not None:
        return replace(noticed, phase=update.phase, took=took)
    outcome: Outcome = "silent" if case.late else "in_progress"
    return Result(outcome, report.code, update.phase, took=took)


def _unreported(case: _Case, order: OrderView) -> Result:
    device = case.row.device
    if device in order.withdrawn:
        return _withdrawn(case, order)
    noticed = _noticed(case, None)
    if noticed is not None:
        return noticed
    if device in order.unreachable:
        return Result("unreachable", order.unreachable[device])
    return Result("silent" if case.late else "pending")


def _withdrawn(case: _Case, order: OrderView) -> Result:
    """Withdrawn: ordered again once the rollout has been resumed, unless a human went on."""
    view, device = case.view, case.row.device
    if device in view.left_out:
        return Result("left_out")
    again = order.attempt < view.attempt and not view.tail_closed and device not in view.accepted
    if again and view.state == "RUNNING":
        return Result("waiting")
    update = None if case.report is None else case.report.update
    busy = update is not None and update.outcome == "in_progress" and not case.late
    return Result("withdrawn", phase=update.phase if update is not None and busy else "")


def _noticed(case: _Case, report: Report | None) -> Result | None:
    """A newer signed refusal or ``stale`` without an order: it can only count against."""
    notice = case.view.notices.get(case.row.device)
    if notice is None:
        return None
    newer = (
        report is not None
        and report.state_id == notice.state_id
        and report.counter > notice.counter
    )
    if newer:
        return None
    return Result("refused" if notice.event == "refusal" else "stale", notice.code)


def _judge_return(case: _Case, order: OrderView) -> Result:
    """The way back: only a return order's commit, or a revert of its own, ends it well."""
    update = None if case.report is None else case.report.update
    code = "" if case.report is None else case.report.code
    phase = ""
    if update is not None and update.kind == "rollback":
        phase = update.phase
        if update.outcome == "committed":
            return Result("returned", code, phase)
        if update.order == order.id and update.outcome in {"failed", "reverted", "refused"}:
            return Result("stranded", code, phase, took=True)
    if update is not None and update.kind == "update" and update.outcome == "reverted":
        return Result("returned", code, update.phase)
    deadline = case.plan.waves[order.wave].deadline
    if case.now >= order.issued + timedelta(seconds=deadline):
        return Result("stranded", "silent", phase, took=True)
    return Result("returning", code, phase, took=True)


def exposed(view: RolloutView, outcomes: Outcomes, now: datetime) -> dict[str, datetime]:
    """Devices to which a courier could still replay a withdrawn assignment, and until when."""
    found: dict[str, datetime] = {}
    for order in view.orders.values():
        for device, until in order.withdrawn.items():
            loose = outcomes.results[device].outcome in {"withdrawn", "waiting", "left_out"}
            if until > now and loose:
                found[device] = max(until, found.get(device, until))
    return found
