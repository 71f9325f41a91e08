"""Notes of hashes computed earlier, each valid only for the very same, unmodified file.

A note names device, inode, size and modification time; it follows a file through renames and
links, and a file put there by anyone else has none, so it is read. A note spares reading, it
never proves: ``verify_active`` reads.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from ota.agent.installers import durable
from ota.agent.installers.manifest import sha256

_MAX = 64
_LIMIT = 65_536
Notes = dict[str, str]


class Hashes:
    """Kept in ``path``, a small JSON file in the agent's private folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, path: Path, *, fresh: bool = False) -> str:
        """Hash of a regular file, "" when there is none; ``fresh`` reads it in any case."""
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        if not stat.S_ISREG(found.st_mode):
            return ""
        known = self._load().get(_key(found))
        if known is None or fresh:
            known = sha256(path)
            self.note(path, known)
        return known

    def note(self, path: Path, digest: str) -> None:
        """Remember what was just computed or verified for ``path``."""
        key = _key(os.lstat(path))
        notes = self._load()
        if notes.get(key) == digest:
            return
        notes.pop(key, None)
        notes[key] = digest
        newest = dict(list(notes.items())[-_MAX:])
        durable.make_folder(self._path.parent, 0o700)
        durable.write(self._path, msgspec.json.encode(newest), 0o600)

    def _load(self) -> Notes:
        """Damaged or missing notes only cost time."""
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(_LIMIT), type=Notes)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return {}


def _key(found: os.stat_result) -> str:
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
