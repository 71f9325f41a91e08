"""An edition: finished, signed bytes on their way into a store.

Images first, then versioned metadata, then one compare-and-swap of ``timestamp.json``: a reader
sees the old repository or the new one, never a mixture. Publishers keep an edition durably
before the first put; a resumed publish repeats exactly these bytes (rule 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Upload:
    """An image to put: ``source`` is re-hashed against ``sha256`` while it is copied."""

    name: str
    source: Path
    sha256: str
    length: int


@dataclass(frozen=True)
class Edition:
    """What one publish writes, in order: ``uploads``, ``files``, then the swap.

    ``files`` are ``(store name, bytes)`` and immutable. ``swap`` is ``(store name, new bytes,
    bytes expected there now or None)``. ``key`` names the thing that changes: ``image``,
    ``director/<device id>``.
    """

    key: str
    files: tuple[tuple[str, bytes], ...]
    swap: tuple[str, bytes, bytes | None]
    uploads: tuple[Upload, ...] = field(default=())


class Reader(Protocol):
    """The reading half of a store: bytes of ``name``, or None when there is none.

    Raises ``Outage`` when it can not tell, ``Refusal("oversize")`` past ``limit`` bytes.
    """

    def __call__(self, name: str, limit: int) -> bytes | None:
        """Read one small object."""
