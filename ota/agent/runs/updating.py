"""The step ``update``: the agent's own verified cycle, waited for. It can not aim.

What is installed comes from the director, in the same way as at any other time; the step only
says which release it waits for, and fails when that does not come to run in time.

>>> Updating(components, state, one_cycle).bring(Update(component="app", release="app/app-2"), ...)
'done'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ota.agent import parts
from ota.agent.endings import Result
from ota.agent.parts import Component
from ota.agent.runs.failing import Clock, StepFailed
from ota.agent.state import State
from ota.agent.verdict import Cycle, Wanted
from signing.assignment import Assignment
from signing.errors import Outage, Stale
from signing.playbooks import values as playbook_values
from signing.playbooks.steps import Update

_PAUSE: Final = 2.0
_LATER: Final = frozenset({"pending-reboot", "stopping"})


@dataclass
class Updating:
    """``one_cycle(component)`` does one verified cycle for that component only.

    It raises what a cycle raises, and returns None where the director assigns nothing new.
    """

    components: Mapping[str, Component]
    state: State
    one_cycle: Callable[[str], Result | None]

    def bring(
        self,
        action: Update,
        values: Mapping[str, str],
        timeout: float,
        stopping: Callable[[], bool],
    ) -> Literal["done", "skipped", "waiting"]:
        """Until the release runs, committed; ``waiting`` for a reboot. Raises what went wrong."""
        component = playbook_values.argument(action.component, values)
        release = playbook_values.argument(action.release, values)
        if component not in self.components:
            raise StepFailed(f"there is no component {component} here", code="no-component")
        if self._runs(component, release):
            return "skipped"
        clock = Clock(timeout)
        why = f"the director does not assign {release}"
        while True:
            try:
                result = self.one_cycle(component)
            except (Outage, Stale) as e:
                result, why = None, str(e)
            if self._runs(component, release):
                return "done"
            if result is not None and result.outcome not in {"", "committed"}:
                raise StepFailed(f"{component}: {result.detail}", code=result.code)
            if stopping() or (result is not None and result.code in _LATER):
                return "waiting"
            why = result.detail if result is not None else why
            if clock.ends_within(_PAUSE):
                raise StepFailed(why, code="not-updated")
            clock.pause(_PAUSE)

    def _runs(self, component: str, release: str) -> bool:
        """Whether this release is what runs, committed."""
        current = parts.committed({component: self.components[component]})[component]
        image = self.state.image(component, current) if current else None
        return image is not None and image.path == release


def choose(
    cycle: Cycle, component: str, closed: Callable[[Assignment], bool]
) -> Wanted | Result | None:
    """What a verified cycle has for one component: something to apply, a reason why not, nothing.

    Raises the ``OtaError`` for which an assignment is held.
    """
    for held in cycle.held:
        if held.assignment.component == component:
            raise held.error
    for wanted in cycle.wanted:
        if wanted.assignment.component == component:
            if closed(wanted.assignment):
                return _ended(wanted.assignment, "closed", "this order ended here")
            return wanted
    denied = next((a for a in cycle.denied if a.component == component), None)
    return _ended(denied, "denied", "it failed here before") if denied is not None else None


def _ended(assignment: Assignment, code: str, detail: str) -> Result:
    return Result(assignment.component, assignment.order, "failed", code, detail)
