"""The way forward: ask the gate, record its answer, order the next devices, end with the tail."""

from __future__ import annotations

from collections.abc import Iterable

from ota.errors import NotFound
from ota.ports import Fleet
from ota.rollout import batches, gate
from ota.rollout.backward import Backward
from ota.rollout.case import Case
from ota.rollout.gate import Decision, Reason, Times
from ota.rollout.moving import Mover, Step, unfinished
from signing import strict
from signing.plan import DeviceRow


class Forward:
    """Moves a rollout that is RUNNING."""

    def __init__(self, mover: Mover, back: Backward, fleet: Fleet) -> None:
        self._mover = mover
        self._back = back
        self._fleet = fleet

    def run(self, case: Case, step: Step) -> None:
        """Decide, record, act: steps 3 to 5 of the engine for a rollout that is RUNNING."""
        if case.view.tail_closed:
            self._finish(case, step)
            return
        decision = self._decide(case)  # (3), (4)
        step.decision = decision.kind
        step.reasons = tuple(r.text for r in decision.reasons)
        if decision.kind == "HOLD":
            self._mover.hold(case, step.reasons, step, by_gate=True)
        elif decision.kind == "ROLL_BACK":
            self._back.begin(case, step.reasons, step, automatic=True)
        elif decision.kind == "COMPLETE":
            self._tail(case, step)
        else:
            self._order_next(case, step)  # (5)

    def _decide(self, case: Case) -> Decision:
        """Earlier waves can still stop the rollout; the running one may also move it on."""
        plan, view = case.plan, case.view
        for index in range(view.wave):
            tally = case.outcomes.tally(plan, view, index)
            stop = gate.exceeded(plan.waves[index], tally, plan.on_failure)
            if stop is not None:
                return stop
        while True:
            decision = self._decide_wave(case)
            if decision.kind != "ADVANCE":
                return decision
            reasons = [r.text for r in decision.reasons]
            case.add("advanced", {"wave": view.wave + 1, "reasons": reasons})

    def _decide_wave(self, case: Case) -> Decision:
        plan, view, index = case.plan, case.view, case.view.wave
        if not plan.waves:
            return Decision("COMPLETE", (Reason("passed", "the plan has no waves"),))
        tally = case.outcomes.tally(plan, view, index)
        known = view.settled.get(index)
        if not tally.unsettled and (known is None or known[1] != tally.committed):
            case.add("settled", {"wave": index, "committed": tally.committed})
        begun, settled = view.started.get(index), view.settled.get(index)
        times = Times(case.now, begun and begun[1], settled and settled[0])
        last = index == len(plan.waves) - 1
        return gate.decide(plan.waves[index], tally, times, plan.on_failure, last=last)

    def _order_next(self, case: Case, step: Step) -> None:
        rows = list(case.candidates())
        if not rows and not unfinished(case, "update"):
            return
        leave = self._mover.leave(case, step)
        if leave is None:
            return
        gone = [t.path for t in case.plan.sends if not leave.lists(t)]
        if gone:
            reasons = [f"{path} is no longer listed as the plan froze it" for path in gone]
            self._mover.hold(case, reasons, step)
            return
        if not self._mover.carry_out(case, leave, "update", step):
            return
        rows = self._still_fitting(
            case, batches.choose(case.plan, rows, case.outcomes, case.exposed())
        )
        self._mover.issue(case, leave, "update", rows, step)

    def _still_fitting(self, case: Case, rows: Iterable[DeviceRow]) -> list[DeviceRow]:
        """Leave out, with the reason, devices that differ from the plan (rule 7)."""
        left: dict[str, str] = {}
        fitting = []
        for row in rows:
            try:
                reason = batches.differs(case.plan, row, self._fleet.device(row.device))
            except NotFound:
                reason = "no longer registered"
            if reason:
                left[row.device] = reason
            else:
                fitting.append(row)
        if left:
            case.add("left-out", {"devices": left})
        return fitting

    def _tail(self, case: Case, step: Step) -> None:
        """Stragglers count until ``tail_until``; then they are listed and taken out."""
        late = case.stragglers()
        if late and case.now < strict.instant(case.plan.tail_until):
            step.decision = "WAIT"
            step.reasons = (f"{len(late)} stragglers count until {case.plan.tail_until}",)
            self._order_next(case, step)
            return
        case.add("tail-closed", {"stragglers": late})
        self._finish(case, step)

    def _finish(self, case: Case, step: Step) -> None:
        self._mover.settle(case, step)
        if not case.to_withdraw():
            committed = sum(1 for _ in case.outcomes.of("committed"))
            text = f"{committed} of {len(case.plan.rows)} devices committed"
            case.add("completed", {"reasons": [text]})
            step.decision, step.reasons = "COMPLETE", (text,)
