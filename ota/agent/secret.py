"""Secrets of the device by reference: ``file:/PATH`` or ``env:NAME``, never a value.

>>> read("file:/etc/ota-agent/pin", "identity.pin")
b'1234'
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from signing import durable
from signing.errors import Malformed, NotFound, NotPermitted

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LIMIT: Final = 4096


def check(reference: str, key: str) -> None:
    """``Malformed`` for what is no reference; it is not repeated, for it may be the secret."""
    kind, _, rest = reference.partition(":")
    if not (kind == "file" and rest.startswith("/")) and not (
        kind == "env" and _NAME.fullmatch(rest)
    ):
        raise Malformed(f'{key}: neither "file:/PATH" nor "env:NAME"', subject=key)


def read(reference: str, key: str) -> bytes:
    """The secret, without the line's end; ``NotFound``, or ``NotPermitted`` for an open file."""
    check(reference, key)
    kind, _, rest = reference.partition(":")
    if kind == "env":
        if rest not in os.environ:
            raise NotFound(f"{key}: no variable {rest}", subject=rest, remedy=f"export {rest}=...")
        return os.environb[rest.encode()]
    path = Path(rest)
    data = durable.read(path, _LIMIT, key)
    if data is None:
        raise NotFound(f"{key}: there is no {path}", subject=rest, remedy="correct agent.toml")
    if stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise NotPermitted(
            f"{key}: {path} can be read by others",
            code="secret-readable",
            subject=rest,
            remedy=f"chmod 600 {path}",
        )
    return data.rstrip(b"\r\n")
