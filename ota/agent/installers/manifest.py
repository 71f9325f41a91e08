"""What a release folder holds: one JSON line per entry, written when it was unpacked.

It lies beside the folder, not in it, and lets ``verify_active`` find missing or changed content.
Files that a running program *adds* (``__pycache__``) are not its business.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ota.agent.installers import durable
from signing.errors import Outage

_LINE = 16_384


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``path`` relative to the folder; ``sha256`` and ``size`` for files, ``target`` for links."""

    path: str
    kind: str
    mode: int = 0
    size: int = 0
    sha256: str = ""
    target: str = ""


def write(path: Path, rows: Iterable[Row]) -> None:
    """Store the manifest atomically and durably."""
    encoder = msgspec.json.Encoder()
    durable.write(path, b"".join(encoder.encode(row) + b"\n" for row in rows))


def read(path: Path) -> Iterator[Row]:
    """Rows one by one; ``Outage`` when it is damaged."""
    decoder = msgspec.json.Decoder(Row)
    with path.open("rb") as file:
        while line := file.readline(_LINE + 1):
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as e:
                raise Outage(
                    "the release's manifest is damaged", code="installer", subject=str(path)
                ) from e


def differences(folder: Path, manifest: Path) -> Iterator[str]:
    """Why ``folder`` is not what was unpacked, entry by entry; nothing when it is."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            yield f"{folder.name}: not a folder"
            return
        for row in read(manifest):
            if fault := _fault(folder / row.path, row):
                yield f"{row.path}: {fault}"
    except FileNotFoundError:
        yield f"{folder.name}: missing"
    except Outage as e:
        yield str(e)


def _fault(path: Path, row: Row) -> str:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    if row.kind == "link":
        return "" if durable.target_of(path) == row.target else "another link"
    if row.kind == "folder":
        return "" if stat.S_ISDIR(found.st_mode) else "not a folder"
    if not stat.S_ISREG(found.st_mode) or found.st_size != row.size:
        return "another size or kind"
    if stat.S_IMODE(found.st_mode) != row.mode:
        return "another mode"
    return "" if sha256(path) == row.sha256 else "another content"


def sha256(path: Path) -> str:
    """Hash of a regular file, never through a link."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
