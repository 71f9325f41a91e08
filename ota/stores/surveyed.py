"""An image's file, read once and cut into parts whose hashes are known before one is sent.

>>> with survey(item, 8 * 1024 * 1024) as source:
...     source.piece(0), source.digests[0]
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ota.stores.common import open_source, source_changed
from signing import durable
from signing.edition import Upload

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Surveyed:
    """A source whose whole is what was signed; ``part`` is the size of all parts but the last."""

    item: Upload
    part: int
    digests: tuple[bytes, ...]
    _file: io.FileIO

    def length(self, index: int) -> int:
        """Bytes of one part; parts count from 0."""
        return min(self.part, self.item.length - index * self.part)

    def piece(self, index: int) -> bytes:
        """One part, unchanged since the survey, or ``Malformed``; safe in several threads."""
        wanted, start = self.length(index), index * self.part
        data = os.pread(self._file.fileno(), wanted, start)
        while len(data) < wanted:
            more = os.pread(self._file.fileno(), wanted - len(data), start + len(data))
            if not more:
                break
            data += more
        if hashlib.sha256(data).digest() != self.digests[index]:
            raise source_changed(self.item)
        return data


@contextmanager
def survey(item: Upload, part: int) -> Iterator[Surveyed]:
    """Open the source and hash it.

    Raises ``NotFound`` (``source-gone``), ``Malformed`` (``source-changed``) when it is not what
    was signed, ``Outage`` (``io``) when the disk fails, then or later within the block.
    """
    with open_source(item) as file:
        try:
            yield Surveyed(item, part, _digests(file, item, part), file)
        except OSError as e:
            raise durable.outage(item.source, e) from e


def _digests(file: io.FileIO, item: Upload, part: int) -> tuple[bytes, ...]:
    """SHA-256 of each part, at least one, when the whole is what was signed."""
    whole, found, length = hashlib.sha256(), list[bytes](), 0
    buffer = memoryview(bytearray(_CHUNK))
    while length <= item.length:
        piece, left = hashlib.sha256(), part
        while left and (count := file.readinto(buffer[: min(left, _CHUNK)])):
            piece.update(buffer[:count])
            whole.update(buffer[:count])
            left -= count
        length += part - left
        if left < part or not found:
            found.append(piece.digest())
        if left:
            break
    if (length, whole.hexdigest()) != (item.length, item.sha256):
        raise source_changed(item)
    return tuple(found)
