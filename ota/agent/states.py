"""The agent's state machine for one update, as a table. Illegal moves raise and change nothing.

Intent is stored before each side effect and the result after it, so every state says what may
have happened, not what was hoped. ``restart`` takes an update that was interrupted before its
slot became active back to the start: download, verification and staging are redone, cheaply,
and what was verified before the interruption is verified again. From ACTIVATING on there is no
way back to the start: the medium is asked what is there, and the step is redone or taken back.
"""

from __future__ import annotations

from typing import Final, Literal

from ota.agent import moves

State = Literal[
    "IDLE",
    "REFRESHED",
    "DOWNLOADING",
    "VERIFIED",
    "STAGING",
    "STAGED",
    "ACTIVATING",
    "PENDING_REBOOT",
    "TRIAL",
    "COMMITTING",
    "DONE",
    "FAILED",
    "ROLLING_BACK",
    "ROLLED_BACK",
    "NEEDS_HUMAN",
]
Event = Literal[
    "wanted",
    "download",
    "kept",
    "verified",
    "stage",
    "staged",
    "activate",
    "reboot",
    "active",
    "healthy",
    "committed",
    "fail",
    "revert",
    "back",
    "stuck",
    "restart",
]

BEFORE: Final[tuple[State, ...]] = ("REFRESHED", "DOWNLOADING", "VERIFIED", "STAGING", "STAGED")
"""Nothing that runs has changed yet."""
AFTER: Final[tuple[State, ...]] = (
    "ACTIVATING",
    "PENDING_REBOOT",
    "TRIAL",
    "COMMITTING",
    "ROLLING_BACK",
)
"""The running slot may have changed: finished or taken back before anything else."""
ENDED: Final[tuple[State, ...]] = ("DONE", "FAILED", "ROLLED_BACK", "NEEDS_HUMAN")

TABLE: Final[dict[tuple[State, Event], State]] = {
    ("IDLE", "wanted"): "REFRESHED",
    ("REFRESHED", "download"): "DOWNLOADING",
    ("REFRESHED", "kept"): "STAGED",
    ("DOWNLOADING", "verified"): "VERIFIED",
    ("VERIFIED", "stage"): "STAGING",
    ("STAGING", "staged"): "STAGED",
    ("STAGED", "activate"): "ACTIVATING",
    ("ACTIVATING", "reboot"): "PENDING_REBOOT",
    ("ACTIVATING", "active"): "TRIAL",
    ("PENDING_REBOOT", "active"): "TRIAL",
    ("TRIAL", "healthy"): "COMMITTING",
    ("COMMITTING", "committed"): "DONE",
    ("ACTIVATING", "revert"): "ROLLING_BACK",
    ("PENDING_REBOOT", "revert"): "ROLLING_BACK",
    ("TRIAL", "revert"): "ROLLING_BACK",
    ("COMMITTING", "revert"): "ROLLING_BACK",
    ("COMMITTING", "stuck"): "NEEDS_HUMAN",
    ("ROLLING_BACK", "back"): "ROLLED_BACK",
    ("ROLLING_BACK", "stuck"): "NEEDS_HUMAN",
    **{(state, "fail"): "FAILED" for state in BEFORE},
    **{(state, "restart"): "REFRESHED" for state in BEFORE},
}


def after(state: State, event: Event) -> State:
    """The state that follows; ``IllegalMove`` when the table has none."""
    return moves.after(TABLE, state, event)


def diagram() -> str:
    """The table as a Mermaid state diagram, for the README."""
    return moves.diagram(TABLE, ENDED, hidden=("restart",))
