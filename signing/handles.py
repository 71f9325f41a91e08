"""A folder that somebody else may write to, reached by folder handles only.

Whoever carries files may put anything into such a folder: a link, a pipe, a folder or a huge file
under any name. Every name is opened relative to a handle of its parent with ``O_NOFOLLOW`` and
without blocking, so no link is ever followed below the root. Functions raise ``OSError``.

>>> with opened(Path("/var/spool/ota/press-07"), "reports") as folder:
...     read(folder, "0000000007-1a2b3c4d.json", 131072)
b'...'
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def opened(root: Path, *parts: str, create: bool = False) -> Iterator[int]:
    """A handle of ``root/parts...``, following no link below the root. Raises ``OSError``."""
    if create:
        root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if create:
                _mkdir(part, handle)
            deeper = os.open(part, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = deeper
        yield handle
    finally:
        os.close(handle)


def _mkdir(name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return
    os.fsync(parent)


def names(folder: int) -> list[str]:
    """Names in a folder, sorted; those beginning with ``.`` are somebody's temporary files."""
    return sorted(n for n in os.listdir(folder) if not n.startswith("."))


def write(folder: int, name: str, data: bytes) -> None:
    """Write a new synced file under exactly this name, replacing a leftover; no rename."""
    remove(folder, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(name, flags, 0o644, dir_fd=folder)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(folder: int, temporary: str, name: str) -> bool:
    """Rename within a folder and sync it; False when ``temporary`` is not there."""
    try:
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileNotFoundError:
        return False
    os.fsync(folder)
    return True


def remove(folder: int, name: str) -> None:
    """Remove a file if it is there."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def read(folder: int, name: str, limit: int) -> bytes | str:
    """The bytes of a plain file, or the reason (a text) why it is none."""
    try:
        handle = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
        )
    except FileNotFoundError:
        return GONE
    except OSError as e:
        return f"not a plain file: {e.strerror}"
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return "not a plain file"
        if found.st_size > limit:
            return f"{found.st_size} bytes, the limit is {limit}"
        return _read_all(handle, limit)
    finally:
        os.close(handle)


GONE: Final = "it is gone"
"""What :func:`read` says of a name that is not there."""


def _read_all(handle: int, limit: int) -> bytes | str:
    data = b""
    while len(data) <= limit:
        piece = os.read(handle, limit + 1 - len(data))
        if not piece:
            return data
        data += piece
    return f"it grew beyond the limit of {limit} bytes"
