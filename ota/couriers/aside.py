"""A folder for deliveries that were refused: kept for a person, named, never offered again.

    <folder>/<32 hex digits>.json      the bytes as they came
    <folder>/<32 hex digits>.reason    why, and where from, one line

Named after content and reason, so that the same thing twice is kept once. Bounded: what comes when it is
full is not kept, because who can fill a disk with garbage could stop the honest; the step that saw it
still names it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ota.errors import Outage
from signing import durable, strict

MOST: Final = 10_000
"""Deliveries kept."""


class Aside:
    """One folder of refused deliveries."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        self._folder = folder
        self._most = most
        self._count = -1

    def keep(self, data: bytes, reason: str) -> None:
        """Keep these bytes, durable on return; ``Outage`` where they can not be written."""
        name = strict.digest(data + b"\0" + reason.encode("utf-8", "replace"))[:32]
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._full() or (self._folder / f"{name}.reason").exists():
                return
            durable.replace(self._folder / f"{name}.json", data, mode=0o600)
            line = "".join(c if c.isprintable() else " " for c in reason)[:4000]
            durable.replace(self._folder / f"{name}.reason", f"{line}\n".encode(), mode=0o600)
        except OSError as e:
            raise Outage(
                f"quarantine: {self._folder}: {e.strerror}",
                code="quarantine",
                subject=str(self._folder),
                remedy="make room or mend its permissions; reports wait in their queue",
            ) from e
        self._count += 1

    def _full(self) -> bool:
        if self._count < 0:
            self._count = sum(path.suffix == ".reason" for path in self._folder.iterdir())
        return self._count >= self._most
