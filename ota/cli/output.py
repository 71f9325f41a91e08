"""Forms of data on stdout: aligned columns for people, JSON and CSV for programs. Pure.

>>> print(rows("table", [{"id": "gw-1", "state": "active"}], ["id", "state"]), end="")
ID    STATE
gw-1  active
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from signing import strict

if TYPE_CHECKING:
    from ota.ports import Device

_MOST = 50
"""Of one list in a table of details; what is above it has more important things to say."""
_RISKY = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula."""


def last_word(device: Device, with_receipt: Container[str]) -> str:
    """Whether a retired device left a verified receipt: ``verified``, ``none``; else ""."""
    if device.state != "retired":
        return ""
    return "verified" if device.id in with_receipt else "none"


def rows(form: str, items: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A list of things, in these columns; JSON keeps every field."""
    if form == "json":
        return _json(list(items))
    cells = [[_text(item.get(name)) for name in columns] for item in items]
    if form == "csv":
        return _csv([list(columns), *cells])
    return _aligned([[name.replace("_", " ").upper() for name in columns], *cells])


def record(form: str, item: Mapping[str, Any]) -> str:
    """One thing."""
    if form == "json":
        return _json(item)
    if form == "csv":
        return _csv([list(item), [_text(value) for value in item.values()]])
    return _aligned([[f"{name.replace('_', ' ')}:", _text(value)] for name, value in item.items()])


def details(form: str, item: Mapping[str, Any]) -> str:
    """One thing with parts: in a table, each list (or mapping) of things gets its own."""
    if form == "json":
        return _json(item)
    parts = {name: lines for name, value in item.items() if (lines := _part(value)) is not None}
    plain = {name: value for name, value in item.items() if name not in parts}
    if form == "csv":
        texts = {name: json.dumps(item[name], default=_plain) for name in parts}
        return record(form, plain | texts)
    shown = {n: _short(value) for n, value in plain.items() if value not in ([], (), {})}
    blocks = [record(form, shown)] if shown else []
    for name, lines in parts.items():
        if lines:
            columns = list(dict.fromkeys(key for line in lines for key in line))
            more = _more(len(lines), "\n")
            blocks.append(f"{name.replace('_', ' ')}:\n{rows(form, lines[:_MOST], columns)}{more}")
    return "\n".join(blocks)


def _more(length: int, end: str = "") -> str:
    """How many are left out of a table for people, and where they are."""
    return f"... and {length - _MOST} more: -o json{end}" if length > _MOST else ""


def _short(value: Any) -> Any:
    """A list within a record, cut where nobody would read on."""
    if isinstance(value, Mapping) and len(value) > _MOST:
        return dict(list(value.items())[:_MOST]) | {_more(len(value)): ""}
    if isinstance(value, (list, tuple)) and len(value) > _MOST:
        return [*value[:_MOST], _more(len(value))]
    return value


def _part(value: Any) -> list[Mapping[str, Any]] | None:
    """Rows of a list of mappings or of a mapping of mappings; None for anything plainer."""
    if isinstance(value, Mapping) and value and all(isinstance(v, Mapping) for v in value.values()):
        return [{"name": name, **inner} for name, inner in value.items()]
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, Mapping) for v in value):
        return list(value)
    return None


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return strict.stamp(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return strict.stamp(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ",".join(f"{k}={_text(v)}" for k, v in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ",".join(map(_text, value)) or "-"
    return strict.shown(str(value))


def _csv(lines: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for line in lines:
        writer.writerow(["" if c == "-" else f"'{c}" if _risky(c) else c for c in line])
    return file.getvalue()


def _risky(cell: str) -> bool:
    return cell.startswith(_RISKY) and not cell.lstrip("-").isdigit()


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )
