"""Playbooks for one device of :mod:`simulators.agentbox`, and what they left behind.

>>> box.playbook(body(touch(box, "one")))
>>> box.cycle(); log(box)
['one']
"""

from __future__ import annotations

from typing import Any

from simulators.agentbox import Box

from signing.report import Report

ORDER = "ota-tidy-1-aaaaaa-u1-w0-b0"
AGENT = {"roads": ["agent"]}


def step(name: str, **action: Any) -> dict[str, Any]:
    return {"name": name, "timeout": 20, "on_failure": "stop"} | action


def body(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": "tidy",
        "version": "1.0.0",
        "summary": "Tidy up",
        "platforms": ["linux"],
        "roads": ["agent", "native"],
        "steps": list(steps),
    } | more


def touch(box: Box, name: str, **more: Any) -> dict[str, Any]:
    """A step that leaves a line in a file, so that a test sees how often it ran."""
    script = 'echo "$1" >>"$2"'
    argv = ["sh", "-c", script, "sh", name, str(box.folder / "log")]
    return step(name, exec={"argv": argv}) | more


def log(box: Box) -> list[str]:
    path = box.folder / "log"
    return path.read_text().split() if path.exists() else []


def last(box: Box) -> Report:
    return next(r for r in reversed(box.reports()) if r.update and r.update.kind == "playbook")


def told(box: Box) -> list[tuple[str, str, str]]:
    """(step, outcome, code) of the newest report about a playbook."""
    return [(s.name, s.outcome, s.code) for s in last(box).steps]


def disk(box: Box) -> dict[str, bytes]:
    """Everything outside of the agent's journal and trust, for "nothing was done"."""
    skip = {"state", "store", "spool"}
    return {
        str(p.relative_to(box.folder)): p.read_bytes()
        for p in box.folder.rglob("*")
        if p.is_file() and p.relative_to(box.folder).parts[0] not in skip
    }


def ordered(box: Box, **more: Any) -> None:
    box.ship()
    box.cycle()
    box.playbook(
        body(
            touch(box, "one"),
            parameters={"who": {"type": "string", "pattern": "^[a-z]{1,9}$"}},
            **more,
        ),
        {"who": "anna"},
    )
