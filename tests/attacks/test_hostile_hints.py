"""A hint that is none: anything at all in the folder where hints lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from simulators.plant import Plant
from simulators.threats import threat


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


HINTS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: path.write_bytes(b""),
    "nonsense": lambda path: path.write_bytes(b"\xff" * 100),
    "huge": lambda path: path.write_bytes(b" " * (1 << 20)),
    "deep": lambda path: path.write_bytes(b"[" * 4000),
    "another schema": lambda path: path.write_text(json.dumps({"schema": 2, "device": "a"})),
    "a link out of the folder": _link,
    "a pipe": _pipe,
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("what", HINTS)
def test_a_hint_that_is_none(plant: Plant, what: str) -> None:
    """It wakes the agent and no more: refused by name, set aside, and the next update goes on."""
    evil = plant["a"].spool / "orders" / "000-evil.json"
    evil.parent.mkdir(parents=True, exist_ok=True)
    with threat(plant, "hint-malformed"):
        HINTS[what](evil)
    assert not evil.exists()
    assert list((plant["a"].spool / "quarantine").glob("*.reason"))
