"""What the device remembers: floors, denials, slots, the running update, reports to be sent.

Everything the agent decides by and everything it owes to the operator is here, durable before
it is acted on. Method names say what they record; :meth:`State.transaction` makes several one.

>>> with state.transaction():
...     state.move("app", "committed")
...     state.queue(envelope)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import msgspec

from ota.agent import states
from ota.agent.damage import damaged
from ota.agent.database import Database
from ota.agent.facts import Facts
from ota.agent.runs.journal import RunJournal
from ota.agent.verdict import Wanted
from signing.assignment import Assignment
from signing.errors import Malformed
from signing.release import Release
from signing.report import Outcome

OUTBOX_LIMIT = 500
"""Reports kept while the operator can not be reached; outcomes are kept longest."""


@dataclass(frozen=True)
class Update:
    """One running update. ``since`` is monotonic seconds of boot ``boot_id``."""

    component: str
    state: states.State
    assignment: Assignment
    release: Release
    targets_version: int
    attempts: int
    code: str
    detail: str
    boot_id: str
    since: float
    kept: bool

    @property
    def wanted(self) -> Wanted:
        """As the trust room gave it."""
        return Wanted(self.assignment, self.release, self.targets_version)


@dataclass(frozen=True)
class Ended:
    """How the last order of a component ended here."""

    order: str
    outcome: Outcome
    phase: str
    code: str


class State(Facts):
    """See the module. ``database`` is the agent's own."""

    @classmethod
    def open(cls, folder: Path, *, create: bool = False, read_only: bool = False) -> State:
        """Open ``<folder>/state.db``; ``NotFound`` before provisioning."""
        return cls(Database(folder / "state.db", create=create, read_only=read_only))

    @cached_property
    def runs(self) -> RunJournal:
        """Runs of playbooks."""
        return RunJournal(self._db)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Several records as one."""
        with self._db.transaction():
            yield

    def damage(self) -> str:
        """What is wrong with the file, "" for nothing."""
        return self._db.damage()

    # -- the running update ---------------------------------------------------------------------------
    def updates(self) -> list[Update]:
        """Running updates, by component."""
        rows = self._db.execute("SELECT * FROM updates ORDER BY component")
        return [_update(row) for row in rows]

    def update(self, component: str) -> Update | None:
        """The running update of one component."""
        rows = self._db.execute("SELECT * FROM updates WHERE component = ?", component)
        return _update(rows[0]) if rows else None

    def begin(self, wanted: Wanted) -> Update:
        """Start an update: IDLE -> REFRESHED."""
        state = states.after("IDLE", "wanted")
        component = wanted.assignment.component
        self._db.execute(
            "INSERT INTO updates VALUES (?, ?, ?, ?, ?, 0, '', '', '', 0.0, 0)",
            component,
            state,
            msgspec.json.encode(wanted.assignment),
            msgspec.json.encode(wanted.release),
            wanted.targets_version,
        )
        return cast("Update", self.update(component))

    def move(self, update: Update, event: states.Event, **changes: Any) -> Update:
        """Take one step of the table; ``changes`` may set attempts, code, detail, boot_id, since, kept.

        Raises ``IllegalMove`` and changes nothing when the table has no such step.
        """
        state = states.after(update.state, event)
        return self._set(update, state, changes)

    def note(self, update: Update, **changes: Any) -> Update:
        """Record something about the current step without leaving it."""
        return self._set(update, update.state, changes)

    def _set(self, update: Update, state: states.State, changes: Mapping[str, Any]) -> Update:
        new = replace(update, state=state, **changes)
        self._db.execute(
            "UPDATE updates SET state = ?, attempts = ?, code = ?, detail = ?, boot_id = ?, "
            "since = ?, kept = ? WHERE component = ?",
            new.state,
            new.attempts,
            new.code,
            new.detail,
            new.boot_id,
            new.since,
            int(new.kept),
            new.component,
        )
        return new

    def end(self, component: str) -> None:
        """Back to IDLE."""
        self._db.execute("DELETE FROM updates WHERE component = ?", component)

    # -- orders --------------------------------------------------------------------------------------
    def count_attempt(self, assignment: Assignment) -> int:
        """One more failed try of this order; returns how many there were."""
        rows = self._db.execute(
            "INSERT INTO attempts VALUES (?, ?, 1) ON CONFLICT (order_id, component) "
            "DO UPDATE SET count = count + 1 RETURNING count",
            assignment.order,
            assignment.component,
        )
        return int(rows[0][0])

    def attempts(self, assignment: Assignment) -> int:
        """How many tries of this order failed."""
        rows = self._db.execute(
            "SELECT count FROM attempts WHERE order_id = ? AND component = ?",
            assignment.order,
            assignment.component,
        )
        return int(rows[0][0]) if rows else 0

    def close_order(self, assignment: Assignment, code: str) -> None:
        """Never try an order again here; a new order is tried."""
        self._db.execute(
            "INSERT OR REPLACE INTO closed VALUES (?, ?, ?)",
            assignment.order,
            assignment.component,
            code,
        )

    def is_closed(self, assignment: Assignment) -> bool:
        """Whether this order ended here."""
        return bool(
            self._db.execute(
                "SELECT 1 FROM closed WHERE order_id = ? AND component = ?",
                assignment.order,
                assignment.component,
            )
        )

    def remember_ending(self, component: str, ended: Ended) -> None:
        """Keep how the last order of a component ended, for hints that ask again."""
        self.put(f"ended {component}", msgspec.json.encode(ended).decode())

    def ended(self, component: str) -> Ended | None:
        """How the last order of a component ended."""
        text = self.get(f"ended {component}")
        return msgspec.json.decode(text, type=Ended) if text else None

    def forget_orders(self, keep: set[str]) -> None:
        """Forget orders that the director no longer names."""
        for table in ("closed", "attempts"):
            for (order,) in self._db.execute(f"SELECT DISTINCT order_id FROM {table}"):  # noqa: S608 - two constant names
                if order not in keep:
                    self._db.execute(f"DELETE FROM {table} WHERE order_id = ?", order)  # noqa: S608 - the same

    # -- reports -------------------------------------------------------------------------------------
    def tell_once(self, topic: str, what: str) -> bool:
        """Whether ``what`` is news about ``topic``; remembers it."""
        rows = self._db.execute("SELECT what FROM told WHERE topic = ?", topic)
        if rows and rows[0][0] == what:
            return False
        self._db.execute("INSERT OR REPLACE INTO told VALUES (?, ?)", topic, what)
        return True

    def forget(self, topic: str) -> None:
        """Whatever is told about ``topic`` next is news."""
        self._db.execute("DELETE FROM told WHERE topic = ?", topic)

    def queue(self, make: Callable[[int], bytes], weight: int = 0) -> int:
        """Give the next counter to ``make`` and keep its exact bytes, in one transaction.

        So a counter is never signed over two payloads (rule 13): what is sent, and sent again,
        are these bytes. Past :data:`OUTBOX_LIMIT` the oldest of the lightest is dropped.
        """
        with self._db.transaction():
            counter = int(self.get("counter", "0")) + 1
            self.put("counter", str(counter))
            self._db.execute("INSERT INTO outbox VALUES (?, ?, ?)", counter, weight, make(counter))
            self._db.execute(
                "DELETE FROM outbox WHERE counter IN (SELECT counter FROM outbox "
                "ORDER BY weight DESC, counter DESC LIMIT -1 OFFSET ?)",
                OUTBOX_LIMIT,
            )
        return counter

    def outbox(self) -> list[tuple[int, bytes]]:
        """Reports that were not handed over yet, oldest first."""
        return self._db.execute("SELECT counter, envelope FROM outbox ORDER BY counter")

    def waits(self) -> bool:
        """Whether there are any."""
        return bool(self._db.execute("SELECT 1 FROM outbox LIMIT 1"))

    def sent(self, counter: int) -> None:
        """Forget a report that was handed over."""
        self._db.execute("DELETE FROM outbox WHERE counter = ?", counter)


def _update(row: tuple[Any, ...]) -> Update:
    component, state, assignment, release, version, attempts, code, detail, boot_id, since, kept = (
        row
    )
    try:
        return Update(
            component,
            state,
            msgspec.json.decode(assignment, type=Assignment),
            msgspec.json.decode(release, type=Release),
            version,
            attempts,
            code,
            detail,
            boot_id,
            since,
            bool(kept),
        )
    except (msgspec.MsgspecError, Malformed) as e:
        raise damaged(component, f"the journal's update of {component} is damaged: {e}") from e
