"""Building signed reports and getting them out: durable first, the same bytes until taken.

A report tells what is installed, what happened and what was refused (``signing/report.py``). It
is queued in the same transaction as the change that it tells of, so a crash can neither lose it
nor tell of what did not happen.

>>> reporter.outcome(update, "committed")
>>> reporter.flush(feed)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from securesystemslib.signer import Signer

from ota.agent import parts
from ota.agent.parts import Component
from ota.agent.runs.journal import Run
from ota.agent.state import State, Update
from ota.agent.verdict import WantedRun
from ota.ports_device import Feed
from signing import statement, strict
from signing.assignment import Assignment
from signing.errors import OtaError, Outage, Refusal, Stale
from signing.playbooks.run import Assigned, PlaybookRun
from signing.report import Event, Outcome, Report, StepState, UpdateState, Versions

_DETAIL = 400
NOT_ASSIGNED = "not-assigned"
"""Code of the answer to a hint whose order the director does not assign to this device."""
_PHASE: dict[str, str] = {"committed": "DONE", "reverted": "ROLLED_BACK", "failed": "FAILED"}
_WEIGHT: dict[Event, int] = {"outcome": 2, "refusal": 1}


@dataclass
class Reporter:
    """``versions`` are the trusted ones of director and image repository; ``now`` the used time.

    ``asked`` are orders that hints named and that no report has spoken of since.
    """

    device: str
    signer: Signer
    state: State
    components: Mapping[str, Component]
    versions: Callable[[], tuple[Versions, Versions]]
    now: Callable[[], datetime]
    hint: str = field(default="")
    asked: dict[str, None] = field(default_factory=dict)

    # -- what happened -------------------------------------------------------------------------
    def inventory(self) -> None:
        """Tell what is installed, if that is news."""
        components = parts.inventory(self.components, self.state)
        digest = strict.digest(msgspec.json.encode(components, order="deterministic"))
        with self.state.transaction():
            if self.state.tell_once("inventory", digest):
                self._queue("inventory")

    def progress(self, update: Update, code: str = "", detail: str = "") -> None:
        """Tell of a phase, or of what keeps an order waiting: each once for an order."""
        topic = f"progress {update.component} {code or update.state}"
        with self.state.transaction():
            if self.state.tell_once(topic, update.assignment.order):
                body = _update_state(update, "in_progress")
                self._queue("progress", update=body, code=code, detail=detail)

    def outcome(self, update: Update, outcome: Outcome, health: str = "") -> None:
        """Tell how an order ended."""
        event: Event = "refusal" if outcome == "refused" else "outcome"
        self._queue(
            event,
            update=_update_state(update, outcome),
            code=update.code,
            detail=update.detail,
            health=health,
        )

    def again(self, assignment: Assignment, targets_version: int, outcome: Outcome) -> None:
        """Tell once more how an assignment stands, because a hint asked.

        What it said when it ended was told before, and may have been lost on its way.
        """
        said = self.state.ended(assignment.component)
        if said and (said.order != assignment.order or said.outcome == "committed" != outcome):
            said = None  # of another order, or not true any more
        body = _not_started(assignment, targets_version, said.outcome if said else outcome)
        phase = said.phase if said else _PHASE.get(outcome, body.phase)
        event: Event = "progress" if body.outcome == "in_progress" else "outcome"
        self._queue(
            event,
            update=msgspec.structs.replace(body, phase=phase),
            code=said.code if said else "",
            hint=assignment.order,
        )

    def still(self, update: Update) -> None:
        """Tell once more how far an update is, because a hint asked."""
        body = _update_state(update, "in_progress")
        order = update.assignment.order
        self._queue("progress", update=body, code=update.code, detail=update.detail, hint=order)

    def not_assigned(self, order: str) -> None:
        """Tell that a hint named an order that the director does not assign to this device."""
        self._queue("inventory", code=NOT_ASSIGNED, hint=order)

    def refused(self, update: Update) -> None:
        """Tell why an update was refused: once for each reason, and whenever a hint asked."""
        what = f"{update.assignment.order} {update.code} {update.targets_version} {update.detail}"
        news = self.state.tell_once(f"refused {update.component}", what)
        if news or self.hint:
            self.outcome(update, "refused")

    def held(self, assignment: Assigned, error: OtaError, targets_version: int) -> None:
        """Tell, once, why an assignment is not followed."""
        with self.state.transaction():
            what = f"{assignment.order} {error.code} {targets_version}"
            news = self.state.tell_once(f"held {assignment.component}", what)
            if news or (isinstance(error, Refusal) and self.hint):
                event, outcome = _kind(error)
                body = _not_started(assignment, targets_version, outcome)
                self._queue(event, update=body, code=error.code, detail=str(error))

    def denied(self, assignment: Assignment, targets_version: int) -> None:
        """Tell that a release is not tried again here because it failed here (rule 8)."""
        body = _not_started(assignment, targets_version, "failed")
        self._queue("outcome", update=body, code="denied", detail="it failed here before")

    def run(self, run: Run, outcome: Outcome) -> None:
        """Tell of a playbook: each of its steps so far, and how it stands."""
        event: Event = "progress" if outcome == "in_progress" else "outcome"
        started = _not_started(run.assignment, run.targets_version, outcome)
        body = msgspec.structs.replace(started, phase=run.state)
        self._queue(event, update=body, code=run.code, detail=run.detail, steps=run.steps)

    def run_again(self, assignment: PlaybookRun, targets_version: int) -> None:
        """Tell once more how a playbook stands or ended, because a hint asked."""
        body = _not_started(assignment, targets_version, "in_progress")
        code: str = ""
        steps: tuple[StepState, ...] = ()
        open_run, ended = self.state.runs.open(), self.state.runs.ended(assignment.order)
        if open_run is not None and open_run.order == assignment.order:
            body = msgspec.structs.replace(body, phase=open_run.state)
            code, steps = open_run.code, open_run.steps
        elif ended is not None:
            phase = "DONE" if ended.outcome == "committed" else "FAILED"
            body = msgspec.structs.replace(body, phase=phase, outcome=ended.outcome)
            code, steps = ended.code, ended.steps
        event: Event = "progress" if body.outcome == "in_progress" else "outcome"
        self._queue(event, update=body, code=code, steps=steps, hint=assignment.order)

    def not_run(self, wanted: WantedRun, outcome: Outcome, code: str, detail: str) -> None:
        """Tell, once for each reason and whenever a hint asked, why a playbook is not run."""
        what = f"{wanted.assignment.order} {code} {wanted.targets_version} {detail}"
        with self.state.transaction():
            if self.state.tell_once("playbook", what) or (outcome == "refused" and self.hint):
                event: Event = "refusal" if outcome == "refused" else "progress"
                body = _not_started(wanted.assignment, wanted.targets_version, outcome)
                self._queue(event, update=body, code=code, detail=detail)

    def refused_hint(self, error: Refusal) -> None:
        """Tell, each time, of a hint that was not for this device or was no hint."""
        with self.state.transaction():
            self._queue("refusal", code=error.code, detail=str(error))

    def trouble(self, error: OtaError, update: Update | None = None) -> None:
        """Tell, once until it changes, why a cycle came to nothing.

        A refusal is news whenever a hint asked for the look.
        """
        with self.state.transaction():
            what = f"{error} {self._versions()[0].targets}" if isinstance(error, Refusal) else ""
            if what:
                self.asked.pop(self.hint, None)
            news = self.state.tell_once("cycle", f"{error.code} {what}".rstrip())
            if not news and not (isinstance(error, Refusal) and self.hint):
                return
            event, outcome = _kind(error)
            body = None if update is None else _update_state(update, outcome)
            self._queue(event, update=body, code=error.code, detail=str(error))

    def well(self) -> None:
        """The cycle worked: that is news after trouble, and so is the next trouble."""
        if self.state.get("cycle_code"):
            with self.state.transaction():
                self.state.put("cycle_code", "")
                self.state.forget("cycle")
                self.state.forget("inventory")

    # -- signing and sending -------------------------------------------------------------------
    def _queue(
        self,
        event: Event,
        *,
        update: UpdateState | None = None,
        code: str = "",
        detail: str = "",
        health: str = "",
        hint: str = "",
        steps: tuple[StepState, ...] = (),
    ) -> None:
        if update is not None:
            self.asked.pop(update.order, None)
        components = parts.inventory(self.components, self.state)
        director, image = self._versions()
        state_id = self.state.get("state_id")

        def make(counter: int) -> bytes:
            body = Report(
                schema=1,
                device=self.device,
                state_id=state_id,
                counter=counter,
                event=event,
                time=strict.stamp(self.now()),
                components=components,
                director=director,
                image=image,
                update=update,
                code=code,
                detail=_printable(detail),
                health=_printable(health),
                hint=hint or self.hint,
                steps=steps,
            )
            return statement.sign("report", msgspec.to_builtins(body), self.signer)

        self.state.queue(make, _WEIGHT.get(event, 0))

    def _versions(self) -> tuple[Versions, Versions]:
        """Zeros where the trust folder can not be read: a way back is reported all the same."""
        try:
            return self.versions()
        except OtaError:
            return Versions(), Versions()

    def flush(self, feed: Feed) -> bool:
        """Hand over what waits, oldest first; False at the first outage, which says nothing."""
        for counter, envelope in self.state.outbox():
            try:
                feed.send(counter, envelope)
            except Outage:
                return False
            self.state.sent(counter)
        return True


def _kind(error: OtaError) -> tuple[Event, Outcome]:
    if isinstance(error, Refusal):
        return "refusal", "refused"
    if isinstance(error, Stale):
        return "stale", "stale"
    return "outage", "in_progress"


def _not_started(assignment: Assigned, targets_version: int, outcome: Outcome) -> UpdateState:
    return UpdateState(
        order=assignment.order,
        rollout=assignment.rollout,
        wave=assignment.wave,
        component=assignment.component,
        kind=assignment.kind,
        path=assignment.path,
        sha256=assignment.sha256,
        targets_version=targets_version,
        phase="IDLE",
        outcome=outcome,
    )


def _update_state(update: Update, outcome: Outcome) -> UpdateState:
    started = _not_started(update.assignment, update.targets_version, outcome)
    return msgspec.structs.replace(started, phase=update.state)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:_DETAIL]
