"""The table of states: what is legal, that the rest changes nothing, and its diagram."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from simulators.identities import START

from ota.errors import Misuse, Refusal
from ota.ports import Event
from ota.rollout.replay import RolloutView, fold
from ota.rollout.states import CLOSED, MOVES, OPEN, TRIGGERS, State, mermaid, move

STATES = get_args(State)
LEGAL = sorted(MOVES)
ILLEGAL = sorted((s, t) for s in STATES for t in TRIGGERS if (s, t) not in MOVES)


@pytest.mark.parametrize(("state", "trigger"), LEGAL)
def test_legal(state: State, trigger: str) -> None:
    """Every row of the table moves."""
    assert move(state, trigger) == MOVES[state, trigger]


@pytest.mark.parametrize(("state", "trigger"), ILLEGAL)
def test_illegal_changes_nothing(state: State, trigger: str) -> None:
    """Everything else raises, names the next command, and leaves the view as it was."""
    view = RolloutView("r", state=state)
    with pytest.raises(Misuse) as caught:
        view.check(trigger)
    assert caught.value.code == "illegal-move"
    assert caught.value.remedy
    assert view == RolloutView("r", state=state)


def test_open_and_closed() -> None:
    """Each state is new, open or closed; closed ones have no way out, open ones can be aborted."""
    assert {*OPEN, *CLOSED, "NEW"} == set(STATES)
    assert not any(state in CLOSED for state, _ in MOVES)
    assert all((state, "aborted") in MOVES for state in OPEN)


def test_the_diagram_names_every_move() -> None:
    """The README's diagram is the table."""
    lines = mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert "    RUNNING --> PAUSED : paused" in lines
    assert sum(" : " in line for line in lines) == len(MOVES)


def event(version: int, kind: str, /, **body: Any) -> Event:
    return Event("r", version, START, kind, body)


ORDER = {
    "id": "ota-r-u1-w0-b0",
    "kind": "update",
    "wave": 0,
    "attempt": 1,
    "devices": ["d"],
    "courier": "sim",
    "snapshot": 1,
    "not_after": "2026-12-01T00:00:00Z",
}


@pytest.mark.parametrize(
    "events",
    [
        [event(1, "started")],
        [event(1, "drafted", plan="p")],
        [event(1, "drafted", plan="p", digest="d"), event(2, "no-such-kind")],
        [event(1, "dispatched", id="x", unreachable={}, unassigned=[], refused={})],
        [event(1, "order", **ORDER), event(2, "order", **ORDER)],
        [event(1, "withdrawn", id="x", devices={})],
        [event(1, "order", **ORDER), event(2, "withdrawn", id=ORDER["id"], devices={"d": "soon"})],
        [event(1, "left-out", devices=3)],
    ],
)
def test_a_journal_that_no_engine_wrote(events: list[Event]) -> None:
    """Events in an impossible order or form: a named refusal, never a guess."""
    with pytest.raises(Refusal) as caught:
        fold("r", events)
    assert caught.value.code == "journal-broken"
