"""The agent killed at every step that it persists: the device always ends where it should.

A child process does one cycle and is killed, really, by SIGKILL, just before or just after its
N-th change of the journal, or at its N-th change of the file system; then new processes go on.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from simulators.agentbox import Box, sha

from ota.agent.database import Database
from signing.errors import OtaError

_CHANGES = (
    "fsync",
    "rename",
    "replace",
    "link",
    "symlink",
    "unlink",
    "chmod",
    "rmdir",
    "ftruncate",
)
STRIDE = 5
"""Of the file system's changes every fifth is tried; of the journal's every one."""


class Killer:
    """Counts changes of one kind in a child process, and dies at the N-th."""

    def __init__(self, at: int) -> None:
        self.left = at

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch_files(self) -> None:
        for name in _CHANGES:
            setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            return real(*args, **kwargs)

        return change

    def watch_journal(self) -> None:
        real = Database.execute

        def execute(database: Database, sql: str, *values: Any) -> list[tuple[Any, ...]]:
            persists = sql.startswith("COMMIT") or (
                database._depth == 0 and not sql.startswith(("SELECT", "PRAGMA", "BEGIN"))
            )
            if persists:
                self.tick()
            rows = real(database, sql, *values)
            if persists:
                self.tick()
            return rows

        Database.execute = execute  # type: ignore[method-assign]  # only in the child


def killed(box: Box, watch: str, at: int) -> bool:
    """Do one cycle in a child that dies at its ``at``-th change; False when it did not die."""
    pid = os.fork()
    if pid == 0:
        killer = Killer(at)
        getattr(killer, watch)()
        try:
            box.cycle()
        except OtaError:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """Release one is committed; release two is assigned; the disk is kept for later."""
    box = Box(tmp_path)
    box.ship()
    box.cycle()
    box.ship("app/app-2.bin", b"two", release_counter=2, security_fix=False, order="o-2")
    for name in ("state", "slots", "spool"):
        shutil.copytree(tmp_path / name, tmp_path / "kept" / name, symlinks=True)
    return box


def kills(box: Box, watch: str, stride: int) -> Iterator[int]:
    """Restore the disk, kill at 1, 1 + stride ..., until a cycle is not killed any more."""
    at = 1
    while True:
        for name in ("state", "slots", "spool"):
            shutil.rmtree(box.folder / name)
            shutil.copytree(box.folder / "kept" / name, box.folder / name, symlinks=True)
        if not killed(box, watch, at):
            break
        assert box.running in {b"one", b"two"}, f"killed at {at}: neither old nor new runs"
        yield at
        at += stride
    assert at > 10 * stride or at > 20, "the killer found hardly anything to kill at"


def settle(box: Box) -> None:
    """New processes until nothing moves any more."""
    for _ in range(4):
        if not box.cycle():
            return
    raise AssertionError("it does not settle")


def check_reports(box: Box, ends: tuple[str, str]) -> None:
    """Every counter once, the outcome once, and the signed state is the real one."""
    reports = box.reports()
    assert [r.counter for r in reports] == sorted({r.counter for r in reports})
    outcomes = [r for r in reports if r.update and r.update.order == "o-2" and r.event == "outcome"]
    assert [(r.update.outcome, r.code) for r in outcomes if r.update] == [ends]
    state = reports[-1].components["app"]
    assert state.current is not None
    assert box.running is not None
    assert state.current.sha256 == sha(box.running)
    with box.opened() as journal:
        assert journal.updates() == journal.outbox() == []


@pytest.mark.parametrize(("watch", "stride"), [("watch_journal", 1), ("watch_files", STRIDE)])
def test_killed_update_is_completed(box: Box, watch: str, stride: int) -> None:
    """Killed anywhere, the update is committed by the next processes, and reported once."""
    for _ in kills(box, watch, stride):
        settle(box)
        assert box.running == b"two"
        check_reports(box, ("committed", ""))
        slots = box.installer.inspect()
        assert (slots.previous, slots.staged, slots.trial) == (sha(b"one"), "", False)
        with box.opened() as journal:
            assert journal.floors() == {"app": 1}
            assert journal.denials() == {}


@pytest.mark.parametrize(("watch", "stride"), [("watch_journal", 1), ("watch_files", STRIDE)])
def test_killed_way_back_is_completed(box: Box, watch: str, stride: int) -> None:
    """Killed anywhere, an unhealthy release ends up taken back, denied and reported once."""
    box.probe.sick = "no"
    for _ in kills(box, watch, stride):
        settle(box)
        assert box.running == b"one"
        check_reports(box, ("reverted", "unhealthy"))
        slots = box.installer.inspect()
        assert (slots.current, slots.staged, slots.trial) == (sha(b"one"), "", False)
        with box.opened() as journal:
            assert journal.denials() == {("app", sha(b"two")): "o-2"}


def test_killed_again_and_again_in_one_trial(box: Box) -> None:
    """A device that dies in every trial stops trying: taken back, and told why."""

    class Probe:
        def check(self, _deadline: float) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    honest, box.probe = box.probe, Probe()  # type: ignore[assignment]  # it dies when asked
    for _ in range(3):
        assert killed(box, "watch_files", 10**9)
    box.probe = honest
    settle(box)
    assert box.running == b"one"
    check_reports(box, ("reverted", "trial-loop"))
