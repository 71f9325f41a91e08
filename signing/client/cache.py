"""What a client starts from, and what it has verified since: bytes by plain name, read when asked.

A workspace with thousands of hash bins keeps them in a folder; one look needs three of them. So
the cache that goes into a client, and the one that comes out of it, are mappings that read a file
when somebody asks for it.

>>> cache = Cache(Folder(path, "remembered metadata"))
>>> cache.old("targets.json")
b'{"signatures": ...'
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from signing import durable

_LIMIT = 64 * 1024 * 1024


class Folder(Mapping[str, bytes]):
    """The ``*.json`` files of a folder by their unquoted names; ``others`` where there is none."""

    def __init__(
        self, path: Path, what: str, others: Mapping[str, bytes] | None = None, limit: int = _LIMIT
    ) -> None:
        self._path = path
        self._what = what
        self._others = others or {}
        self._limit = limit

    def __getitem__(self, name: str) -> bytes:
        data = durable.read(self._path / quote(name, safe=""), self._limit, self._what)
        return self._others[name] if data is None else data

    def __iter__(self) -> Iterator[str]:
        found = (unquote(path.name) for path in self._path.glob("*.json"))
        return iter(sorted({*found, *self._others}))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Cache:
    """``old``: what is there, until it is forgotten. ``new``: what was verified in this refresh."""

    def __init__(self, old: Mapping[str, bytes]) -> None:
        self._old = old
        self._forgotten: set[str] = set()
        self.new: dict[str, bytes] = {}

    def old(self, name: str) -> bytes | None:
        """Bytes from before this refresh, or None."""
        return None if name in self._forgotten else self._old.get(name)

    def forget(self, *names: str) -> None:
        """Act as if these had never been there."""
        self._forgotten.update(names)

    def older(self) -> Iterator[str]:
        """Names that were there before, are not forgotten, and not read anew."""
        return (n for n in self._old if n not in self._forgotten and n not in self.new)

    def view(self, older: frozenset[str]) -> Mapping[str, bytes]:
        """What was verified, and these older ones, as it is now."""
        return _View(dict(self.new), self._old, older)


class _View(Mapping[str, bytes]):
    def __init__(
        self, new: Mapping[str, bytes], old: Mapping[str, bytes], older: frozenset[str]
    ) -> None:
        self._new = new
        self._old = old
        self._older = older

    def __getitem__(self, name: str) -> bytes:
        if name in self._new:
            return self._new[name]
        if name in self._older:
            return self._old[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return itertools.chain(self._new, self._older)

    def __len__(self) -> int:
        return len(self._new) + len(self._older)
