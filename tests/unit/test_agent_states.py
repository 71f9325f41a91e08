"""The agent's table of states: every legal move, every illegal one, and what the table promises."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import get_args

import pytest
from simulators.agentbox import Box

from ota.agent import states
from ota.agent.moves import IllegalMove
from ota.agent.states import AFTER, BEFORE, ENDED, TABLE, Event, State

STATES: tuple[State, ...] = get_args(State)
EVENTS: tuple[Event, ...] = get_args(Event)
ILLEGAL = [pair for pair in itertools.product(STATES, EVENTS) if pair not in TABLE]


def test_every_state_is_reached_and_left() -> None:
    """From IDLE every state can be reached, and from every state an end can be."""
    reached: set[State] = {"IDLE"}
    while more := {b for (a, _), b in TABLE.items() if a in reached} - reached:
        reached |= more
    assert reached == set(STATES)
    ending: set[State] = set(ENDED)
    while more := {a for (a, _), b in TABLE.items() if b in ending} - ending:
        ending |= more
    assert ending == set(STATES)


def test_nothing_fails_quietly_after_activating() -> None:
    """Once the running slot may have changed there is no way to FAILED and none to the start."""
    for (state, _), following in TABLE.items():
        if state in AFTER:
            assert following not in {"FAILED", "REFRESHED", *BEFORE}
        assert state not in ENDED


def test_slot_becomes_active_only_by_way_of_staged() -> None:
    """ACTIVATING follows STAGED alone, and TRIAL alone leads to COMMITTING."""
    assert {a for (a, _), b in TABLE.items() if b == "ACTIVATING"} == {"STAGED"}
    assert {a for (a, _), b in TABLE.items() if b == "COMMITTING"} == {"TRIAL"}
    assert {a for (a, _), b in TABLE.items() if b == "DONE"} == {"COMMITTING"}


@pytest.mark.parametrize(("state", "event"), ILLEGAL, ids=str)
def test_illegal_moves_raise(state: State, event: Event) -> None:
    """A move that the table does not have raises and names both."""
    with pytest.raises(IllegalMove, match=event):
        states.after(state, event)


def test_illegal_move_changes_nothing(tmp_path: Path) -> None:
    """The journal stands as it stood before an illegal move."""
    box = Box(tmp_path)
    box.ship()
    with box.opened() as state:
        wanted = box.process(state).trust.cycle(box.process(state).known(), box.now).wanted[0]
        update = state.begin(wanted)
        for event in ("committed", "healthy", "active", "back", "stuck", "reboot"):
            with pytest.raises(IllegalMove):
                state.move(update, event, code="x", attempts=9)
        assert state.updates() == [update]


def test_diagram_shows_every_move() -> None:
    """The README's diagram is made from the table, with nothing left out but restarts."""
    lines = states.diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    for (before, event), after in TABLE.items():
        assert (f"    {before} --> {after}: {event}" in lines) == (event != "restart")
