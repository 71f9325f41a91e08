"""The policy files as they are written: shapes, and the checks that one file alone allows.

Every error names the file and the key: ``image.toml: root.threshold is 4, of 3 keyholders``.
"""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import msgspec

from signing import durable, strict
from signing.errors import Malformed, NotFound

_LIMIT = 256 * 1024
_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LONGEST = timedelta(days=3660)
_T = TypeVar("_T")


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One role's table."""

    keyholders: list[str]
    threshold: int
    expires: str


class Partial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A component's table; what it lacks comes from ``[targets]``, ``bins`` from the top.

    ``removed``: this component is delegated to no longer.
    """

    keyholders: list[str] | None = None
    threshold: int | None = None
    expires: str | None = None
    bins: int | None = None
    removed: bool = False


class OnlineTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[online]`` of the director."""

    keyholders: list[str]
    threshold: int
    open: str
    idle: str


class ImageTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``image.toml``."""

    root: Table
    targets: Table
    snapshot: Table
    timestamp: Table
    components: dict[str, Partial] = {}
    bins: int = 1


class DirectorTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``director.toml``."""

    root: Table
    online: OnlineTable


class RolloutTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``rollout.toml``."""

    authors: list[str]
    approvers: list[str]
    threshold: int


class Role(msgspec.Struct, frozen=True):
    """One role: names of keyholders, signatures needed, and how long a signature lasts."""

    keyholders: tuple[str, ...]
    threshold: int
    expires: timedelta


def duration(text: str, where: str) -> timedelta:
    """``"90d"``, ``"12h"``, ``"30m"`` -> timedelta of at most ten years; else ``Malformed``."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise Malformed(f'{where}: {text!r:.40} is not a duration such as "90d", "12h"')
    result = int(found[1]) * _UNITS[found[2]]
    if result > _LONGEST:
        raise Malformed(f"{where}: {text} is longer than ten years")
    return result


def read(path: Path, shape: type[_T]) -> _T:
    """One file in its shape; ``Malformed`` names file and key, ``NotFound`` the file."""
    data = durable.read(path, _LIMIT, "policy")
    if data is None:
        raise NotFound(f"{path} is not there", subject=str(path), remedy="ota init")
    try:
        return msgspec.convert(tomllib.loads(data.decode()), shape, strict=True)
    except msgspec.ValidationError as e:
        raise Malformed(f"{path.name}: {_dotted(str(e))}", subject=str(path)) from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Malformed(f"{path.name}: {e}", subject=str(path)) from e


def _dotted(message: str) -> str:
    """``Expected `int` - at `$.root.threshold` `` -> ``root.threshold: Expected `int` ``."""
    text, _, where = message.partition(" - at `$")
    return f"{where.rstrip('`').lstrip('.')}: {text}" if where else text


def role(path: Path, where: str, table: Table, expires: str = "expires") -> Role:
    """A checked role; its threshold can be reached."""
    holders = names(path, f"{where}.keyholders", table.keyholders)
    if not 1 <= table.threshold <= len(holders):
        raise bad(path, f"{where}.threshold", f"is {table.threshold}, of {len(holders)} keyholders")
    life = duration(table.expires, f"{path.name}: {where}.{expires}")
    return Role(holders, table.threshold, life)


def names(path: Path, where: str, listed: list[str]) -> tuple[str, ...]:
    """1 to 64 names of keyholders, none of them twice."""
    if not 1 <= len(listed) <= 64:
        raise bad(path, where, f"lists {len(listed)} keyholders; 1 to 64 are possible")
    for name in listed:
        if not strict.IDENTIFIER.fullmatch(name):
            raise bad(path, where, f"{name!r:.80} is not a keyholder's name")
        if listed.count(name) > 1:
            raise bad(path, where, f"names {name} twice")
    return tuple(listed)


def bad(path: Path, where: str, what: str) -> Malformed:
    """The error for one key of one file."""
    return Malformed(f"{path.name}: {where} {what}", subject=str(path))
