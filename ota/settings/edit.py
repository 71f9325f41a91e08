"""One line more in ``[keys]`` of ``ota.toml``, with everything else left byte for byte.

A settings file belongs to people, with their comments and their order, so it is edited as text
and not written anew. What comes out is read back: it must say what it said before, and the new
line; where that can not be done, the line to write by hand is named.

>>> add_key(settings, "root-1", "hsm:1?label=plant")
"""

from __future__ import annotations

import json
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from ota.errors import Malformed, NotPermitted, Outage
from ota.settings.settings import FILE, LIMIT, Settings, load
from signing import durable, strict

_TABLE = re.compile(r"^[ \t]*\[[ \t]*keys[ \t]*\][ \t]*(#.*)?$", re.MULTILINE)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def check_key(settings: Settings, name: str, uri: str) -> None:
    """Raise ``NotPermitted`` (``exists``) where ``ota.toml`` names another source for this key."""
    strict.identifier(name, "key name")
    known = settings.document.keys.get(name, uri)
    if known != uri:
        raise NotPermitted(
            f"{FILE} names another source for the key of {name}",
            code="exists",
            subject=name,
            remedy=f"edit [keys] {name} in {FILE}",
        )


def add_key(settings: Settings, name: str, uri: str) -> None:
    """Make ``[keys]`` say where the private key of ``name`` is; a line that says so stays.

    Raises ``NotPermitted`` (``exists``), ``Malformed`` with the line to write by hand, ``Outage``.
    """
    check_key(settings, name, uri)
    if settings.key_uri(name) == uri:
        return
    path = settings.workspace / FILE
    old = _text(path)
    key = name if _BARE.fullmatch(name) else json.dumps(name)
    line = f"{key} = {json.dumps(uri, ensure_ascii=False)}"
    new = _with(old, line)
    if not _says(old, new, name, uri):
        raise Malformed(
            f"{FILE}: [keys] can not be edited", subject=str(path), remedy=f"write it: {line}"
        )
    durable.replace(path, new.encode(), mode=_mode(path))
    load(settings.workspace, settings.env)


def _text(path: Path) -> str:
    data = durable.read(path, LIMIT, FILE)
    try:
        return (data or b"").decode()
    except UnicodeDecodeError as e:
        raise Malformed(f"{FILE}: {e}", subject=str(path)) from e


def _with(text: str, line: str) -> str:
    found = _TABLE.search(text)
    if found is None:
        gap = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{gap}\n[keys]\n{line}\n"
    return f"{text[: found.end()]}\n{line}{text[found.end() :]}"


def _says(old: str, new: str, name: str, uri: str) -> bool:
    try:
        before: dict[str, Any] = tomllib.loads(old)
        after = tomllib.loads(new)
    except (tomllib.TOMLDecodeError, RecursionError):
        return False
    before["keys"] = {**before.get("keys", {}), name: uri}
    return after == before


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError as e:
        raise Outage(f"{path}: {e.strerror}", subject=str(path)) from e
