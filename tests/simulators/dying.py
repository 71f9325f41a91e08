"""An agent that is killed, really, at every change that it makes: of its journal, or of files.

A child process does one cycle and dies by SIGKILL just before or just after its N-th change.

>>> for at in kills(box, "watch_journal", 1, ("state", "spool")):
...     settle(box)
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from simulators.agentbox import Box

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


def keep(box: Box, folders: Sequence[str]) -> None:
    """Keep the disk as it is, for :func:`kills` to begin from each time."""
    for name in folders:
        shutil.copytree(box.folder / name, box.folder / "kept" / name, symlinks=True)


def kills(box: Box, watch: str, stride: int, folders: Sequence[str]) -> Iterator[int]:
    """Restore the disk, kill at 1, 1 + stride ..., until a cycle is not killed any more."""
    at = 1
    while True:
        for name in folders:
            shutil.rmtree(box.folder / name)
            shutil.copytree(box.folder / "kept" / name, box.folder / name, symlinks=True)
        if not killed(box, watch, at):
            break
        yield at
        at += stride
    assert at > 10 * stride or at > 20, "the killer found hardly anything to kill at"


def settle(box: Box) -> None:
    """New processes until nothing moves any more."""
    for _ in range(4):
        if not box.cycle():
            return
    raise AssertionError("it does not settle")
