"""What an operator's own machine has seen of a repository: nobody rolls it back behind its back.

Whoever holds the store could show the operator an older, honestly signed state: approvers who
were since removed, a release that was since yanked. So the newest verified metadata is kept in
the workspace, and every later reading starts from it, as a device's does.

Files are written one by one, each atomically: every one of them was verified, so a half-written
set is a true, if older, memory. A slower process never writes an older set over a newer one.

>>> memory = Memory(Path("state/seen/image"))
>>> client = TufClient(memory.load() | {...}, fetch, now); client.refresh(); memory.keep(client)
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from urllib.parse import quote, unquote

from signing import durable
from signing.client import TufClient
from signing.errors import Malformed

_LIMIT = 64 * 1024 * 1024


class Memory:
    """Remembered metadata in ``folder``, by plain names (``timestamp.json`` ...)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> dict[str, bytes]:
        """What is remembered; empty before the first reading."""
        found: dict[str, bytes] = {}
        for path in sorted(self._folder.glob("*.json")):
            data = durable.read(path, _LIMIT, "remembered metadata")
            if data is not None:
                found[unquote(path.name)] = data
        return found

    def keep(self, client: TufClient) -> None:
        """Remember what this client verified, unless something newer is remembered already."""
        new = client.cache()
        if new == self.load():
            return
        with durable.locked(self._folder / ".lock", wait=10.0):
            old = self.load()
            if _version(old.get("timestamp.json")) > client.timestamp.version and _same_root(
                old, new
            ):
                return
            for name in sorted(new, key=_last_root):
                if old.get(name) != new[name]:
                    durable.replace(self._folder / quote(name, safe=""), new[name])
            for name in set(old) - set(new):
                durable.remove(self._folder / quote(name, safe=""))


def _same_root(old: dict[str, bytes], new: dict[str, bytes]) -> bool:
    return old.get("root.json") == new.get("root.json")


def _last_root(name: str) -> tuple[bool, str]:
    return name == "root.json", name


def _version(data: bytes | None) -> int:
    from tuf.api.exceptions import RepositoryError  # noqa: PLC0415 - only when sets differ
    from tuf.api.metadata import Metadata  # noqa: PLC0415 - the same

    if data is None:
        return 0
    with contextlib.suppress(RepositoryError, Malformed):
        return Metadata.from_bytes(data).signed.version
    return 0
