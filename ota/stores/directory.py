"""A store in a folder: what a web server, a USB stick or a loopback demo serves.

Objects appear whole or not at all: each is written under ``<root>/.tmp/``, synced, renamed into
its place, and the place's folder is synced. Immutable objects are never replaced by other
bytes; the one mutable object of a repository, ``timestamp.json``, changes by compare-and-swap
under a lock on ``<root>/.lock``. Names are checked before any path is built.

>>> store = DirectoryStore(Path("store"))
>>> store.put("image/metadata/1.targets.json", data)
>>> store.swap("image/metadata/timestamp.json", new, expected=old)   # Busy if another was first
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ota.errors import NotFound, OtaError, Outage, Refusal
from ota.ports import MirrorFile
from ota.stores.common import check_name, lost_race, open_source, source_changed, taken
from signing import durable
from signing.edition import Upload

_CHUNK = 1024 * 1024
_SMALL = 512 * 1024 * 1024
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class DirectoryStore:
    """Implements ``ports.ArtifactStore`` in one folder; several processes may share it."""

    def __init__(self, root: Path, *, wait: float = 10.0) -> None:
        self._root = root.resolve()
        self._wait = wait
        self._numbers = itertools.count()

    # -- reading -------------------------------------------------------------------------------
    def get(self, name: str, limit: int) -> bytes | None:
        """Bytes of ``name`` or None; ``Refusal("oversize")`` past ``limit`` bytes."""
        path = self._path(name)
        with _translated(name):
            try:
                with path.open("rb") as file:
                    data = file.read(limit + 1)
            except _ABSENT:
                return None
        if len(data) > limit:
            raise Refusal("oversize", f"{name} is longer than {limit} bytes", subject=name)
        return data

    def piece(self, name: str, offset: int, length: int) -> bytes:
        """At most ``length`` bytes of an object from ``offset`` on; ``NotFound``, ``Outage``."""
        path = self._path(name)
        with _translated(name):
            try:
                with path.open("rb", buffering=0) as file:
                    file.seek(offset)
                    return file.read(length)
            except _ABSENT as e:
                raise NotFound(f"{name} is not in the store", subject=name) from e

    def digest(self, name: str) -> tuple[int, str] | None:
        """Length in bytes and SHA-256 of an object, streamed; None when it is not there."""
        path = self._path(name)
        with _translated(name):
            try:
                with path.open("rb") as file:
                    return os.fstat(file.fileno()).st_size, _sha256(file)
            except _ABSENT:
                return None

    def size(self, name: str) -> int | None:
        """Length in bytes of an object, without reading it; None when it is not there."""
        path = self._path(name)
        with _translated(name):
            try:
                found = path.stat()
            except _ABSENT:
                return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str) -> Iterator[str]:
        """Names that begin with ``prefix``, sorted; temporary files are not objects."""
        folder = self._root / prefix.rpartition("/")[0] if "/" in prefix else self._root
        if prefix.rpartition("/")[0]:
            self._path(prefix.rpartition("/")[0])
        found = (p.relative_to(self._root) for p in folder.rglob("*") if p.is_file())
        names = (p.as_posix() for p in found if not any(s.startswith(".") for s in p.parts))
        return iter(sorted(name for name in names if name.startswith(prefix)))

    # -- writing -------------------------------------------------------------------------------
    def put(self, name: str, data: bytes) -> None:
        """Create an immutable object. The same bytes again: nothing. Others: ``Busy``."""
        path = self._path(name)
        with self._temporary(name) as file:
            _write(file, memoryview(data))
            _flush(file)
            with self._locked():
                there = self.get(name, max(len(data), _SMALL))
                if there is None:
                    self._install(file, path)
                elif there != data:
                    raise taken(name)

    def swap(self, name: str, data: bytes, expected: bytes | None) -> None:
        """Replace ``name`` if it still holds ``expected`` (None: absent); else ``Busy``."""
        path = self._path(name)
        with self._temporary(name) as file:
            _write(file, memoryview(data))
            _flush(file)
            with self._locked():
                if self.get(name, _SMALL) != expected:
                    raise lost_race(name)
                self._install(file, path)

    def upload(self, item: Upload, progress: Callable[[int], None] | None = None) -> None:
        """Copy an image in, hashing what is copied; the source is not needed once it is there.

        ``progress`` gets the bytes copied so far. Raises ``NotFound`` or ``Malformed`` (the
        source is gone or has changed), ``Refusal("image-mismatch")`` when the store holds other
        bytes under this name, ``Outage`` (code ``no-space``). Nothing half-written stays.
        """
        path = self._path(item.name)
        there = self.digest(item.name)
        if there == (item.length, item.sha256):
            return
        if there is not None:
            raise Refusal("image-mismatch", f"{item.name} has other bytes", subject=item.name)
        self._sweep()
        with self._temporary(item.name) as file:
            with open_source(item) as source:
                _copy(source, file, item, progress)
            _flush(file)
            with self._locked():
                self._install(file, path)

    def fill(self, file: MirrorFile, pieces: Iterable[bytes]) -> Iterator[int]:
        """Write an object whole, over whatever is there (a ``ports.Carrier``); its pieces' bytes.

        Raises ``Refusal("image-mismatch")`` for other bytes than the file's, ``Outage``.
        """
        path = self._path(file.name)
        self._sweep()
        hasher = hashlib.sha256()
        length = 0
        with self._temporary(file.name) as target:
            for data in pieces:
                hasher.update(data)
                length += len(data)
                _write(target, memoryview(data))
                yield len(data)
            if (length, hasher.hexdigest()) != (file.length, file.sha256):
                raise Refusal(
                    "image-mismatch", f"{file.name}: other bytes than signed", subject=file.name
                )
            _flush(target)
            with self._locked():
                self._install(target, path)

    def remove(self, name: str) -> None:
        """Remove an object durably; a missing one is nothing."""
        path = self._path(name)
        with _translated(name), self._locked(), contextlib.suppress(*_ABSENT):
            path.unlink()
            durable.sync_folder(path.parent)

    # -- helpers -------------------------------------------------------------------------------
    def _path(self, name: str) -> Path:
        return self._root.joinpath(*check_name(name))

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return durable.locked(self._root / ".lock", wait=self._wait)

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[io.FileIO]:
        """A locked temporary file: the lock tells a living writer's from a dead one's."""
        folder = self._root / ".tmp"
        durable.folder(folder)
        path = folder / f"{os.getpid()}-{id(self)}-{next(self._numbers)}"
        with _translated(name), path.open("xb", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
            finally:
                path.unlink(missing_ok=True)

    def _install(self, file: io.FileIO, path: Path) -> None:
        durable.folder(path.parent)
        Path(file.name).replace(path)
        durable.sync_folder(path.parent)

    def _sweep(self) -> None:
        """Remove what killed writers left behind."""
        for path in (self._root / ".tmp").glob("*"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _copy(
    source: io.FileIO, target: io.FileIO, item: Upload, progress: Callable[[int], None] | None
) -> None:
    hasher = hashlib.sha256()
    done = 0
    buffer = memoryview(bytearray(_CHUNK))
    while count := source.readinto(buffer):
        done += count
        if done > item.length:
            break
        hasher.update(buffer[:count])
        _write(target, buffer[:count])
        if progress is not None:
            progress(done)
    if done != item.length or hasher.hexdigest() != item.sha256:
        raise source_changed(item)


def _write(target: io.FileIO, data: memoryview) -> None:
    """Write all of it: a raw file on a full disk takes less, without an error."""
    while data:
        data = data[target.write(data) :]


def _sha256(file: io.FileIO | io.BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(file: io.FileIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except OtaError:
        raise
    except OSError as e:
        code = "no-space" if e.errno in {errno.ENOSPC, errno.EDQUOT} else "store"
        raise Outage(f"{name}: {e.strerror}", code=code, subject=name, remedy="df -h") from e
