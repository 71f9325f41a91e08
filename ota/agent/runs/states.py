"""The states of one run of a playbook, as a table. Illegal moves raise and change nothing.

ACCEPTED: verified and stored, nothing done. From RUNNING on something may have been done, so a
restart goes on where the journal says. LAST runs the ``finally`` step, however the others ended.
WIPING: the receipt is signed and the outcome reported; what is left is to destroy.
"""

from __future__ import annotations

from typing import Final, Literal

from ota.agent import moves

State = Literal[
    "IDLE", "ACCEPTED", "RUNNING", "PENDING_REBOOT", "LAST", "WIPING", "DONE", "FAILED"
]  # fmt: skip
Event = Literal["accept", "start", "reboot", "booted", "last", "wipe", "done", "fail"]

ENDED: Final[tuple[State, ...]] = ("DONE", "FAILED")

TABLE: Final[dict[tuple[State, Event], State]] = {
    ("IDLE", "accept"): "ACCEPTED",
    ("ACCEPTED", "start"): "RUNNING",
    ("ACCEPTED", "fail"): "FAILED",
    ("RUNNING", "reboot"): "PENDING_REBOOT",
    ("PENDING_REBOOT", "booted"): "RUNNING",
    ("RUNNING", "last"): "LAST",
    ("RUNNING", "wipe"): "WIPING",
    ("RUNNING", "done"): "DONE",
    ("RUNNING", "fail"): "FAILED",
    ("LAST", "done"): "DONE",
    ("LAST", "fail"): "FAILED",
    ("WIPING", "done"): "DONE",
}


def after(state: State, event: Event) -> State:
    """The state that follows; ``IllegalMove`` when the table has none."""
    return moves.after(TABLE, state, event)


def diagram() -> str:
    """The table as a Mermaid state diagram, for the README."""
    return moves.diagram(TABLE, ENDED)
