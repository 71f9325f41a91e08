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
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from signing import bins, durable, rootfile
from signing.client.cache import Folder
from signing.client.workflow import TufClient
from signing.errors import Malformed


class Memory:
    """Remembered metadata in ``folder``, by plain names (``timestamp.json`` ...)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, root: bytes | None = None) -> Mapping[str, bytes]:
        """What is remembered, read when asked; empty before the first reading.

        ``root`` stands in for the root of a memory that has none yet.
        """
        others = {} if root is None else {"root.json": root}
        found = Folder(self._folder, "remembered metadata", others)
        if "root.json" in found:
            path = self._folder / "root.json"
            rootfile.check(found["root.json"], path, "ota repo verify; then remove that folder")
        return found

    def keep(self, client: TufClient) -> None:
        """Remember what this client verified, unless something newer is remembered already."""
        new, old = client.verified(), self.load()
        if all(old.get(name) == data for name, data in new.items()):
            return
        with durable.locked(self._folder / ".lock", wait=10.0):
            if _version(old.get("timestamp.json")) > client.timestamp.version and _same_root(
                old, new
            ):
                return
            gone = set(old) - set(client.cache())
            for name in sorted(new, key=_last_root):
                if old.get(name) != new[name]:
                    durable.replace(self._folder / quote(name, safe=""), new[name])
            for name in gone:
                durable.remove(self._folder / quote(name, safe=""))

    def note(self, name: str, data: bytes) -> None:
        """Keep one hash bin so that it need not be fetched again; a torn one is fetched again.

        Its version is remembered by the snapshot, so nothing depends on it: it is not synced.
        """
        if bins.is_bin(name.removesuffix(".json")):
            durable.replace(self._folder / quote(name, safe=""), data, sync=False)


def _same_root(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> bool:
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
