"""Which names an archive may use: pure rules, no file system.

An archive that breaks one is refused whole (``archive-hostile``), never cleaned up quietly:

* names are relative UTF-8 without ``..``, backslash, NUL or other control characters;
* no name stands twice, nor differs from another only by case or Unicode form, because the same
  archive would be another tree on another file system;
* nothing is written through a link: a parent is always a real folder of this archive;
* a symlink is relative and stays inside: leading ``..`` at most up to the top, then plain names.
  Then every chain of such links stays inside as well;
* a hard link names a regular file that came before it.

>>> tree = Tree()
>>> tree.add("bin/run", "file")
('bin', 'run')
"""

from __future__ import annotations

import unicodedata
from typing import Literal, NoReturn

from signing.errors import Refusal

Kind = Literal["file", "folder", "link", "hardlink"]
Parts = tuple[str, ...]

MAX_ENTRIES = 200_000
MAX_DEPTH = 64
MAX_NAME = 1024
MAX_SEGMENT = 240


def hostile(message: str) -> NoReturn:
    """Refuse the archive."""
    raise Refusal("archive-hostile", message)


class Tree:
    """Names seen so far. ``strip`` leading segments are dropped, as in ``tar --strip``."""

    def __init__(self, strip: int = 0, max_entries: int = MAX_ENTRIES) -> None:
        self._strip = strip
        self._max = max_entries
        self._count = 0
        self._kinds: dict[Parts, Kind] = {(): "folder"}
        self._folded: dict[str, Parts] = {}

    def add(self, name: str, kind: Kind) -> Parts | None:
        """Admit one entry; its path segments, or None when nothing is to be written for it.

        Parents that the archive did not list count as folders. Raises ``Refusal``.
        """
        self._count += 1
        if self._count > self._max:
            hostile(f"more than {self._max} entries")
        parts = segments(name)[self._strip :]
        if not parts:
            return None
        for depth in range(1, len(parts)):
            self._admit(parts[:depth], "folder", name)
        self._admit(parts, kind, name)
        return parts

    def _admit(self, parts: Parts, kind: Kind, name: str) -> None:
        known = self._kinds.get(parts)
        if known is not None:
            if known == kind == "folder":
                return
            if known == "link":
                hostile(f"{name!r:.120}: goes through or over a link")
            hostile(f"{name!r:.120}: stands twice")
        if len(self._kinds) > 2 * self._max:
            hostile("too many folders")
        folded = unicodedata.normalize("NFKC", "/".join(parts)).casefold()
        if folded in self._folded:
            hostile(f"{name!r:.120}: differs from another name only by case or form")
        self._folded[folded] = parts
        self._kinds[parts] = kind

    def symlink(self, parts: Parts, target: str) -> str:
        """The target of the link at ``parts`` if it stays inside; else ``Refusal``."""
        where = f"link {'/'.join(parts)!r:.120}"
        _plain(target, where)
        if target.startswith("/"):
            hostile(f"{where} is absolute")
        steps = [step for step in target.split("/") if step not in {"", "."}]
        ups = 0
        while ups < len(steps) and steps[ups] == "..":
            ups += 1
        if ups > len(parts) - 1 or ".." in steps[ups:]:
            hostile(f"{where} leaves the archive")
        return target

    def hardlink(self, name: str, target: str) -> Parts:
        """The earlier regular file that a hard link names; else ``Refusal``."""
        parts = segments(target)[self._strip :]
        itself = parts == segments(name)[self._strip :]
        if itself or self._kinds.get(parts) not in {"file", "hardlink"}:
            hostile(f"{name!r:.120}: hard link to something that is not an earlier file")
        return parts


def segments(name: str) -> Parts:
    """``./bin/run`` -> ``("bin", "run")``; ``Refusal`` for names no honest archive needs."""
    where = f"name {name!r:.120}"
    _plain(name, where)
    if name.startswith("/"):
        hostile(f"{where} is absolute")
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if ".." in parts:
        hostile(f"{where} leaves the archive")
    if len(parts) > MAX_DEPTH or any(len(part.encode()) > MAX_SEGMENT for part in parts):
        hostile(f"{where} is too deep or too long")
    return parts


def _plain(text: str, where: str) -> None:
    if not text or len(text) > MAX_NAME:
        hostile(f"{where} is empty or too long")
    if "\\" in text or any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in text):
        hostile(f"{where} has a backslash, a control character or is not UTF-8")
