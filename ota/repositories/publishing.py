"""Publishing an edition: finished bytes, durable first, then into the store in order (rule 2).

1. The whole edition is written to the outbox and synced, before the store is touched.
2. Images, then versioned metadata, then one compare-and-swap of ``timestamp.json``: a reader
   sees the old repository or the new one.
3. The outbox entry is removed.

Killed anywhere, :meth:`Publisher.resume` repeats exactly these bytes: every put is idempotent.
An edition that lost the race to another publisher is thrown away (``Busy``); what it left in
the store under its version numbers is never listed, and the next attempt skips them.

>>> Publisher(store, Path("state/outbox")).publish(edition)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path

import msgspec

from ota.errors import Busy, Malformed, NotFound, Refusal
from ota.ports import ArtifactStore
from signing import durable, strict
from signing.edition import Edition, Upload

Progress = Callable[[str, int, int], None]
"""(store name, bytes done, bytes in all), for images only."""

_LIMIT = 512 * 1024 * 1024
_SWAPPED = 4 * 1024 * 1024


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    files: list[tuple[str, str]]
    swap: tuple[str, str, str | None]
    uploads: list[tuple[str, str, str, int]]


class Publisher:
    """Publishes editions of one workspace into one store; one at a time for each kind."""

    def __init__(self, store: ArtifactStore, outbox: Path, *, wait: float = 30.0) -> None:
        self._store = store
        self._outbox = outbox
        self._wait = wait

    def publish(self, edition: Edition, progress: Progress | None = None) -> None:
        """Make it durable, then public. An unfinished edition of the same key goes first.

        Raises ``Busy`` (exit 7) when another publisher was first: nothing of this edition is
        listed then. ``Outage``: it stays in the outbox, and :meth:`resume` completes it.
        """
        path = self._entry(edition.key)
        with self._locked(edition.key):
            self._finish(path, progress)
            durable.replace(path, _encode(edition), mode=0o600)
            self._run(path, edition, progress)

    def resume(self, key: str | None = None, progress: Progress | None = None) -> list[str]:
        """Complete what a killed publisher began; returns the keys that were completed.

        With ``key``, only that edition. One that lost its race meanwhile is dropped silently:
        its owner reads the store again before the next edit.
        """
        paths = [self._entry(key)] if key else sorted(self._outbox.glob("*.json"))
        return [name for path in paths if (name := self._resume(path, progress))]

    def drop(self, key: str) -> bool:
        """Forget an unfinished edition, whose keys are not to be trusted any more."""
        path = self._entry(key)
        with self._locked(key):
            there = path.exists()
            durable.remove(path) if there else None
            return there

    def waiting(self) -> list[str]:
        """Keys of editions that were not completed."""
        found = (self._read(path) for path in sorted(self._outbox.glob("*.json")))
        return [edition.key for edition in found if edition is not None]

    def names(self) -> frozenset[str]:
        """Names of everything that unfinished editions will put into the store."""
        found = (self._read(path) for path in sorted(self._outbox.glob("*.json")))
        editions = [edition for edition in found if edition is not None]
        return frozenset(
            name
            for edition in editions
            for name in (
                *(item.name for item in edition.uploads),
                *(file for file, _ in edition.files),
                edition.swap[0],
            )
        )

    def _resume(self, path: Path, progress: Progress | None) -> str:
        found = self._read(path)
        if found is None:
            return ""
        with self._locked(found.key):
            return self._finish(path, progress)

    def _finish(self, path: Path, progress: Progress | None) -> str:
        edition = self._read(path)
        if edition is None:
            return ""
        try:
            self._run(path, edition, progress)
        except (Busy, NotFound, Malformed):
            return ""
        return edition.key

    def _run(self, path: Path, edition: Edition, progress: Progress | None) -> None:
        try:
            self._write(edition, progress)
        except (Busy, NotFound, Malformed, Refusal):
            durable.remove(path)
            raise
        durable.remove(path)

    def _write(self, edition: Edition, progress: Progress | None) -> None:
        for item in edition.uploads:
            self._store.upload(item, _tick(item, progress))
        for name, data in edition.files:
            self._store.put(name, data)
        name, data, expected = edition.swap
        try:
            self._store.swap(name, data, expected)
        except Busy:
            if self._store.get(name, _SWAPPED) != data:
                raise
        for item in edition.uploads:  # one that lay there unlisted may have been collected since
            if self._store.size(item.name) is None:
                self._store.upload(item, _tick(item, progress))

    def _entry(self, key: str) -> Path:
        return self._outbox / f"{strict.digest(key.encode())[:40]}.json"

    def _read(self, path: Path) -> Edition | None:
        data = durable.read(path, _LIMIT, "outbox")
        return None if data is None else _decode(path, data)

    def _locked(self, key: str) -> durable.Lock:
        return durable.locked(self._outbox / f".{key.partition('/')[0]}.lock", wait=self._wait)


def _tick(item: Upload, progress: Progress | None) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda done: progress(item.name, done, item.length)


def _encode(edition: Edition) -> bytes:
    name, data, expected = edition.swap
    entry = _Entry(
        edition.key,
        [(n, _text(d)) for n, d in edition.files],
        (name, _text(data), None if expected is None else _text(expected)),
        [(u.name, str(u.source), u.sha256, u.length) for u in edition.uploads],
    )
    return msgspec.json.encode(entry)


def _decode(path: Path, data: bytes) -> Edition:
    try:
        entry = msgspec.json.decode(data, type=_Entry, strict=True)
        name, new, expected = entry.swap
        return Edition(
            entry.key,
            tuple((n, _bytes(d)) for n, d in entry.files),
            (name, _bytes(new), None if expected is None else _bytes(expected)),
            tuple(Upload(n, Path(s), h, size) for n, s, h, size in entry.uploads),
        )
    except (msgspec.MsgspecError, binascii.Error) as e:
        raise Malformed(
            f"{path}: not an edition: {e}", subject=str(path), remedy=f"look at it, then rm {path}"
        ) from e


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
