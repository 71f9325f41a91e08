"""``ota rollout run``: steps until the rollout ends, a wave passes, or a person is needed.

Ends with the status, or with the error whose exit code says why it stopped:

* ``StoppedByGate`` (5)  the gate held it while we watched, or took it back by itself
* ``NeedsHuman`` (6)     paused, held before or for another reason, not started, aborted
* ``StillRunning`` (8)   the time limit came first; nothing is lost, run again
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal

from ota.errors import NeedsHuman, StillRunning, StoppedByGate
from ota.ports import Clock
from ota.rollout.campaign import Campaign
from ota.rollout.engine import Step
from ota.rollout.states import State

Until = Literal["wave", "done"]
Progress = Callable[[Step, dict[str, Any]], None]

_WHY: Final = {"DRAFT": "its approvals are missing", "APPROVED": "it was not started"}
_MOVING: Final = frozenset({"RUNNING", "ROLLING_BACK"})


def run(
    campaign: Campaign,
    rollout: str,
    clock: Clock,
    *,
    until: Until = "done",
    time_limit: float | None = None,
    interval: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Step every ``interval`` seconds; returns the last status. ``time_limit`` in seconds."""
    began = clock()
    before = campaign.status(rollout, began)
    while True:
        step = campaign.step(rollout, clock(), patient=True)
        status = campaign.status(rollout, clock())
        if progress is not None:
            progress(step, status)
        if step.state not in _MOVING:
            return _ended(rollout, step, status, was=before["state"])
        if until == "wave" and status["wave"] > before["wave"]:
            return status
        if time_limit is not None and clock() - began >= timedelta(seconds=time_limit):
            raise StillRunning(
                f"{rollout} is still {step.state} after {time_limit:g} s",
                subject=rollout,
                remedy=f"ota rollout run {rollout}",
            )
        sleep(interval)


def _ended(rollout: str, step: Step, status: dict[str, Any], was: State) -> dict[str, Any]:
    if step.state == "COMPLETED" or (step.state == "ROLLED_BACK" and not status["by_gate"]):
        return status
    why = "; ".join(step.reasons) or _WHY.get(step.state, "no reason given")
    message = f"{rollout} is {step.state}: {why}"
    by_gate = status["by_gate"] and (was in _MOVING or step.state == "ROLLED_BACK")
    error = StoppedByGate if by_gate else NeedsHuman
    raise error(message, subject=rollout, remedy=status["next"])
