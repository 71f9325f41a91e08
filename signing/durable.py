"""Files that survive a crash: whole or not at all, created with their mode.

A new content is written to a temporary name in the same folder, synced, renamed over the old
one, and the folder is synced, because a rename without that can come back undone.

>>> replace(Path("state/pending/image.json"), data)          # whole or not at all
>>> create(Path("keys/root-1.pem"), pem, mode=0o600)          # never overwrites
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from signing.errors import Busy, Malformed, NotPermitted, Outage


def replace(path: Path, data: bytes, *, mode: int = 0o644, sync: bool = True) -> None:
    """Write ``data`` to ``path`` atomically and durably; ``Outage`` when the disk says no.

    Without ``sync`` it can be torn by a power cut: for what can be had again.
    """
    folder(path.parent)
    temporary = _temporary(path)
    try:
        write_new(temporary, data, mode, sync=sync)
        temporary.replace(path)
        if sync:
            sync_folder(path.parent)
    except OSError as e:
        raise outage(path, e) from e
    finally:
        temporary.unlink(missing_ok=True)


def create(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file that must not exist yet; ``NotPermitted`` (code ``exists``) when it does."""
    temporary = _temporary(path)
    try:
        write_new(temporary, data, mode)
        os.link(temporary, path)
        sync_folder(path.parent)
    except FileExistsError as e:
        raise NotPermitted(
            f"{path} exists and is never overwritten",
            code="exists",
            subject=str(path),
            remedy="move it away first, or choose another name",
        ) from e
    except OSError as e:
        raise outage(path, e) from e
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name of this process and thread alone."""
    return path.with_name(f".tmp-{path.name[:120]}.{os.getpid()}-{threading.get_ident()}")


def write_new(path: Path, data: bytes, mode: int, *, sync: bool = True) -> None:
    """Create ``path`` with ``mode`` from the first instant, write and sync it; raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def write_folder(path: Path, files: Mapping[str, bytes], mode: int) -> None:
    """Create these files in a folder and sync them and their names; raises OSError.

    On a slow disk they are synced side by side, so that they share the file system's commits: five
    files cost little more than two.
    """
    with contextlib.ExitStack() as stack:
        descriptors = [_opened(path, os.O_RDONLY | os.O_DIRECTORY)]
        stack.callback(os.close, descriptors[0])
        for name, data in files.items():
            descriptor = _opened(path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            stack.callback(os.close, descriptor)
            descriptors.append(descriptor)
            _write(descriptor, data)
        _sync_all(descriptors)


def _write(descriptor: int, data: bytes) -> None:
    """All of it: a full disk takes less, without an error at first."""
    while data:
        data = data[os.write(descriptor, data) :]


def _opened(path: Path, flags: int, mode: int = 0o600) -> int:
    return os.open(path, flags | os.O_CLOEXEC, mode)


def _sync_all(descriptors: Sequence[int]) -> None:
    """Sync all of these; raise the first error when every one has ended.

    In turn, until the disk proves slow; from then on side by side, where a thread costs less. Where
    the system gives no thread, in turn again: it is no reason to leave a file unsynced.
    """
    errors: list[OSError] = []

    def sync(descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as e:
            errors.append(e)

    waiting = list(descriptors)
    began = time.monotonic()
    while waiting and time.monotonic() - began < _SLOW:
        sync(waiting.pop(0))
    threads = []
    for descriptor in waiting:
        thread = threading.Thread(target=sync, args=(descriptor,))
        try:
            thread.start()
        except RuntimeError:
            sync(descriptor)
        else:
            threads.append(thread)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def folder(path: Path, mode: int = 0o755) -> None:
    """Make a folder and its parents, durably; one that is there stays as it is."""
    if path.is_dir():
        return
    try:
        if not path.parent.is_dir():
            folder(path.parent, mode)
        path.mkdir(mode=mode, exist_ok=True)
        sync_folder(path.parent)
    except OSError as e:
        raise outage(path, e) from e


def sync_folder(path: Path) -> None:
    """Make names in this folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file durably; a missing one is fine."""
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as e:
        raise outage(path, e) from e


def read(path: Path, limit: int, what: str) -> bytes | None:
    """At most ``limit`` bytes of a file, or None when there is none.

    ``Malformed`` past the limit and for a folder; ``Outage`` when the disk says no.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError as e:
        raise Malformed(f"{what}: {path} is a folder", subject=str(path)) from e
    except OSError as e:
        raise outage(path, e) from e
    if len(data) > limit:
        raise Malformed(f"{what}: {path} is longer than {limit} bytes", subject=str(path))
    return data


def outage(path: Path, error: OSError) -> Outage:
    """What a file system says no to: code ``no-space`` or ``io``."""
    code = "no-space" if error.errno in _FULL else "io"
    remedy = f"ls -ld {path.parent} {path}" if error.errno in _RIGHTS else "df -h"
    return Outage(f"{path}: {error.strerror}", code=code, subject=str(path), remedy=remedy)


class seam(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as a statement
    """What the file system says no to inside the block is the :func:`outage` of ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Translate."""
        if isinstance(error, OSError):
            raise outage(self._path, error) from error


_SLOW = 0.001
"""Seconds of waiting in turn, from which on a thread is cheaper."""
Lock = contextlib.AbstractContextManager[None]
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_RIGHTS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


@contextlib.contextmanager
def locked(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock on a file; ``Busy`` when another process has it after ``wait`` s.

    The lock ends with its process, however that ends; the file stays and means nothing.
    """
    folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise outage(path, e) from e
    try:
        _acquire(descriptor, path, wait)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            if time.monotonic() >= deadline:
                raise Busy(
                    f"another process holds {path}", subject=str(path), remedy="try again shortly"
                ) from e
            time.sleep(0.01)
        else:
            return
