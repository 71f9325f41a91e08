"""Hashing a file right behind its writer, so that a download and its verification overlap.

A second thread reads the growing file back, from its first byte (of a resumed part, too) up to
where the writer says that it has come, and hashes what it reads: the file's own bytes, never
what the network delivered. The digests stand for the file only as long as it is that very,
unmodified file: device, inode, size and both times as they were after its last byte. For any
other file :meth:`Follower.digests_of` knows nothing, and the trust room hashes it in full.

>>> follower = Follower(("sha256",))
>>> with follower.behind(path, handle, offset): ...   # write, then follower.grown(count)
>>> follower.digests_of(path)                         # {"sha256": ...}, or None
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_CHUNK = 1024 * 1024
Mark = tuple[int, int, int, int, int]


class Follower:
    """Follows the writing of one file; ``names`` are the hashes wanted."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._hashers = [hashlib.new(name) for name in names]
        self._change = threading.Condition()
        self._written = 0
        self._ended = False
        self._hashed = 0
        self._mark: Mark | None = None

    @contextlib.contextmanager
    def behind(self, path: Path, handle: int, offset: int) -> Iterator[None]:
        """Follow while the caller writes to ``handle``, from ``offset`` on; once only.

        Nothing is kept when the caller's block raises. Raises ``OSError`` when ``path`` can not
        be read back.
        """
        self._written = offset
        reader = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        thread = threading.Thread(target=self._follow, args=(reader,), daemon=True)
        whole = False
        try:
            thread.start()
            yield
            whole = True
        finally:
            with self._change:
                self._ended = True
                self._written = self._written if whole else 0
                self._change.notify()
            thread.join()
            if whole and mark(os.fstat(reader)) == mark(os.fstat(handle)):
                self._mark = mark(os.fstat(handle))
            os.close(reader)

    @property
    def length(self) -> int:
        """How many bytes were hashed."""
        return self._hashed

    def grown(self, count: int) -> None:
        """So many bytes more have been written."""
        with self._change:
            self._written += count
            self._change.notify()

    def digests_of(self, path: Path) -> dict[str, str] | None:
        """Digests by name if ``path`` is the followed file, whole and unmodified; else None."""
        if self._mark is None or self._hashed != self._mark[2]:
            return None
        if mark(os.lstat(path)) != self._mark:
            return None
        return {n: h.hexdigest() for n, h in zip(self.names, self._hashers, strict=True)}

    def _follow(self, reader: int) -> None:
        """Hash up to the writer, until it has ended; a reading error leaves it unfinished."""
        buffer = memoryview(bytearray(_CHUNK))
        while self._more():
            room = min(_CHUNK, self._written - self._hashed)
            try:
                count = os.preadv(reader, [buffer[:room]], self._hashed) if room > 0 else 0
            except OSError:
                return
            if not count:
                return
            for hasher in self._hashers:
                hasher.update(buffer[:count])
            self._hashed += count

    def _more(self) -> bool:
        with self._change:
            self._change.wait_for(lambda: self._ended or self._written > self._hashed)
            return self._written > self._hashed


def mark(found: os.stat_result) -> Mark:
    """Device, inode, size and both times: the same mark is the same, untouched file."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
