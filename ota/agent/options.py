"""Strict reading of ``agent.toml``, whole or one option table of it, into a frozen Struct.

Unknown keys, missing keys and wrong types are ``Malformed`` naming the place and the key, so a
misspelt ``restrat`` is an error at start and never a missing restart after an update.

>>> class Words(msgspec.Struct, forbid_unknown_fields=True):
...     path: str
>>> read(Words, {"path": "/opt/app"}, "component app").path
'/opt/app'
"""

from __future__ import annotations

import os.path
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from signing import durable
from signing.errors import Malformed, NotFound

T = TypeVar("T", bound=msgspec.Struct)

Argv = Annotated[tuple[Annotated[str, msgspec.Meta(min_length=1)], ...], msgspec.Meta(min_length=1)]
"""A program and its arguments; never a shell string."""
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]

_LIMIT = 256 * 1024


def load(path: Path, kind: type[T]) -> T:
    """The whole file; ``NotFound``, or ``Malformed`` naming the file and the key."""
    data = durable.read(path, _LIMIT, "agent.toml")
    if data is None:
        raise NotFound(
            f"there is no {path}",
            subject=str(path),
            remedy="write it, or name another: --config FILE behind the verb",
        )
    try:
        return msgspec.convert(tomllib.loads(data.decode()), kind, strict=True)
    except (
        msgspec.ValidationError,
        UnicodeDecodeError,
        tomllib.TOMLDecodeError,
        RecursionError,
    ) as e:
        raise Malformed(f"{path}: {e}", subject=str(path), remedy=f"correct {path}") from e


def read(kind: type[T], raw: Mapping[str, Any], where: str) -> T:
    """Convert ``raw`` strictly; ``Malformed`` says ``where`` and which key."""
    try:
        return msgspec.convert(dict(raw), kind, strict=True)
    except msgspec.ValidationError as e:
        raise Malformed(f"{where}: {e}", subject=where, remedy="correct agent.toml") from e


def absolute(text: str, where: str, key: str) -> Path:
    """An absolute, normalised path without NUL, or ``Malformed``."""
    if not text.startswith("/") or "\0" in text or os.path.normpath(text) != text.rstrip("/"):
        raise Malformed(
            f"{where}: {key}: {text!r:.120} is not an absolute path without . or ..",
            subject=where,
            remedy="correct agent.toml",
        )
    return Path(text)
