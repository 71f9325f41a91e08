"""One repository's trusted metadata on disk: scratch and adopt, verified roots at once.

``roots/N.root.json``   every verified root, written the moment it is verified
``gen-N/``              one complete adopted set under plain names (``root.json`` ...)
``current``             a symlink to the adopted generation

A refresh never writes into the adopted set. ``adopt`` makes a new generation beside it, links into
it what has not changed, writes what has, syncs its files and folder, side by side, then swaps
``current`` by one rename and syncs again. Killed at any point, the old set stands or the new one
does; leftovers are removed by the next adoption, before it takes any room, and at once by one that
fails: a full disk that has room again is enough.

>>> folder = TrustFolder(path)
>>> folder.provision(root_bytes)
>>> folder.adopt(client.cache())
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from ota.agent.damage import damaged
from signing import durable
from signing.errors import NotFound, Outage
from signing.report import Versions

_GENERATION = re.compile(r"gen-(\d{1,12})")
_ROOT = re.compile(r"(\d{1,10})\.root\.json")


class TrustFolder:
    """See the module. ``path`` is created with mode 0700 by :meth:`provision`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def provision(self, root: bytes) -> None:
        """Take the first root, as a file from the owner, never from the store (rule 14)."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.path / "roots").mkdir(mode=0o700, exist_ok=True)
        self.adopt({"root.json": root})

    def load(self) -> dict[str, bytes]:
        """The adopted set by plain name; ``NotFound`` when nothing was provisioned.

        ``Outage`` (``state-damaged``) when it is without its root.
        """
        current = self.path / "current"
        try:
            found = {unquote(p.name): p.read_bytes() for p in sorted(current.iterdir())}
        except FileNotFoundError as e:
            raise NotFound(
                f"no trust anchor in {self.path}",
                subject=str(self.path),
                remedy="ota-agent provision",
            ) from e
        except OSError as e:
            raise self.damaged(e.strerror or str(e)) from e
        if "root.json" not in found:
            raise self.damaged("the trust anchor is missing")
        return found

    def damaged(self, why: str) -> Outage:
        """What is kept here can not be used; the store is not to blame, and nothing is made anew."""
        return damaged(str(self.path), f"{self.path}: {why}")

    def versions(self) -> Versions:
        """Versions of what is adopted, and of the newest root; 0 for what was never seen."""
        files = self.load()
        newest = self.newest_root()
        if newest is not None:
            files["root.json"] = newest

        def version(name: str) -> int:
            data = files.get(f"{name}.json")
            # It was verified when it was kept, by python-tuf, which reads JSON as ``json`` does:
            # what a courier puts beside the signed part (a float, a key twice) is no reason to
            # stop here.
            # What a failing disk has made unreadable is forgotten, as the next look does too.
            try:
                return 0 if data is None else int(json.loads(data)["signed"]["version"])
            except (ValueError, TypeError, KeyError, RecursionError):
                return 0

        return Versions(
            root=version("root"),
            timestamp=version("timestamp"),
            snapshot=version("snapshot"),
            targets=version("targets"),
        )

    def newest_root(self) -> bytes | None:
        """The newest root kept by :meth:`keep_root`, which may be ahead of the adopted set."""
        versions = {
            int(m[1]): name
            for name in _names(self.path / "roots")
            if (m := _ROOT.fullmatch(name)) is not None
        }
        if not versions:
            return None
        with durable.seam(self.path):
            return (self.path / "roots" / versions[max(versions)]).read_bytes()

    def keep_root(self, version: int, data: bytes) -> None:
        """Keep a verified root durably before anything is built on it."""
        roots = self.path / "roots"
        with durable.seam(self.path):
            temporary = roots / f".{version}.tmp"
            durable.write_new(temporary, data, 0o600)
            temporary.replace(roots / f"{version}.root.json")
            durable.sync_folder(roots)

    def adopt(self, files: Mapping[str, bytes]) -> None:
        """Make ``files`` the trusted set: all of them, or on any failure none."""
        with durable.seam(self.path):
            self._clear()
            number = 1 + max(self._generations(), default=0)
            scratch = self.path / f"gen-{number}"
            scratch.mkdir(mode=0o700)
            try:
                self._write(scratch, files)
                link = self.path / ".current"
                link.unlink(missing_ok=True)
                link.symlink_to(scratch.name)
                link.replace(self.path / "current")
            except OSError:
                if self._standing() != scratch.name:
                    shutil.rmtree(scratch, ignore_errors=True)
                raise
            durable.sync_folder(self.path)
        self._sweep(keep=scratch.name)

    def _write(self, scratch: Path, files: Mapping[str, bytes]) -> None:
        new = {quote(name, safe=""): data for name, data in files.items()}
        for name in [n for n, data in new.items() if self._linked(n, data, scratch)]:
            del new[name]
        durable.write_folder(scratch, new, 0o600)

    def _clear(self) -> None:
        """Make room: what a kill has left holds the space that the next set needs.

        What stands is made durable first: a rename that could not be synced may still be undone.
        """
        standing = self._standing()
        if any(f"gen-{number}" != standing for number in self._generations()):
            durable.sync_folder(self.path)
            self._sweep(keep=standing)

    def _standing(self) -> str:
        """The adopted generation, "" before the first."""
        try:
            return (self.path / "current").readlink().name
        except OSError:
            return ""

    def _linked(self, name: str, data: bytes, scratch: Path) -> bool:
        """Take over a file that is the same as in the adopted set: it is durable already."""
        known = self.path / "current" / name
        try:
            if known.read_bytes() != data:
                return False
            (scratch / name).hardlink_to(known)
        except OSError:  # not there, or a file system without hard links: it is written anew
            return False
        return True

    def _generations(self) -> list[int]:
        return [int(m[1]) for n in _names(self.path) if (m := _GENERATION.fullmatch(n)) is not None]

    def _sweep(self, keep: str) -> None:
        for name in _names(self.path):
            if _GENERATION.fullmatch(name) and name != keep:
                shutil.rmtree(self.path / name, ignore_errors=True)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names only
    except FileNotFoundError:
        return []
