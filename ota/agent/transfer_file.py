"""A store that is a folder: a mounted stick, the far side of a diode, a test."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from signing.errors import Outage


class FileSource:
    """Reads store names below ``root``; implements ``transfer.Source``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def open(self, name: str, offset: int, tag: str, deadline: float) -> Iterator[_FileAnswer]:
        """See ``transfer.Source``; the tag is made of inode, size and time of change."""
        del deadline  # a local file does not drip
        try:
            handle = os.open(self._root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            yield _FileAnswer(None, 0, 0, "")
            return
        except OSError as e:
            raise Outage(f"{self._root / name}: {e.strerror}", subject=name) from e
        try:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode):
                raise Outage(f"{self._root / name} is not a file", subject=name)
            ours = f'"{info.st_ino}-{info.st_size}-{info.st_mtime_ns}"'
            start = offset if tag == ours and offset <= info.st_size else 0
            os.lseek(handle, start, os.SEEK_SET)
            yield _FileAnswer(handle, start, info.st_size, ours)
        finally:
            os.close(handle)


class _FileAnswer:
    """Implements ``transfer.Answer`` on an open file."""

    def __init__(self, handle: int | None, offset: int, total: int, tag: str) -> None:
        self._handle = handle
        self.missing = handle is None
        self.offset = offset
        self.total: int | None = total
        self.tag = tag

    def read(self, amount: int) -> bytes:
        """At most ``amount`` bytes; b"" at the end."""
        if self._handle is None:
            return b""
        try:
            return os.read(self._handle, amount)
        except OSError as e:
            raise Outage(f"reading the store: {e.strerror}") from e
