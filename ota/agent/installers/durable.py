"""File-system steps that survive a power cut, and the one seam for operating-system errors.

A rename is durable only after the *folder* was synced too (measured on ext4: without it the old
content came back). Nothing is ever written under its final name: a temporary name in the same
folder, sync, rename, sync the folder.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from signing.durable import sync_folder as sync_folder  # noqa: PLC0414 - marks the re-export
from signing.errors import Outage

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def seam(action: str, subject: Path) -> Iterator[None]:
    """Turn ``OSError`` into ``Outage`` with code ``no-space`` or ``installer``."""
    try:
        yield
    except OSError as e:
        code = "no-space" if e.errno in _FULL else "installer"
        reason = e.strerror or str(e)
        raise Outage(f"can not {action}: {reason}", code=code, subject=str(subject)) from e


def sync_file(path: Path) -> None:
    """Make the content of ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int) -> None:
    """Create ``path`` and its parents, each durable; an existing one keeps its mode."""
    if path.is_dir():
        return
    make_folder(path.parent, 0o755)
    with suppress(FileExistsError):
        path.mkdir(mode)
    sync_folder(path.parent)


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data``, atomically and durably."""
    temporary = path.with_name(f".tmp-{path.name}")
    remove(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        remove(temporary)
        raise
    sync_folder(path.parent)


def point(link: Path, target: str) -> None:
    """Make the symlink ``link`` point to ``target``, atomically and durably."""
    temporary = link.with_name(f".tmp-{link.name}")
    remove(temporary)
    temporary.symlink_to(target)
    temporary.rename(link)
    sync_folder(link.parent)


def target_of(link: Path) -> str | None:
    """The text of a symlink; None when there is none or something else stands there."""
    try:
        return str(link.readlink())
    except OSError:
        return None


def link(source: Path, target: Path) -> bool:
    """Hard-link a complete file under a new name; False where the file systems can not."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as e:
        if e.errno in _NO_LINKS:
            return False
        raise
    return True


def remove(path: Path) -> bool:
    """Remove a file, link or whole folder; False when it was not there. Not synced."""
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    return True


def free(path: Path) -> int:
    """Bytes that this user may still write on the file system that (will) hold ``path``."""
    while not path.exists():
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def need(path: Path, amount: int) -> None:
    """Raise ``Outage("no-space")`` when fewer than ``amount`` bytes are free at ``path``."""
    there = free(path)
    if there < amount:
        raise Outage(
            f"{amount} bytes are needed and {there} are free",
            code="no-space",
            subject=str(path),
            remedy="free some space on the device; the next cycle tries again",
        )


def names(folder: Path) -> list[str]:
    """Sorted names in ``folder``; none when it is not there."""
    try:
        return sorted(item.name for item in folder.iterdir())
    except FileNotFoundError:
        return []
