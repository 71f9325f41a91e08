"""One step: its guards, its action, and what is told of it.

``reboot``, ``update`` and ``wipe`` are the runner's own business and do not come here.

>>> Steps(services, packages, platform).take(step, values, types).outcome
'done'
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ota.agent import command
from ota.agent.runs import files, programs
from ota.agent.runs.failing import Clock, StepFailed
from ota.agent.runs.packages import Packages
from ota.agent.runs.services import Services
from signing import strict
from signing.errors import OtaError
from signing.playbooks import values as playbook_values
from signing.playbooks.steps import Check, Collect, Exec, File, Package, Service, Step
from signing.report import StepState

DETAIL: Final = 200
OUTPUT: Final = 4096
"""Characters of what one ``collect`` printed that go into the report."""
ALL_OUTPUT: Final = 8192
"""Characters of all of them together: the report must fit where couriers are narrow."""


@dataclass(frozen=True)
class Steps:
    """What steps need of this machine; ``platform`` are the words for it."""

    services: Services
    packages: Packages
    platform: Collection[str]

    def take(
        self,
        step: Step,
        values: Mapping[str, str],
        types: Mapping[str, str],
        room: int = OUTPUT,
    ) -> StepState:
        """Do it, within its time limit. Never raises for what programs do.

        ``room``: characters of output that the report still has room for.
        """
        clock = Clock(step.timeout)
        try:
            skip = self._guard(step, values, clock)
            if skip:
                return StepState(name=step.name, outcome="skipped", code=skip)
            if isinstance(step.action, Collect):
                printed = programs.must(_argv(step.action.argv, values), clock)
                return _collected(step.name, printed, min(room, OUTPUT))
            outcome = self._do(step, values, types, clock)
            return StepState(
                name=step.name, outcome=outcome, code="already-so" if outcome == "skipped" else ""
            )
        except StepFailed as e:
            return failed(step, e)

    def guarded(self, step: Step, values: Mapping[str, str]) -> str:
        """Why the step is not needed (``platform``, ``creates``, ``unless``), or ""."""
        return self._guard(step, values, Clock(step.timeout))

    def _guard(self, step: Step, values: Mapping[str, str], clock: Clock) -> str:
        if step.platforms and not set(step.platforms) & set(self.platform):
            return "platform"
        if step.creates and Path(playbook_values.argument(step.creates, values)).exists():
            return "creates"
        if step.unless and programs.ask(_argv(step.unless, values), clock):
            return "unless"
        return ""

    def _do(
        self, step: Step, values: Mapping[str, str], types: Mapping[str, str], clock: Clock
    ) -> Literal["done", "skipped"]:
        action = step.action
        if isinstance(action, Exec):
            programs.must(_argv(action.argv, values), clock)
        elif isinstance(action, File):
            return files.bring(action, values, types, clock)
        elif isinstance(action, Service):
            name = playbook_values.argument(action.name, values)
            return self.services.bring(name, action.state, action.enabled, clock)
        elif isinstance(action, Package):
            name = playbook_values.argument(action.name, values)
            return self.packages.bring(name, action.state, clock)
        elif isinstance(action, Check):
            _until(_argv(action.argv, values), action.interval, clock)
        else:
            raise StepFailed(f"{step.kind} can not stand here", code="misplaced")
        return "done"


def failed(step: Step, error: OtaError) -> StepState:
    """The result of a step that failed; one printable line of why."""
    detail = command.printable(str(error))[:DETAIL]
    return StepState(name=step.name, outcome="failed", code=error.code, detail=detail)


def _argv(argv: Collection[str], values: Mapping[str, str]) -> list[str]:
    return [playbook_values.argument(text, values) for text in argv]


def _until(argv: list[str], interval: float, clock: Clock) -> None:
    """Again and again; the last word of the program is the reason when time is over."""
    why = "it never answered"
    while True:
        try:
            programs.must(argv, clock)
        except StepFailed as e:
            if e.code == "no-program":
                raise
            why = str(e)
        else:
            return
        if clock.ends_within(interval):
            raise StepFailed(why, code="check")
        clock.pause(interval)


def _collected(name: str, data: bytes, room: int) -> StepState:
    text = data.decode("utf-8", "replace")
    shown = "".join(c if (c.isascii() and c.isprintable()) or c in "\n\t" else "?" for c in text)
    return StepState(
        name=name,
        outcome="done",
        output=shown[:room],
        output_sha256=strict.digest(data),
        output_length=len(data),
    )
