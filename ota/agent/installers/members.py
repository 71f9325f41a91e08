"""Tar (plain, gzip, xz, bzip2) and zip archives as one stream of members, read once, forward.

Both are read with a ceiling on decompressed bytes and on memory, because a few kilobytes can
name terabytes. Only regular files, folders, symlinks and hard links come out; devices, FIFOs,
sparse and encrypted members are refused. Names are *not* judged here (see ``tree.py``).
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from ota.agent.installers.tree import Kind, hostile
from signing.errors import Refusal

CHUNK = 1 << 20
_XZ_MEMORY = 128 << 20
_LINK_TARGET = 4096


@dataclass(frozen=True)
class Member:
    """One entry: ``data`` for files, ``target`` for both kinds of link."""

    name: str
    kind: Kind
    mode: int
    target: str = ""
    data: IO[bytes] | None = None


def malformed(message: str) -> Refusal:
    """What signed, but broken or unreadable, archives are refused with."""
    return Refusal("release-malformed", message)


class Budget:
    """How many decompressed bytes may still come."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0

    def spend(self, amount: int) -> None:
        """Count ``amount`` bytes; ``Refusal`` past the limit."""
        self.spent += amount
        if self.spent > self.limit:
            hostile(f"unpacks to more than {self.limit} bytes")


# -- tar ---------------------------------------------------------------------------------------
def tar_members(file: IO[bytes], budget: Budget) -> Iterator[Member]:
    """Members of a tar archive; it must end with its end mark, and its check sums must hold."""
    stream = Forward(_decompressed(file), budget)
    with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as tar:
        while (info := tar.next()) is not None:
            yield _tar_member(tar, info)
            tar.members.clear()  # type: ignore[attr-defined]  # else 200,000 stay in memory
    if stream.last != bytes(tarfile.BLOCKSIZE):
        raise malformed("the tar archive is cut off: it has no end mark")
    stream.drain()


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if info.isdir():
        return Member(info.name, "folder", info.mode)
    if info.issym():
        return Member(info.name, "link", info.mode, info.linkname)
    if info.islnk():
        return Member(info.name, "hardlink", info.mode, info.linkname)
    if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or info.issparse():
        hostile(f"{info.name!r:.120}: a device, FIFO or other special member")
    return Member(info.name, "file", info.mode, data=tar.extractfile(info))


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return io.BufferedReader(gzip.GzipFile(fileobj=file), CHUNK)
    if head == b"\xfd7zXZ\0":
        return io.BufferedReader(Xz(file), CHUNK)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return file


class Xz(io.RawIOBase):
    """An xz stream read with a ceiling on the decoder's memory, which ``lzma.open`` lacks."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a plain buffer
        """Fill ``buffer``; 0 at the end of the only stream."""
        while not self._decoder.eof:
            fresh = self._file.read(65_536) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not fresh:
                raise EOFError("the xz stream is cut off")
            data = self._decoder.decompress(fresh, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
        return 0


class Forward(io.RawIOBase):
    """What ``tarfile`` reads from: forward only, counted, no huge single reads."""

    def __init__(self, file: IO[bytes], budget: Budget) -> None:
        super().__init__()
        self._file = file
        self._budget = budget
        self._position = 0
        self.last = b""

    def readable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Bytes read so far."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, at most 1 MiB: longer headers are an attack on memory."""
        if not 0 <= size <= CHUNK:
            hostile("a header of more than 1 MiB")
        data = self._file.read(size)
        self._position += len(data)
        self._budget.spend(len(data))
        self.last = data
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Skip forward to ``offset``."""
        if whence != io.SEEK_SET or offset < self._position:
            raise malformed("the tar archive points back into itself")
        while self._position < offset:
            if not self.read(min(CHUNK, offset - self._position)):
                break
        return self._position

    def drain(self) -> None:
        """Read to the end, so that the compressor's own check sum is compared."""
        while self.read(CHUNK):
            pass


# -- zip ---------------------------------------------------------------------------------------
def zip_members(file: IO[bytes], budget: Budget, max_entries: int) -> Iterator[Member]:
    """Members of a zip archive (wheels included); each file's CRC is compared by its reader."""
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if len(infos) > max_entries:
            hostile(f"more than {max_entries} entries")
        for info in infos:
            if info.flag_bits & 0x1:
                raise malformed(f"{info.filename!r:.120}: encrypted")
            yield from _zip_member(archive, info, budget)


def _zip_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget
) -> Iterator[Member]:
    name, mode = info.orig_filename, info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if name.endswith("/"):  # is_dir() reads another form of the name, and fails on an empty one
        yield Member(name, "folder", mode or 0o755)
        return
    if kind not in {0, stat.S_IFREG, stat.S_IFLNK}:
        hostile(f"{name!r:.120}: a device, FIFO or other special member")
    with archive.open(info) as data:
        if kind != stat.S_IFLNK:
            yield Member(name, "file", mode or 0o644, data=data)
            return
        target = data.read(_LINK_TARGET + 1)
    budget.spend(len(target))
    yield Member(name, "link", mode, target.decode("utf-8", "surrogateescape"))
