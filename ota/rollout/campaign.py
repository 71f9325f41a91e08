"""The use cases of ``ota rollout``: approve, start, step, run, pause, resume, abort, rollback.

Every change is one event in the journal under the workspace's lock; what follows from it
(withdrawals, orders) is the engine's work and is finished by any later step. Exit codes live in
the errors: ``NeedsHuman`` 6, ``Busy`` 7; ``drive.run`` adds ``StoppedByGate`` 5 and ``StillRunning`` 8.

>>> campaign.start(plan_bytes, [approval_bytes], now)
>>> drive.run(campaign, "app-2-x7k2p9", clock, until="done", time_limit=3600)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from ota.errors import Misuse, NeedsHuman, Refusal
from ota.rollout import lock, tidying, view
from ota.rollout.case import Case
from ota.rollout.engine import Engine, Step
from ota.rollout.observe import Observed, open_logs
from ota.rollout.opening import Opening
from ota.rollout.records import Log, Records
from ota.rollout.states import OPEN
from ota.rollout.tidying import Tidied
from signing import strict
from signing.receipt import Receipt

PATIENCE = 60.0
"""Seconds; a step of a large fleet takes a few."""


class Campaign:
    """Rollouts of one workspace. ``lock_path`` keeps two engines of it apart.

    Whoever starts, stops or runs a rollout waits up to ``patience`` seconds for the step at hand.
    """

    def __init__(self, engine: Engine, lock_path: Path, patience: float = PATIENCE) -> None:
        self._engine = engine
        self._records: Records = engine.records
        self._opening = Opening(engine)
        self._lock = lock_path
        self._patience = patience

    # -- beginning -------------------------------------------------------------------------------
    def approve(self, plan: bytes, approval: bytes, now: datetime) -> dict[str, Any]:
        """Add an approval; see :meth:`ota.rollout.opening.Opening.approve`."""
        with self._held():
            return self._opening.approve(plan, approval, now)

    def start(self, plan: bytes, approvals: Iterable[bytes], now: datetime) -> dict[str, Any]:
        """Set an approved plan running; see :meth:`ota.rollout.opening.Opening.start`.

        Open rollouts that it supersedes are aborted first. Returns the status.
        """
        with self._held():
            ready = self._opening.check(plan, approvals, now)
            for name in self._opening.superseded(ready.plan):
                self._abort(name, now, f"superseded by {ready.plan.rollout}")
            self._opening.start(ready, now)
            return self._status(ready.plan.rollout, now)

    # -- moving ----------------------------------------------------------------------------------
    def step(self, rollout: str, now: datetime, *, patient: bool = False) -> Step:
        """One step of one rollout; ``Busy`` while another is at work, unless ``patient``."""
        with lock.held(self._lock, self._patience if patient else 0.0):
            return self._engine.step(rollout, now)

    def observe(self, now: datetime) -> Observed:
        """Take in reports without moving any rollout."""
        with lock.held(self._lock):
            return self._engine.observe(now)

    def step_all(self, now: datetime) -> list[Step]:
        """One step of every rollout that is open or still has something to take back."""
        with lock.held(self._lock):
            return [self._tried(name, now) for name in self._unsettled(now)]

    # -- stopping --------------------------------------------------------------------------------
    def pause(self, rollout: str, now: datetime, *, keep: bool = False) -> Step:
        """Stop ordering and withdraw what is not activated; ``keep`` leaves assignments."""
        with self._held():
            return self._pause(rollout, now, keep=keep)

    def pause_all(self, now: datetime, *, keep: bool = False) -> list[Step]:
        """Pause every running rollout."""
        with self._held():
            logs = open_logs(self._records, skip_broken=True)
            running = [g for g in logs if _runs(g)]
            for log in running:  # all of them are stopped before any courier is asked
                log.add("paused", _paused(keep=keep), now)
            return [self._engine.step(log.view.rollout, now) for log in running]

    def resume(self, rollout: str, now: datetime) -> dict[str, Any]:
        """Go on after a pause or a HOLD; what was withdrawn is ordered again.

        After a HOLD by the gate a human accepts by this the devices that had ended badly: they
        leave the gate's counts and get no further orders. ``Misuse`` after a
        way back: the release is not sent out again, plan anew.
        """
        with self._held():
            case = self._engine.case(rollout, now)
            case.view.check("resumed")
            if case.view.back:
                raise Misuse(
                    "this rollout is on its way back and can not go forward again",
                    code="illegal-move",
                    subject=rollout,
                    remedy=f"ota rollout rollback {rollout} --partial, or abort --leave",
                )
            accepted = sorted(case.view.bad) if case.view.by_gate else []
            case.add("resumed", {"accepted": accepted, "reasons": ["resumed by an operator"]})
            return self._status(rollout, now)

    def abort(
        self,
        rollout: str,
        now: datetime,
        mode: Literal["leave", "rollback"],
        *,
        partial: bool = False,
        reason: str = "aborted by an operator",
    ) -> Step:
        """End it: ``leave`` what was committed, or take it back as ``rollback`` does."""
        with self._held():
            if mode == "rollback":
                return self._rollback(rollout, now, partial=partial)
            return self._abort(rollout, now, reason)

    def rollback(self, rollout: str, now: datetime, *, partial: bool = False) -> Step:
        """Back to the frozen ``from`` for exactly the devices that took the release.

        Plans first: when some can not go back, raises ``NeedsHuman`` (code ``partial``) naming
        them, unless ``partial``.
        """
        with self._held():
            return self._rollback(rollout, now, partial=partial)

    def way_back(self, rollout: str, now: datetime) -> dict[str, Any]:
        """Who could go back now: ``eligible``, ``blocked`` and ``unknown``, without moving.

        Raises as :meth:`rollback` would, but for those who can not.
        """
        case = self._engine.case(rollout, now)
        _refuse_no_way_back(case)
        way = self._engine.back.way_back(case)
        return {
            "eligible": [row.device for row in way.eligible],
            "blocked": dict(way.blocked),
            "unknown": dict(way.unknown),
        }

    def tidy(
        self, now: datetime, older_than: timedelta, limit: int, *, write: bool = True
    ) -> list[Tidied]:
        """Close and remove what ended rollouts have left; see :mod:`ota.rollout.tidying`."""
        with lock.held(self._lock):
            return tidying.tidy(self._engine, now, older_than, limit, write=write)

    # -- looking ---------------------------------------------------------------------------------
    def status(self, rollout: str, now: datetime) -> dict[str, Any]:
        """Everything about one rollout, as ``view.describe`` writes it."""
        return self._status(rollout, now)

    def runs(self, rollout: str, now: datetime) -> list[dict[str, Any]]:
        """One row for each device of a playbook's rollout: its outcome, and each step."""
        return view.runs(self._engine.case(rollout, now))

    def rollouts(self, now: datetime) -> list[dict[str, Any]]:
        """One row for each rollout, oldest first; state ``BROKEN`` where it does not verify."""
        found = []
        for name in self._records.rollouts():
            try:
                case = self._engine.case(name, now)
                found.append(view.summary(case, self._records.touched(name)))
            except Refusal as e:
                found.append(view.broken(name, e))
        return found

    def open(self) -> list[str]:
        """Ids of open rollouts, oldest first, but for those that do not verify."""
        return [log.view.rollout for log in open_logs(self._records, skip_broken=True)]

    def history(self, rollout: str) -> list[dict[str, Any]]:
        """The journal of one rollout; ``Refusal("journal-broken")`` names the bad row."""
        Log.open(self._records, rollout)
        return view.history(self._records.load(rollout))

    def open_devices(self, component: str) -> Mapping[str, frozenset[str]]:
        """Open rollout -> its devices, for planning one rollout per device and component."""
        return self._opening.open_devices(component)

    def require_order(self, receipt: Receipt) -> None:
        """``Refusal("receipt-order")`` unless the receipt's order was given to its device."""
        found = Log.open_or_new(self._records, receipt.rollout).view.orders.get(receipt.order)
        if found is None or receipt.device not in found.devices:
            raise Refusal(
                "receipt-order",
                f"receipt of {receipt.device!r}: it was never given order {receipt.order!r:.80}",
                subject=receipt.device,
            )

    def in_use(self, path: str) -> list[str]:
        """Why a release must not be yanked: open rollouts that send it or go back to it."""
        return self.named().get(path, [])

    def named(self) -> dict[str, list[str]]:
        """Target path -> reasons, for everything that open rollouts send out or go back to."""
        found: dict[str, list[str]] = {}
        for log in open_logs(self._records):
            plan, rollout = self._engine.authority.plan(log.view), log.view.rollout
            for target in plan.sends:
                found.setdefault(target.path, []).append(f"open rollout {rollout} sends it out")
            for origin in plan.origins:
                reason = f"it is the way back of open rollout {rollout}"
                found.setdefault(origin.path, []).append(reason)
        return found

    def _held(self) -> AbstractContextManager[None]:
        return lock.held(self._lock, self._patience)

    # -- inside the lock -------------------------------------------------------------------------
    def _status(self, rollout: str, now: datetime) -> dict[str, Any]:
        return view.describe(self._engine.case(rollout, now), self._records.touched(rollout))

    def _pause(self, rollout: str, now: datetime, *, keep: bool) -> Step:
        return self._stop(rollout, "paused", _paused(keep=keep), now)

    def _abort(self, rollout: str, now: datetime, reason: str) -> Step:
        return self._stop(rollout, "aborted", {"reasons": [reason]}, now)

    def _stop(self, rollout: str, kind: str, body: Mapping[str, Any], now: datetime) -> Step:
        """Record the intent; the step reads what has been reported, then withdraws the rest.

        Repeated after it was killed, an abort goes on.
        """
        log = Log.open(self._records, rollout)
        if not (kind == "aborted" and log.view.state == "ABORTED"):
            log.add(kind, body, now)
        return self._engine.step(rollout, now)

    def _rollback(self, rollout: str, now: datetime, *, partial: bool) -> Step:
        observed = self._engine.observe(now)
        case = self._engine.case(rollout, now)
        _refuse_no_way_back(case)
        way = self._engine.back.way_back(case)
        if not way.complete and not partial:
            names = ", ".join([*way.blocked, *way.unknown][:10])
            raise NeedsHuman(
                f"{len(way.blocked)} devices are blocked and {len(way.unknown)} unknown: {names}",
                code="partial",
                subject=rollout,
                remedy=f"ota rollout rollback {rollout} --partial",
            )
        step = Step(rollout, case.view.state, problems=observed.problems)
        reasons = ["rollback by an operator"]
        self._engine.back.begin(case, reasons, step, automatic=False, partial=partial)
        step.state = case.view.state
        return step

    def _tried(self, rollout: str, now: datetime) -> Step:
        """One step; a rollout whose journal or plan does not verify stops no other one."""
        try:
            return self._engine.step(rollout, now)
        except Refusal as e:
            return Step(rollout, "NEW", refusal=e)

    def _unsettled(self, now: datetime) -> list[str]:
        """Started and open ones, and aborted ones of which an assignment may still stand.

        The others were closed when nothing stood any more.
        """
        found = []
        for name in self._records.rollouts():
            try:
                view = Log.open(self._records, name).view
            except Refusal:
                found.append(name)  # the step says why
                continue
            if view.state == "ABORTED":
                live = any(
                    o.live() and strict.instant(o.not_after) > now for o in view.orders.values()
                )
                if live and self._engine.case(name, now).to_withdraw():
                    found.append(name)
            elif view.state in OPEN and view.state not in {"DRAFT", "APPROVED"}:
                found.append(name)
        return found


def _paused(*, keep: bool) -> dict[str, Any]:
    return {"keep": keep, "reasons": ["paused"]}


def _refuse_no_way_back(case: Case) -> None:
    """``Misuse`` for a state, or a plan, from which nothing is taken back."""
    rollout = case.view.rollout
    case.view.check("rolling-back")
    if case.plan.playbook is not None:
        raise Misuse(
            f"{case.plan.playbook.target.short} was run; running it has no way back",
            code="no-way-back",
            subject=rollout,
            remedy=f"ota rollout abort {rollout} --leave, or run another playbook",
        )


def _runs(log: Log) -> bool:
    return log.view.state == "RUNNING"
