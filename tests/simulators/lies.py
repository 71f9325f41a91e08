"""Ways to damage a file in a store, and what a device must not change when it sees them.

>>> with damaged(path, DAMAGE["truncated"]):
...     gateway.look()
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simulators.plant import Gateway

Damage = Callable[[bytes], bytes]


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _flip_signed(data: bytes) -> bytes:
    """A digit of a version: the most that one bit can say."""
    marker = b'"version": ' if b'"version": ' in data else b'"version":'
    return _flip(data, data.rindex(marker) + len(marker))


def _flip_signature(data: bytes) -> bytes:
    marker = b'"sig"'
    return _flip(data, data.index(marker) + 12)


DAMAGE: dict[str, Damage] = {
    "flipped": lambda data: _flip(data, len(data) // 2),
    "version-flipped": _flip_signed,
    "signature-flipped": _flip_signature,
    "first-bit-flipped": lambda data: _flip(data, 0),
    "last-bit-flipped": lambda data: _flip(data, len(data) - 1),
    "truncated": lambda data: data[: len(data) // 2],
    "one-byte-short": lambda data: data[:-1],
    "emptied": lambda _data: b"",
    "oversized": lambda data: data + b" " * (20 << 20),
    "garbage": lambda data: bytes(range(256)) * 8,
    "deep": lambda _data: b"[" * 100_000,
}
"""What each damage makes of a file's bytes."""


@contextmanager
def damaged(path: Path, damage: Damage) -> Iterator[None]:
    """The file is damaged for as long as the block lasts."""
    honest = path.read_bytes()
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(damage(honest))
    try:
        yield
    finally:
        path.write_bytes(honest)
        path.chmod(mode)


def memory(gateway: Gateway, repository: str) -> dict[str, str]:
    """File -> hash of what the device trusts of one repository."""
    folder = gateway.home / "state" / "trust" / repository
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
