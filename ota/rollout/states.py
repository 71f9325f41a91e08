"""The states of a rollout, as one table; everything that changes state goes through it.

An event of the journal whose kind stands in the table moves the rollout; every other kind only
adds facts. An illegal move raises and changes nothing.

    DRAFT -> APPROVED -> RUNNING <-> PAUSED
    RUNNING -> HELD (a human must look) -> RUNNING | ROLLING_BACK
    ROLLING_BACK -> ROLLED_BACK | HELD;  RUNNING -> COMPLETED;  any open state -> ABORTED

>>> move("RUNNING", "paused")
'PAUSED'
"""

from __future__ import annotations

from typing import Final, Literal

from ota.errors import Misuse

State = Literal[
    "NEW",
    "DRAFT",
    "APPROVED",
    "RUNNING",
    "PAUSED",
    "HELD",
    "ROLLING_BACK",
    "ROLLED_BACK",
    "COMPLETED",
    "ABORTED",
]

OPEN: Final[tuple[State, ...]] = (
    "DRAFT",
    "APPROVED",
    "RUNNING",
    "PAUSED",
    "HELD",
    "ROLLING_BACK",
)
"""States from which something may still happen to devices."""
CLOSED: Final[frozenset[State]] = frozenset({"ROLLED_BACK", "COMPLETED", "ABORTED"})

MOVES: Final[dict[tuple[State, str], State]] = {
    ("NEW", "drafted"): "DRAFT",
    ("DRAFT", "approved"): "APPROVED",
    ("APPROVED", "started"): "RUNNING",
    ("RUNNING", "paused"): "PAUSED",
    ("PAUSED", "paused"): "PAUSED",
    ("PAUSED", "resumed"): "RUNNING",
    ("RUNNING", "held"): "HELD",
    ("HELD", "resumed"): "RUNNING",
    ("RUNNING", "rolling-back"): "ROLLING_BACK",
    ("PAUSED", "rolling-back"): "ROLLING_BACK",
    ("HELD", "rolling-back"): "ROLLING_BACK",
    ("ROLLING_BACK", "held"): "HELD",
    ("ROLLING_BACK", "rolled-back"): "ROLLED_BACK",
    ("RUNNING", "completed"): "COMPLETED",
    **{(state, "aborted"): "ABORTED" for state in OPEN},
}
TRIGGERS: Final[frozenset[str]] = frozenset(trigger for _, trigger in MOVES)

_NEXT: Final[dict[State, str]] = {
    "DRAFT": "ota rollout approve PLAN --key KEY",
    "APPROVED": "ota rollout start PLAN",
    "RUNNING": "ota rollout run ROLLOUT",
    "PAUSED": "ota rollout resume ROLLOUT",
    "HELD": "ota rollout status ROLLOUT, then ota rollout resume, rollback or abort",
    "ROLLING_BACK": "ota rollout run ROLLOUT",
    "ROLLED_BACK": "ota rollout history ROLLOUT, then plan again",
    "COMPLETED": "ota rollout plan SPEC --out plan.json",
    "ABORTED": "ota rollout plan SPEC --out plan.json",
}


_HELD_PLAYBOOK: Final = (
    "ota playbook status ROLLOUT, then ota rollout resume ROLLOUT (leaves out what failed), "
    "or ota rollout abort ROLLOUT --leave"
)
_HELD_BACK: Final = "ota rollout rollback ROLLOUT --partial, or ota rollout abort ROLLOUT --leave"
_STOPPING: Final = frozenset({"paused", "rolling-back"})
_WORDS: Final = {"rolling-back": "taken back"}


def move(state: State, trigger: str, rollout: str = "") -> State:
    """The state after ``trigger``; ``Misuse`` (code ``illegal-move``) if there is none."""
    after = MOVES.get((state, trigger))
    if after is not None:
        return after
    remedy = next_command(state, rollout)
    if trigger in _STOPPING and state in {"DRAFT", "APPROVED"}:
        remedy = f"nothing was sent out; ota rollout abort {rollout or 'ROLLOUT'} --leave"
    raise Misuse(
        f"{rollout or 'a rollout'} is {state} and can not be {_WORDS.get(trigger, trigger)}",
        code="illegal-move",
        subject=rollout or state,
        remedy=remedy,
    )


def next_command(
    state: State, rollout: str = "", *, playbook: bool = False, back: bool = False
) -> str:
    """What a person in front of this state would type next.

    A playbook's rollout has no way back, and one on its way ``back`` no way forward.
    """
    text = _NEXT.get(state, "ota rollout list")
    if state == "HELD" and (playbook or back):
        text = _HELD_BACK if back else _HELD_PLAYBOOK
    return text.replace("ROLLOUT", rollout) if rollout else text


def mermaid() -> str:
    """The table as a Mermaid state diagram, for the README."""
    lines = ["stateDiagram-v2", "    [*] --> DRAFT : drafted"]
    lines += [f"    {a} --> {b} : {t}" for (a, t), b in MOVES.items() if a != "NEW"]
    lines += [f"    {state} --> [*]" for state in sorted(CLOSED)]
    return "\n".join(lines) + "\n"
