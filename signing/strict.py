"""Strict readers for everything that comes from outside: JSON, identifiers, times.

JSON here has no duplicate keys, no floats, no NaN, no half surrogate pairs, no deep nesting and a
stated size limit, because each of those lets two readers see two documents under one signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any, NoReturn

from securesystemslib.formats import encode_canonical

from signing.errors import Malformed

IDENTIFIER = re.compile(r"[A-Za-z0-9:_-]{1,128}")
"""Device ids, components, hardware ids, key names, role names (DESIGN rule 14)."""
ORDER = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Order ids."""
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_STAMP = "%Y-%m-%dT%H:%M:%SZ"
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_DEPTH = 32
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""What may be half of a surrogate pair, which no encoding can write."""


def identifier(text: object, what: str) -> str:
    """Return ``text`` if it is an identifier, else raise ``Malformed`` naming ``what``."""
    return _match(IDENTIFIER, text, what)


def file_name(text: object, what: str) -> str:
    """Return ``text`` if it is one safe path segment, else raise ``Malformed``."""
    return _match(FILE_NAME, text, what)


def version_text(text: object, what: str) -> str:
    """Return ``text`` if it is a display version, else raise ``Malformed``."""
    return _match(VERSION, text, what)


def _match(pattern: re.Pattern[str], text: object, what: str) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        shown = repr(text)[:80]
        raise Malformed(f"{what}: {shown} does not match {pattern.pattern}", subject=what)
    return text


def instant(text: object, what: str = "time") -> datetime:
    """``2026-11-23T08:00:00Z`` -> aware UTC datetime; anything else raises ``Malformed``."""
    if not isinstance(text, str) or not _INSTANT.fullmatch(text):
        raise Malformed(f"{what}: not a time: {text!r:.80}", subject=what)
    try:
        return datetime.fromisoformat(text)
    except ValueError as e:
        raise Malformed(f"{what}: not a time: {text!r:.80}", subject=what) from e


def stamp(moment: datetime) -> str:
    """The signed text form of an aware datetime, in UTC, whole seconds."""
    return moment.astimezone(UTC).strftime(_STAMP)


def canonical(value: Any) -> bytes:
    """OLPC canonical JSON, the form that TUF signs (TUF specification 4.2.1)."""
    text = encode_canonical(value)
    assert text is not None  # noqa: S101 - only None when an output function is passed
    return text.encode()


def compact(value: Any) -> bytes:
    """Compact JSON with sorted keys, which :func:`loads` reads back; ``Malformed`` for floats.

    Unlike :func:`canonical` it escapes control characters, so that texts of several lines (PEM
    keys, a probe's last words) are still JSON. For documents that are signed as bytes.
    """
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    loads(data, limit=len(data))
    return data


def shown(text: str) -> str:
    """``text`` for a terminal: one line, with ``?`` for what could steer it.

    Messages repeat words of files and of other machines, so nothing is printed without this.
    """
    line = " ".join(text.splitlines())
    return "".join(c if c.isprintable() else "?" for c in line)


def digest(data: bytes) -> str:
    """Lower-case hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def loads(data: bytes, *, limit: int, what: str = "document") -> Any:
    """Parse strict JSON of at most ``limit`` bytes; raise ``Malformed`` for anything else."""
    if len(data) > limit:
        raise Malformed(f"{what}: {len(data)} bytes, the limit is {limit}", subject=what)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_float=_no_float,
            parse_constant=_no_float,
        )
    except (ValueError, RecursionError) as e:
        raise Malformed(f"{what}: not strict JSON: {e}", subject=what) from e
    _bounded(value, _DEPTH, what)
    if _HALF.search(data):
        _whole_text(value, what)
    return value


def _whole_text(value: Any, what: str) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        raise Malformed(f"{what}: half a surrogate pair is not text", subject=what) from e


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not an integer")


def _bounded(value: Any, depth: int, what: str) -> None:
    if depth == 0:
        raise Malformed(f"{what}: nested deeper than {_DEPTH}", subject=what)
    if isinstance(value, dict):
        for item in value.values():
            _bounded(item, depth - 1, what)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, (dict, list)):
                _bounded(item, depth - 1, what)
