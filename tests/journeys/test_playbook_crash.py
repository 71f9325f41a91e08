"""A playbook killed at every step that it persists: it ends as if nothing had happened.

A child process does one cycle and is killed, really, by SIGKILL, at its N-th change of the
journal or of the file system; then new processes go on.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from simulators import boxplaybooks
from simulators.agentbox import Box
from simulators.dying import keep, kills, settle

from ota.agent.runs import wiping
from signing import receipt, statement

ORDER = "ota-tidy-1-aaaaaa-u1-w0-b0"
DISK = ("state", "spool", "work")
STRIDE = 4


def body(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    common = {"timeout": 20, "on_failure": "stop"}
    last = {key: common | value for key, value in more.items()}
    return boxplaybooks.body(*(common | step for step in steps), **boxplaybooks.AGENT, **last)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    (tmp_path / "work").mkdir()
    box.cycle()
    return box


def outcomes(box: Box) -> list[str]:
    """Outcomes of the order that were handed over; each counter stands for one report."""
    reports = box.reports()
    assert [r.counter for r in reports] == sorted({r.counter for r in reports})
    found = (r.update for r in reports if r.update and r.event == "outcome")
    return [u.outcome for u in found if u.order == ORDER]


@pytest.mark.parametrize(("watch", "stride"), [("watch_journal", 1), ("watch_files", STRIDE)])
def test_killed_run_is_completed(box: Box, watch: str, stride: int) -> None:
    """Killed anywhere, every step is done, guarded ones once, and the outcome is told once."""
    work = box.folder / "work"
    once = 'echo x >>"$1"; : >"$2"'
    box.playbook(
        body(
            {"name": "write", "file": {"path": str(work / "a"), "mode": "0600",
                                       "format": "plain", "content": "new\n"}},
            {"name": "once", "creates": str(work / "done"),
             "exec": {"argv": ["sh", "-c", once, "sh", str(work / "log"), str(work / "done")]}},
            {"name": "drop", "file": {"path": str(work / "b"), "mode": "0600", "format": "plain",
                                      "absent": True}},
            **{"finally": {"name": "last", "collect": {"argv": ["cat", str(work / "a")]}}},
        )
    )  # fmt: skip
    (work / "b").write_text("old\n")
    keep(box, DISK)
    for _ in kills(box, watch, stride, DISK):
        settle(box)
        assert sorted(p.name for p in work.iterdir()) == ["a", "done", "log"]
        assert (work / "a").read_text() == "new\n"
        assert set((work / "log").read_text().split()) == {"x"}
        assert outcomes(box) == ["committed"]
        assert [s.name for s in box.reports()[-1].steps] in (
            [], ["write", "once", "drop", "last"]
        )  # fmt: skip
        with box.opened() as state:
            assert state.runs.open() is None
            assert state.outbox() == []


@pytest.mark.parametrize(("watch", "stride"), [("watch_journal", 1), ("watch_files", 3)])
def test_killed_wipe_is_completed(box: Box, watch: str, stride: int) -> None:
    """Killed anywhere, nothing of the agent is left, its receipt is whole, its outcome is told."""
    path = box.folder / "work" / "receipt.json"
    box.playbook(body({"name": "end", "wipe": {"receipt": str(path)}}))
    keep(box, DISK)
    for _ in kills(box, watch, stride, DISK):
        for _ in range(3):
            wiping.finish(box.own)  # as every start of the agent does
            if (box.own / "state.db").exists():
                box.cycle()
        assert {p.name for p in box.own.iterdir()} <= {"lock"}
        assert outcomes(box) == ["committed"]
        data = path.read_bytes()
        found = receipt.read(statement.verify("receipt", data, [box.signer.public_key]))
        assert found.order == ORDER
    shutil.rmtree(box.folder / "kept")
