"""File systems of their own, as small as a test wants them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of its own, of ``size`` bytes, at ``folder``."""
    folder.mkdir(parents=True)
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    options = f"size={size},mode=0777"
    mount = [*prefix, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run([*prefix, "umount", "--lazy", str(folder)], check=True)
