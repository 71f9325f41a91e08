"""How an update ends, and how a cycle tells of one that has not ended yet.

The end of an update, its report and what follows from it (denial, floor, closed order) are one
transaction: a crash can neither lose the report nor tell of what did not happen.
"""

from __future__ import annotations

from dataclasses import dataclass

from ota.agent.download import Downloader
from ota.agent.parts import Component
from ota.agent.report import Reporter
from ota.agent.state import Ended, State, Update
from signing.errors import OtaError, Outage
from signing.report import Outcome

DETAIL = 400
"""Most characters of a reason that are kept."""


@dataclass(frozen=True)
class Result:
    """How far one update came: ``outcome`` is "" while it goes on (reboot, interlock, outage)."""

    component: str
    order: str
    outcome: Outcome | str
    code: str = ""
    detail: str = ""


def waiting(update: Update, code: str, detail: str) -> Result:
    """It goes on later."""
    return Result(update.component, update.assignment.order, "", code, detail[:DETAIL])


@dataclass
class Endings:
    """The last step of every update."""

    state: State
    reporter: Reporter
    downloader: Downloader

    def end(self, update: Update, outcome: Outcome, health: str = "") -> Result:
        """Within the transaction of the last move: report, then back to IDLE."""
        self.reporter.outcome(update, outcome, health)
        stuck = update.detail if update.state == "NEEDS_HUMAN" else ""
        self.state.put(f"needs_human {update.component}", stuck)
        self.state.end(update.component)
        order = update.assignment.order
        ended = Ended(order, outcome, update.state, update.code)
        self.state.remember_ending(update.component, ended)
        return Result(update.component, order, outcome, update.code, update.detail)

    def fail(self, update: Update, part: Component | None, code: str, detail: str) -> Result:
        """End an update that has not touched what runs; its order is not tried again."""
        self.clean(update, part)
        with self.state.transaction():
            update = self.state.move(update, "fail", code=code, detail=detail[:DETAIL])
            self.state.close_order(update.assignment, code)
            return self.end(update, "failed")

    def refuse(self, update: Update, part: Component, error: OtaError) -> Result:
        """End an update because of evidence against it; the next honest cycle starts it anew.

        The order stays open, so that nobody who tampers with bytes can use it up.
        """
        self.clean(update, part)
        with self.state.transaction():
            detail = str(error)[:DETAIL]
            update = self.state.move(update, "fail", code=error.code, detail=detail)
            self.reporter.refused(update)
            self.state.end(update.component)
        return Result(update.component, update.assignment.order, "refused", error.code, detail)

    def put_off(self, update: Update) -> Result:
        """Taken back without anybody's fault: the same order is tried again another way."""
        self.state.count_attempt(update.assignment)
        self.reporter.progress(update, update.code, update.detail)
        self.state.end(update.component)
        return waiting(update, update.code, update.detail)

    def clean(self, update: Update, part: Component | None) -> None:
        """Remove what was fetched and staged for it."""
        self.downloader.discard(update.release.sha256)
        if part is None:
            return
        try:
            slots = part.installer.inspect()
            part.installer.cleanup([slots.current, slots.previous])
        except Outage:
            return  # staged leftovers are pruned by the next stage
