"""Which job execution is this device's current one, and what the service is to be told. Pure.

At any time there is at most one current execution: the one that ``start-next`` gave. What comes
in may be late, doubled or out of order; versions decide, never the order of arrival.

1. :meth:`started` takes what ``start-next`` gave: the same execution again (a reconnect, a reboot,
   a second notification) changes nothing but its version; another one, or none, takes its place.
2. :meth:`offer` gives its hint to the agent, once in a process, until :meth:`done`.
3. :meth:`reported` takes what a signed report says, whether its execution is current or not: an
   order may end before its job is heard of.
4. :meth:`due` is what the service should hear next; :meth:`told` and :meth:`gone` are its answer.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from ota.agent import hints
from ota.agent.feeds.iot_messages import OPEN, Execution, ExecutionState, document
from ota.agent.feeds.iot_status import Status
from signing.errors import Malformed

REMEMBERED: Final = 32
"""Orders of which the last word is remembered."""


@dataclass(frozen=True)
class Current:
    """``hint`` is what the agent gets; ``looked``: it has had it; ``said``: already told."""

    execution: Execution
    hint: bytes
    looked: bool = False
    said: Status | None = None

    @property
    def job(self) -> str:
        """Its job's id, which is the order's."""
        return self.execution.job


class Executions:
    """See the module."""

    def __init__(self) -> None:
        self.current: Current | None = None
        self._last: OrderedDict[str, Status] = OrderedDict()

    # -- (1) -----------------------------------------------------------------------------------
    def started(self, execution: Execution | None) -> None:
        """Take over what the service says is this device's execution now."""
        now = self.current
        if execution is None:
            self.current = None
        elif now is None or (now.job, now.execution.number) != (execution.job, execution.number):
            if not self._ended(execution.job):
                self._last.pop(execution.job, None)  # it was said of another try
            self.current = Current(execution, _hint(execution))
        elif execution.version >= now.execution.version:
            self.current = replace(now, execution=execution)

    # -- (2) -----------------------------------------------------------------------------------
    def offer(self) -> Current | None:
        """The execution whose hint the agent has not had yet; none when its end is known."""
        now = self.current
        if now is None or now.looked or self._ended(now.job):
            return None
        return now

    def done(self, job: str) -> None:
        """The agent has looked at the hint of this job."""
        if self.current is not None and self.current.job == job:
            self.current = replace(self.current, looked=True)

    @property
    def unreadable(self) -> str:
        """The current job, where the agent was given a hint that it must refuse; "" otherwise."""
        now = self.current
        if now is None or not now.looked:
            return ""
        try:
            hints.parse(now.hint)
        except Malformed:
            return now.job
        return ""

    # -- (3) -----------------------------------------------------------------------------------
    def reported(self, status: Status) -> None:
        """A signed report was handed over that says this."""
        self._last[status.job] = status
        self._last.move_to_end(status.job)
        while len(self._last) > REMEMBERED:
            self._last.popitem(last=False)

    # -- (4) -----------------------------------------------------------------------------------
    def due(self) -> tuple[Execution, Status] | None:
        """What the service does not know yet of the current execution."""
        now = self.current
        status = None if now is None else self._last.get(now.job)
        if now is None or status is None or status == now.said:
            return None
        return now.execution, status

    def told(self, status: Status, state: ExecutionState | None) -> None:
        """The service took it; an execution that has ended is nobody's any more."""
        now = self.current
        if now is None or now.job != status.job:
            return
        if status.final:
            self.current = None
            return
        version = now.execution.version + 1 if state is None else state.version
        execution = msgspec.structs.replace(now.execution, version=version)
        self.current = replace(now, execution=execution, said=status)

    def stands(self, job: str, state: ExecutionState) -> None:
        """How an execution really stands, after the service has said no to an update."""
        now = self.current
        if now is None or now.job != job:
            return
        if state.status in OPEN:
            execution = msgspec.structs.replace(now.execution, version=state.version)
            self.current = replace(now, execution=execution)
        else:
            self.current = None

    def unsayable(self, status: Status) -> None:
        """The service will not take this; it is not said again."""
        if self.current is not None and self.current.job == status.job:
            self.current = replace(self.current, said=status)

    def gone(self, job: str) -> None:
        """It was deleted or ended elsewhere."""
        if self.current is not None and self.current.job == job:
            self.current = None

    def _ended(self, job: str) -> bool:
        status = self._last.get(job)
        return status is not None and status.lasting


def _hint(execution: Execution) -> bytes:
    """The job document as a hint; empty, which the agent refuses, where it can be none.

    A hint names the order that is its job's id: a document moved to another job is none.
    """
    data = document(execution)
    if len(data) > hints.LIMIT:
        return b""
    try:
        order = hints.parse(data).order
    except Malformed:
        return data
    return data if order == execution.job else b""
