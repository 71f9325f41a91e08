"""One engine at a time in a workspace: an advisory file lock that dies with its process.

Across machines that share a database, the journal's version conflict does the same job.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ota.errors import Busy, Outage


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock; ``Busy`` at once when another engine has it, ``Outage`` if unwritable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as e:
        raise Outage(f"{path}: {e.strerror}", subject=str(path)) from e
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise Busy(
                "another engine is stepping rollouts of this workspace",
                subject=str(path),
                remedy="wait for it, or look at: ota rollout status",
            ) from e
        yield
    finally:
        os.close(handle)
