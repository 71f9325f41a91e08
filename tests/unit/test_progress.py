"""Progress on stderr: redrawn in place on a terminal, one line for each change elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress

import pytest

from ota.cli import progress, quickstart


class Screen(io.StringIO):
    """A stderr that is a terminal, or is none."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@contextmanager
def shown(terminal: bool) -> Iterator[Screen]:
    """What stderr is given meanwhile."""
    screen = Screen(terminal)
    with redirect_stderr(screen):
        yield screen


def test_a_line_for_each_change() -> None:
    """What is the same is not repeated; an age alone is no change; nothing steers a terminal."""
    with shown(terminal=False) as screen, progress.line() as tell:
        for text, age in (("a 0/2", "1 s"), ("a 0/2", "2 s"), ("a 1/2\x1b[2J", "3 s")):
            tell(text, f" ({age})")
    assert screen.getvalue() == "a 0/2 (1 s)\na 1/2?[2J (3 s)\n"


def test_redrawn_in_place() -> None:
    """On a terminal the line moves, and its end leaves the cursor on a new one."""
    with shown(terminal=True) as screen, suppress(KeyboardInterrupt), progress.line() as tell:
        tell("a 0/2", " (1 s)")
        tell("a 1/2", " (2 s)")
        raise KeyboardInterrupt
    assert screen.getvalue() == "\r\x1b[2Ka 0/2 (1 s)\r\x1b[2Ka 1/2 (2 s)\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_ends_with_its_file(terminal: bool) -> None:
    """A transient bar on a terminal, one line elsewhere."""
    with shown(terminal) as screen, progress.bar("app.bin") as tick:
        tick(5, 10)
        tick(10, 10)
    assert terminal or screen.getvalue() == "app.bin: 10 bytes\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_demo_shows_each_wave(terminal: bool) -> None:
    """Live on a terminal, a line a change elsewhere."""
    show = quickstart._Live() if terminal else quickstart._Lines()
    wave = {"name": "canary", "size": 3, "state": "running", "committed": 1, "pending": 2}
    with shown(terminal) as screen:
        for _ in range(2):
            show.step({"rollout": "all-1", "state": "RUNNING", "waves": [wave]})
        show.say("done")
        show.end()
    line = "all-1 RUNNING | canary 3: 1 committed, 2 pending"
    drawn = f"\r\x1b[2K  {line}"
    expected = f"{drawn}{drawn}\ndone\n" if terminal else f"  {line}\ndone\n"
    assert screen.getvalue() == expected
