"""Where plants stand: in memory where there is room, so that syncing costs nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
ROOM = 256 << 20


def roomy() -> Path | None:
    """A folder in memory, or None when there is too little."""
    fits = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    return MEMORY if fits else None


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    """A folder for the plants of one module."""
    with tempfile.TemporaryDirectory(dir=roomy(), prefix="plant-") as folder:
        yield Path(folder)
