"""State tables as data: what follows a state, and the diagram of it all for the README.

>>> after({("IDLE", "wanted"): "REFRESHED"}, "IDLE", "wanted")
'REFRESHED'
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from signing.errors import OtaError

S = TypeVar("S", bound=str)
E = TypeVar("E", bound=str)


class IllegalMove(OtaError):
    """A move that the table does not have: a fault in the agent, never in an update or a run."""

    code = "illegal-move"


def after(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """The state that follows; ``IllegalMove`` when the table has none."""
    try:
        return table[state, event]
    except KeyError as e:
        raise IllegalMove(f"{event!r} is not possible in {state}") from e


def diagram(
    table: Mapping[tuple[S, E], S], ended: Collection[S], hidden: Collection[str] = ()
) -> str:
    """The table as a Mermaid state diagram that begins in IDLE, without ``hidden`` events."""
    lines = ["stateDiagram-v2", "    [*] --> IDLE"]
    lines += [f"    {a} --> {b}: {event}" for (a, event), b in table.items() if event not in hidden]
    lines += [f"    {state} --> [*]" for state in ended]
    return "\n".join(lines)
