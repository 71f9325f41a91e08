"""What a file is: its length, its SHA-256 and its format, read once, whatever its size.

The format is judged by content, never by name: a tar has ``ustar`` at byte 257, plain or under
gzip, bzip2 or xz; a zip begins with a local file header and has a readable directory (a firmware
image that merely ends in a zip is a file). Everything else is opaque bytes.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ota.errors import Malformed, NotFound
from signing import durable
from signing.release import Format

_CHUNK = 1024 * 1024
_HEADER = 512
_MEMORY = 1024 * 1024 * 1024
_SAMPLE = 2 * 1024 * 1024
"""Enough compressed bytes for the first block of any of the three compressions."""


@dataclass(frozen=True)
class Examined:
    """Length in bytes, lower-case hex SHA-256, and the format found."""

    length: int
    sha256: str
    format: Format


def examine(path: Path, progress: Callable[[int, int], None] | None = None) -> Examined:
    """Hash and classify a regular file. ``progress`` gets (bytes done, bytes in all).

    Raises ``NotFound``, ``Malformed`` (not a regular file, empty, or it grew meanwhile),
    ``Outage`` when it can not be read.
    """
    try:
        if not path.exists():
            raise NotFound(f"{path} is not there", subject=str(path))
        if not path.is_file():
            raise Malformed(f"{path} is not a regular file", subject=str(path))
        total = path.stat().st_size
        if total == 0:
            raise Malformed(f"{path} is empty", subject=str(path))
        length, sha256 = _hash(path, total, progress)
        if length != total:
            raise Malformed(f"{path} changed while it was read", subject=str(path))
        return Examined(length, sha256, _format(path))
    except OSError as e:
        raise durable.outage(path, e) from e


def _hash(path: Path, total: int, progress: Callable[[int, int], None] | None) -> tuple[int, str]:
    hasher = hashlib.sha256()
    done = 0
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            done += count
            if progress is not None:
                progress(done, total)
    return done, hasher.hexdigest()


def _format(path: Path) -> Format:
    with path.open("rb") as file:
        head = file.read(_SAMPLE)
    if head.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path):
        return "zip"
    return "tar" if _unpacked(head)[257:262] == b"ustar" else "file"


def _unpacked(head: bytes) -> bytes:
    """The first bytes of what is inside, or the bytes themselves."""
    try:
        if head.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(31).decompress(head, _HEADER)
        if head.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(head, _HEADER)
        if head.startswith(b"\xfd7zXZ\x00"):
            return lzma.LZMADecompressor(memlimit=_MEMORY).decompress(head, _HEADER)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return b""
    return head
