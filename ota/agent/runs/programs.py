"""Running the programs of a step: bounded in time and output, never through a shell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ota.agent import command
from ota.agent.command import Ran
from ota.agent.runs.failing import Clock, StepFailed

OUTPUT_LIMIT: Final = 1024 * 1024
PASSED_ON: Final = ("APT_CONFIG", "DPKG_ADMINDIR", "DPKG_ROOT")
"""Variables of package managers that a device's owner may have set for the agent."""


def ask(argv: Sequence[str], clock: Clock) -> bool:
    """Whether a program says yes: exit status 0, within the time that is left."""
    return _run(argv, clock).succeeded


def must(argv: Sequence[str], clock: Clock, *, keep_children: bool = False) -> bytes:
    """What a program that succeeds prints; ``StepFailed`` (``exit``, ``timeout``, ``no-program``)."""
    ran = _run(argv, clock, keep_children=keep_children)
    if not ran.succeeded:
        raise StepFailed(f"{argv[0]}: {ran.why()}", code=_code(ran))
    return ran.out


def _run(argv: Sequence[str], clock: Clock, *, keep_children: bool = False) -> Ran:
    return command.run(
        argv,
        timeout=clock.left(),
        limit=OUTPUT_LIMIT,
        names=PASSED_ON,
        keep_children=keep_children,
        plain=True,
    )


def _code(ran: Ran) -> str:
    if ran.problem.startswith("time limit"):
        return "timeout"
    if ran.problem.startswith("can not start"):
        return "no-program"
    return "output" if ran.problem else "exit"
