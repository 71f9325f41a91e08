"""Running a verified playbook, so that a crash or a reboot anywhere is gone on from.

The procedure, under the numbers in the code; each step is stored before it is taken:

1. Fetch the text and let the trust room verify it: order, hash, platform, every value. A refusal
   changes nothing and leaves the order open, so that nobody who tampers can use it up.
2. Ask the interlock, then the director once more; ACCEPTED -> RUNNING.
3. Step by step: note that it begins, take it, note its result. A failure that stops goes to 4.
   ``reboot`` ends the cycle; the next boot goes on. What is cut short :data:`TRIES` times failed.
4. LAST: the ``finally`` step, however the others ended.
5. DONE or FAILED: the outcome is reported, signed, with the result of each step, and the order is
   never followed again.

A step that was cut short is taken again, guards first: it must lead to the same state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from ota.agent.endings import DETAIL, Result
from ota.agent.machine import Machine
from ota.agent.report import Reporter
from ota.agent.runs.failing import StepFailed
from ota.agent.runs.journal import Ended, Run
from ota.agent.runs.steps import ALL_OUTPUT, Steps, failed
from ota.agent.runs.updating import Updating
from ota.agent.runs.wiping import Wiping
from ota.agent.state import State
from ota.agent.trust import TrustRoom, VerifiedPlaybook
from ota.agent.verdict import Known, WantedRun
from signing.errors import OtaError, Outage, Refusal, Stale
from signing.layout import PLAYBOOKS
from signing.playbooks.run import PlaybookRun
from signing.playbooks.steps import Step, Update, Wipe
from signing.report import StepState

TRIES: Final = 3
"""Starts of one step that were cut short."""
_QUIET: Final = 15.0
"""Seconds of work that are not worth a report of their own."""
WIPED: Final = "wiped"
"""Code of the last result that an agent ever has."""
NO_MORE: Final = 1000
"""Number of the step at hand when none follows: a failure stopped the run."""


@dataclass
class Runner:
    """Built by ``ota/agent/build.py``; ``fetch`` gets the text of a target from the store.

    ``allowed``: whether the device's owner lets playbooks run at all.
    """

    state: State
    trust: TrustRoom
    reporter: Reporter
    machine: Machine
    steps: Steps
    updating: Updating
    wiping: Wiping
    fetch: Callable[[WantedRun], bytes]
    known: Callable[[], Known]
    clock: Callable[[], datetime]
    flush: Callable[[], object]
    stopping: Callable[[], bool] = bool
    allowed: bool = True

    def __post_init__(self) -> None:
        self._told = self.machine.monotonic()

    # -- beginning -------------------------------------------------------------------------------
    def start(self, wanted: WantedRun) -> Result:
        """Verify and run; every trouble becomes a Result."""
        # (1)
        try:
            if not self.allowed:
                return self._never(wanted, "playbooks-off", "agent.toml says playbooks = false")
            text = self.fetch(wanted)
            verified = self.trust.playbook(wanted, text, self.steps.platform)
            # (2)
            why = self.machine.may_install()
            if why:
                return self._later(wanted, "interlock", why)
            if not self.trust.still_assigned(wanted, self.known(), self.clock()):
                return self._later(wanted, "withdrawn", "the director withdrew it")
        except Refusal as e:
            self.reporter.not_run(wanted, "refused", e.code, str(e))
            return _result(wanted.assignment, "refused", e.code, str(e))
        except (Outage, Stale) as e:
            return self._later(wanted, e.code, str(e))
        with self.state.transaction():
            run = self.state.runs.begin(wanted, text)
            run = self.state.runs.move(run, "start")
            self.reporter.run(run, "in_progress")
        self.flush()
        return self._go_on(run, verified)

    def _never(self, wanted: WantedRun, code: str, detail: str) -> Result:
        """The owner's word: this order ends here."""
        run = Run("FAILED", wanted.assignment, wanted.target, wanted.targets_version, b"",
                  0, 0, "", 0.0, code, detail, ())  # fmt: skip
        with self.state.transaction():
            self.reporter.run(run, "failed")
            self.state.runs.end(wanted.assignment, Ended("failed", code))
        return _result(wanted.assignment, "failed", code, detail)

    def _later(self, wanted: WantedRun, code: str, detail: str) -> Result:
        self.reporter.not_run(wanted, "in_progress", code, detail)
        return _result(wanted.assignment, "", code, detail)

    def resume(self) -> Result | None:
        """Go on with the run that has not ended, without the network; None when there is none."""
        run = self.state.runs.open()
        if run is None:
            return None
        try:
            verified = self.trust.playbook(run.wanted, run.text, self.steps.platform)
        except Refusal as e:  # another version of this agent reads it otherwise, or the disk lies
            run = self.state.runs.note(run, code=e.code, detail=str(e)[:DETAIL])
            return self._end(run)
        return self._go_on(run, verified)

    # -- (3) ---------------------------------------------------------------------------------------
    def _go_on(self, run: Run, verified: VerifiedPlaybook) -> Result:
        steps = verified.playbook.steps
        if run.state == "WIPING":
            return self._wipe(run)
        while run.state in {"RUNNING", "PENDING_REBOOT"} and run.step < len(steps):
            if self.stopping():
                return _result(run.assignment, "", "stopping", "it goes on from here")
            run, goes_on = self._step(run, steps[run.step], verified)
            if not goes_on:
                self.flush()
                return self._waiting(run)
        if run.state == "WIPING":
            return self._wipe(run)
        return self._last(run, verified)

    def _step(self, run: Run, step: Step, verified: VerifiedPlaybook) -> tuple[Run, bool]:
        """One step; False where the run waits for a reboot."""
        if run.state == "PENDING_REBOOT":
            return self._booted(run, step)
        boot = self.machine.boot_id()
        begun = run.tries == 0 or run.boot_id != boot
        since = self.machine.monotonic() if begun else run.since
        run = self.state.runs.note(run, tries=run.tries + 1, boot_id=boot, since=since)
        if run.tries > TRIES:
            return self._noted(run, step, _cut_short(step)), True
        if step.kind == "reboot":
            return self._reboot(run)
        if isinstance(step.action, Update):
            return self._update(run, step, step.action)
        if isinstance(step.action, Wipe):
            return self._begin_wiping(run, step, step.action)
        return self._noted(run, step, self._take(run, step, verified)), True

    def _take(self, run: Run, step: Step, verified: VerifiedPlaybook) -> StepState:
        types = {name: p.type for name, p in verified.playbook.parameters.items()}
        room = ALL_OUTPUT - sum(len(done.output) for done in run.steps)
        return self.steps.take(step, run.assignment.parameters, types, room)

    def _noted(self, run: Run, step: Step, done: StepState) -> Run:
        """Store a result, and what follows from it; the first failure that counts is the run's."""
        counts = done.outcome == "failed" and step.on_failure != "ignore"
        stops = counts and step.on_failure == "stop"
        changes: dict[str, Any] = {"steps": (*run.steps, done), "tries": 0}
        changes["step"] = NO_MORE if stops else run.step + 1
        if counts and not run.failed:
            detail = f"step {step.name}: {done.detail}"[:DETAIL]
            changes |= {"code": done.code or "failed", "detail": detail}
        with self.state.transaction():
            run = self.state.runs.note(run, **changes)
            if self.machine.monotonic() - self._told >= _QUIET:
                self.reporter.run(run, "in_progress")
                self._told = self.machine.monotonic()
        self.flush()
        return run

    # -- reboots, updates, the end of the device ---------------------------------------------------
    def _reboot(self, run: Run) -> tuple[Run, bool]:
        with self.state.transaction():
            run = self.state.runs.move(run, "reboot", tries=0)
            self.reporter.run(run, "in_progress")
        return run, False

    def _booted(self, run: Run, step: Step) -> tuple[Run, bool]:
        if self.machine.boot_id() != run.boot_id:
            run = self.state.runs.move(run, "booted")
            return self._noted(run, step, StepState(name=step.name, outcome="done")), True
        if self.machine.monotonic() - run.since <= step.timeout:
            return run, False
        run = self.state.runs.move(run, "booted")
        late = StepFailed("nobody rebooted this device in time", code="timeout")
        return self._noted(run, step, failed(step, late)), True

    def _waiting(self, run: Run) -> Result:
        if run.state == "PENDING_REBOOT":
            self.machine.reboot()
        return _result(run.assignment, "", run.code or "pending-reboot", "waiting for a reboot")

    def _update(self, run: Run, step: Step, action: Update) -> tuple[Run, bool]:
        try:
            skip = self.steps.guarded(step, run.assignment.parameters)
            if skip:
                done = StepState(name=step.name, outcome="skipped", code=skip)
            else:
                values = run.assignment.parameters
                outcome = self.updating.bring(action, values, step.timeout, self.stopping)
                if outcome == "waiting":
                    return self.state.runs.note(run, tries=0), False
                code = "already-so" if outcome == "skipped" else ""
                done = StepState(name=step.name, outcome=outcome, code=code)
        except OtaError as e:
            done = failed(step, e)
        return self._noted(run, step, done), True

    def _begin_wiping(self, run: Run, step: Step, action: Wipe) -> tuple[Run, bool]:
        try:
            if run.failed:
                raise StepFailed("a step before it failed; nothing is wiped", code="not-wiped")
            skip = self.steps.guarded(step, run.assignment.parameters)
            if skip:
                done = StepState(name=step.name, outcome="skipped", code=skip)
                return self._noted(run, step, done), True
            self.wiping.receipt(run, action)
        except OtaError as e:
            return self._noted(run, step, failed(step, e)), True
        done = StepState(name=step.name, outcome="done")
        with self.state.transaction():
            run = self.state.runs.move(run, "wipe", steps=(*run.steps, done))
            self.reporter.run(run, "committed")
        return run, True

    def _wipe(self, run: Run) -> Result:
        """Hand over what waits, then destroy; until it is handed over the device stays."""
        self.flush()
        if self.wiping.undelivered():
            return _result(run.assignment, "", "undelivered", "its reports wait; then it is wiped")
        self.wiping.destroy(run)
        return _result(run.assignment, "committed", WIPED, "keys and state are gone")

    # -- (4), (5) ------------------------------------------------------------------------------------
    def _last(self, run: Run, verified: VerifiedPlaybook) -> Result:
        last = verified.playbook.last
        if last is None or (run.steps and run.steps[-1].name == last.name):
            return self._end(run)
        if run.state == "RUNNING":
            run = self.state.runs.move(run, "last", tries=0)
        run = self.state.runs.note(run, tries=run.tries + 1)
        done = _cut_short(last) if run.tries > TRIES else self._take(run, last, verified)
        return self._end(self._noted(run, last, done))

    def _end(self, run: Run) -> Result:
        outcome: Literal["committed", "failed"] = "failed" if run.failed else "committed"
        with self.state.transaction():
            over = replace(run, state="FAILED" if run.failed else "DONE")
            self.reporter.run(over, outcome)
            self.state.runs.end(run.assignment, Ended(outcome, run.code, run.steps))
        self.flush()
        return _result(run.assignment, outcome, run.code, run.detail)


def _cut_short(step: Step) -> StepState:
    detail = f"it was begun {TRIES} times and never came to an end"
    return StepState(name=step.name, outcome="failed", code="interrupted", detail=detail)


def _result(run: PlaybookRun, outcome: str, code: str = "", detail: str = "") -> Result:
    return Result(PLAYBOOKS, run.order, outcome, code, detail[:DETAIL])
