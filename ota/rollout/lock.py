"""One engine at a time in a workspace: an advisory file lock that dies with its process.

A person who stops something waits for the step at hand; a timer does not, and comes again.

Across machines that share a database, the journal's version conflict does the same job.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ota.errors import Busy, Outage

_TICK = 0.05


@contextmanager
def held(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock; ``Busy`` when another engine has it for ``wait`` s, ``Outage`` if unwritable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as e:
        raise Outage(f"{path}: {e.strerror}", subject=str(path)) from e
    try:
        _acquire(handle, path, time.monotonic() + wait)
        yield
    finally:
        os.close(handle)


def _acquire(handle: int, path: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            if time.monotonic() >= until:
                raise Busy(
                    "another engine is stepping rollouts of this workspace",
                    subject=str(path),
                    remedy="wait for it, or look at: ota rollout status",
                ) from e
            time.sleep(_TICK)
        else:
            return
