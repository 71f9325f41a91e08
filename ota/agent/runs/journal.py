"""What the device remembers of a run: the order, the signed text, and each step's result.

At most one run is open. Its text is kept, so that a device that comes back from a reboot without
a network goes on by itself; it is verified again, by the signed hash, before it is used. Orders
that ended are remembered until ``not_after``, so that none is done twice.

>>> run = journal.begin(wanted, text)
>>> run = journal.move(run, "start")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, cast

import msgspec

from ota.agent.damage import damaged
from ota.agent.database import RUNS_SINCE, Database
from ota.agent.runs import states
from ota.agent.verdict import WantedRun
from signing import strict
from signing.errors import Malformed
from signing.playbooks.run import PlaybookRun
from signing.playbooks.target import PlaybookTarget
from signing.report import StepState

MOST: Final = 1000
"""Orders that have ended and are remembered, with what their steps told (16 KiB at most)."""


@dataclass(frozen=True)
class Run:
    """The open run. ``step``: number of the step at hand; ``since``: monotonic, of ``boot_id``.

    ``tries`` counts how often the step at hand was begun.
    """

    state: states.State
    assignment: PlaybookRun
    target: PlaybookTarget
    targets_version: int
    text: bytes
    step: int
    tries: int
    boot_id: str
    since: float
    code: str
    detail: str
    steps: tuple[StepState, ...]

    @property
    def order(self) -> str:
        """The order that it follows."""
        return self.assignment.order

    @property
    def wanted(self) -> WantedRun:
        """As the trust room gave it."""
        return WantedRun(self.assignment, self.target, self.targets_version)

    @property
    def failed(self) -> bool:
        """Whether a step has failed that counts."""
        return bool(self.code)


@dataclass(frozen=True)
class Ended:
    """How an order ended here."""

    outcome: Literal["committed", "failed"]
    code: str
    steps: tuple[StepState, ...] = ()


class RunJournal:
    """Tables ``runs`` and ``runs_ended`` of the agent's database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def open(self) -> Run | None:
        """The run that has not ended; none in a database from before there were any."""
        if self._db.version < RUNS_SINCE:
            return None
        rows = self._db.execute("SELECT * FROM runs")
        return _run(rows[0]) if rows else None

    def begin(self, wanted: WantedRun, text: bytes) -> Run:
        """Accept a run: IDLE -> ACCEPTED."""
        state = states.after("IDLE", "accept")
        self._db.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, 0, 0, '', 0.0, '', '', ?)",
            wanted.assignment.order,
            state,
            msgspec.json.encode(wanted.assignment),
            msgspec.json.encode(wanted.target),
            wanted.targets_version,
            text,
            msgspec.json.encode(()),
        )
        return cast("Run", self.open())

    def move(self, run: Run, event: states.Event, **changes: Any) -> Run:
        """Take one step of the table; ``IllegalMove`` changes nothing."""
        return self._set(run, states.after(run.state, event), changes)

    def note(self, run: Run, **changes: Any) -> Run:
        """Record something without leaving the state."""
        return self._set(run, run.state, changes)

    def _set(self, run: Run, state: states.State, changes: Mapping[str, Any]) -> Run:
        new = replace(run, state=state, **changes)
        self._db.execute(
            "UPDATE runs SET state = ?, step = ?, tries = ?, boot_id = ?, since = ?, code = ?, "
            "detail = ?, steps = ? WHERE order_id = ?",
            new.state,
            new.step,
            new.tries,
            new.boot_id,
            new.since,
            new.code,
            new.detail,
            msgspec.json.encode(new.steps),
            new.order,
        )
        return new

    def end(self, assignment: PlaybookRun, how: Ended) -> None:
        """Back to IDLE; the order is not followed again."""
        self._db.execute("DELETE FROM runs WHERE order_id = ?", assignment.order)
        self._db.execute(
            "INSERT OR REPLACE INTO runs_ended VALUES (?, ?, ?, ?, ?, ?)",
            assignment.order,
            assignment.path,
            how.outcome,
            how.code,
            msgspec.json.encode(how.steps),
            assignment.not_after,
        )

    def ended(self, order: str) -> Ended | None:
        """How this order ended here, or None."""
        rows = self._db.execute(
            "SELECT outcome, code, steps FROM runs_ended WHERE order_id = ?", order
        )
        return Ended(rows[0][0], rows[0][1], _steps(rows[0][2])) if rows else None

    def endings(self, path: str) -> dict[str, Ended]:
        """Order -> how it ended, of every run of this playbook that is remembered."""
        if self._db.version < RUNS_SINCE:
            return {}
        rows = self._db.execute(
            "SELECT order_id, outcome, code FROM runs_ended WHERE path = ?", path
        )
        return {order: Ended(outcome, code) for order, outcome, code in rows}

    def finished(self) -> frozenset[str]:
        """Every order that ended here and could still be shown to this device."""
        return frozenset(order for (order,) in self._db.execute("SELECT order_id FROM runs_ended"))

    def forget(self, assigned: str, now: datetime) -> None:
        """Forget orders past their end, but for the one that is ``assigned``.

        Of more than :data:`MOST` those go that end last: a thief of the director's key can order
        without end, until the year 9999, and whatever is forgotten that thief could order anew.
        """
        self._db.execute(
            "DELETE FROM runs_ended WHERE not_after < ? AND order_id != ?",
            strict.stamp(now),
            assigned,
        )
        self._db.execute(
            "DELETE FROM runs_ended WHERE order_id IN (SELECT order_id FROM runs_ended "
            "WHERE order_id != ? ORDER BY not_after, order_id LIMIT -1 OFFSET ?)",
            assigned,
            MOST,
        )


def _steps(data: bytes) -> tuple[StepState, ...]:
    return msgspec.json.decode(data, type=tuple[StepState, ...])


def _run(row: tuple[Any, ...]) -> Run:
    order, state, assignment, target, version, text, *at, code, detail, done = row
    step, tries, boot, since = at
    try:
        return Run(
            state,
            msgspec.json.decode(assignment, type=PlaybookRun),
            msgspec.json.decode(target, type=PlaybookTarget),
            version,
            text,
            step,
            tries,
            boot,
            since,
            code,
            detail,
            _steps(done),
        )
    except (msgspec.MsgspecError, Malformed) as e:
        raise damaged(order, f"the journal's run {order} is damaged: {e}") from e
