"""Unpack a verified archive into a fresh folder, or leave nothing.

The image's hash was signed, yet its *content* is judged too: a signer's build may have been
fed with a hostile archive. The numbered procedure of :func:`unpack`:

1. the target folder is new and the agent's alone (mode 0700) until it is complete;
2. every name passes ``tree.py``; files are created exclusively and never through a link;
3. decompressed bytes, their ratio to the archive, entries and memory have ceilings;
4. of the mode only ``rwx`` is kept, without set-id, sticky or write for group and others;
   owner is the agent; symlinks are made last;
5. every file and folder is synced, and named in the manifest with its hash;
6. on any failure the folder is removed again.

Raises ``Refusal`` ``archive-hostile`` or, for broken archives, ``release-malformed``;
``Outage`` ``no-space`` or ``installer``.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ota.agent.installers import durable
from ota.agent.installers.manifest import Row
from ota.agent.installers.members import (
    CHUNK,
    Budget,
    Member,
    malformed,
    tar_members,
    zip_members,
)
from ota.agent.installers.tree import MAX_ENTRIES, Parts, Tree
from signing.release import Format

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    LookupError,
    RecursionError,
    RuntimeError,  # zipfile: encrypted members, unknown compression
)
"""What the standard library raises for archives that are not what they say."""


@dataclass(frozen=True)
class Limits:
    """Ceilings: bytes written, their ratio to the archive's length, number of entries."""

    unpacked: int = 8 << 30
    ratio: int = 250
    entries: int = MAX_ENTRIES

    def budget(self, length: int) -> Budget:
        """Small archives may grow to 64 MiB whatever the ratio."""
        return Budget(min(self.unpacked, max(64 << 20, self.ratio * length)))


def unpack(source: Path, kind: Format, target: Path, limits: Limits, strip: int = 0) -> list[Row]:
    """Unpack ``source`` into the new folder ``target``; the manifest's rows, synced."""
    with durable.seam("unpack the image", target):
        durable.remove(target)
        target.mkdir(0o700)
        done = False
        try:
            with _broken(), source.open("rb") as file:
                rows = _Writer(target, Tree(strip, limits.entries)).write(file, kind, limits)
            done = True
        finally:
            if not done:
                durable.remove(target)
    return rows


@contextmanager
def _broken() -> Iterator[None]:
    try:
        yield
    except _BROKEN as e:
        raise malformed(f"the archive is broken: {e}") from e
    except OSError as e:
        if e.errno in {None, errno.EINVAL}:  # so gzip, bz2; so zipfile, for a negative offset
            raise malformed(f"the archive is broken: {e}") from e
        raise


class _Writer:
    def __init__(self, root: Path, tree: Tree) -> None:
        self._root = root
        self._tree = tree
        self._rows: dict[Parts, Row] = {}
        self._links: dict[Parts, str] = {}

    def write(self, file: IO[bytes], kind: Format, limits: Limits) -> list[Row]:
        length = os.fstat(file.fileno()).st_size
        budget = limits.budget(length)
        if kind == "tar":
            members = tar_members(file, budget)
        elif kind == "zip":
            members = zip_members(file, budget, limits.entries)
        else:
            raise malformed(f"format {kind!r} is not an archive")
        for member in members:
            self._add(member, budget if kind == "zip" else None)
        if not any(row.kind == "file" for row in self._rows.values()):
            raise malformed("the archive holds no file")
        self._finish()
        return list(self._rows.values())

    def _add(self, member: Member, budget: Budget | None) -> None:
        parts = self._tree.add(member.name, member.kind)
        if parts is None:
            return
        for depth in range(1, len(parts)):
            self._folder(parts[:depth], 0o755)
        if member.kind == "folder":
            self._folder(parts, member.mode)
        elif member.kind == "link":
            self._links[parts] = self._tree.symlink(parts, member.target)
        elif member.kind == "hardlink":
            earlier = self._tree.hardlink(member.name, member.target)
            os.link(self._path(earlier), self._path(parts), follow_symlinks=False)
            self._rows[parts] = _renamed(self._rows[earlier], parts)
        else:
            self._file(parts, member, budget)

    def _path(self, parts: Parts) -> Path:
        return self._root.joinpath(*parts)

    def _folder(self, parts: Parts, mode: int) -> None:
        if parts in self._rows:
            return
        kept = (mode & 0o755) | 0o700
        self._path(parts).mkdir(kept)
        self._path(parts).chmod(kept)
        self._rows[parts] = Row(path="/".join(parts), kind="folder", mode=kept)

    def _file(self, parts: Parts, member: Member, budget: Budget | None) -> None:
        assert member.data is not None  # noqa: S101 - members.py gives every file its data
        kept = (member.mode & 0o755) | 0o600
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        hasher, size = hashlib.sha256(), 0
        with os.fdopen(os.open(self._path(parts), flags, 0o600), "wb", buffering=0) as out:
            while data := member.data.read(CHUNK):
                if budget is not None:
                    budget.spend(len(data))
                hasher.update(data)
                size += len(data)
                _write_all(out.fileno(), data)
            os.fchmod(out.fileno(), kept)
            os.fsync(out.fileno())
        self._rows[parts] = Row(
            path="/".join(parts), kind="file", mode=kept, size=size, sha256=hasher.hexdigest()
        )

    def _finish(self) -> None:
        """Make the links, then sync every folder, the deepest first, and open the top."""
        for parts, target in self._links.items():
            self._path(parts).symlink_to(target)
            self._rows[parts] = Row(path="/".join(parts), kind="link", target=target)
        folders = [parts for parts, row in self._rows.items() if row.kind == "folder"]
        for parts in sorted(folders, key=len, reverse=True):
            durable.sync_folder(self._path(parts))
        self._root.chmod(0o755)  # complete: others may read it
        durable.sync_folder(self._root)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _renamed(row: Row, parts: Parts) -> Row:
    return Row(path="/".join(parts), kind="file", mode=row.mode, size=row.size, sha256=row.sha256)
