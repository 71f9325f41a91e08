"""Fleet lists as CSV and JSON: reading them strictly, writing them safely.

CSV has a header. ``id`` is required; ``key``, ``courier`` and ``label:NAME`` are read; ``state``,
``last_seen`` and ``component:NAME`` are written by an export and passed over by an import, so
that an export can be edited and imported again. An empty label cell removes the label; an empty
courier leaves the courier as it is. JSON is ``{"schema": 1, "devices": [{"id": ..., "key": ...,
"courier": ..., "labels": {...}}]}``, where a label of ``null`` is removed.

Reading is all or nothing. Errors name file, line and column (CSV) or file and key (JSON).

Writing: a cell that begins with ``= + - @``, a tab or a carriage return is written with a ``'``
before it, because spreadsheets would run it as a formula; reading takes that ``'`` off again.
Source: OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ota.errors import Malformed, NotFound
from ota.fleet.entries import Entry, check_courier, check_key, check_value
from ota.ports import Device
from signing import durable, strict

MAX_BYTES = 256 * 1024 * 1024
MAX_ROWS = 2_000_000
_LABEL = "label:"
_PASSED_OVER = ("state", "last_seen")
_COMPONENT = "component:"
_RISKY = ("=", "+", "-", "@", "\t", "\r")
_FIELDS = {"id", "key", "courier", "labels", "state", "last_seen", "components"}


def read(path: Path) -> list[Entry]:
    """Entries of a ``.csv`` or ``.json`` file; ``Malformed``, ``NotFound``, ``Outage``."""
    data = durable.read(path, MAX_BYTES, "fleet list")
    if data is None:
        raise NotFound(f"{path}: there is no such file", subject=str(path), remedy="ls -l")
    if path.suffix.lower() == ".json":
        return read_json(data, str(path))
    return read_csv(data, str(path))


def read_csv(data: bytes, source: str) -> list[Entry]:
    """Entries of a CSV file; ``source`` names it in errors."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise Malformed(f"{source}:{line}: not UTF-8", subject=source) from e
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise Malformed(f"{source}: it is empty; the first line names the columns")
        columns = _header(header, source)
        entries = [
            _csv_row(columns, header, row, f"{source}:{reader.line_num}") for row in reader if row
        ]
    except csv.Error as e:
        raise Malformed(f"{source}:{reader.line_num}: {e}", subject=source) from e
    return _distinct(entries, source)


def read_json(data: bytes, source: str) -> list[Entry]:
    """Entries of a JSON file; ``source`` names it in errors."""
    document = strict.loads(data, limit=MAX_BYTES, what=source)
    if not isinstance(document, dict) or document.get("schema") != 1:
        raise Malformed(f'{source}: not {{"schema": 1, "devices": [...]}}', subject=source)
    unknown = set(document) - {"schema", "devices"}
    if unknown or not isinstance(document.get("devices"), list):
        named = ", ".join(sorted(unknown)) or "devices"
        raise Malformed(f"{source}: {named:.80}: unknown, missing or not a list", subject=source)
    items = document["devices"]
    return _distinct([_json_row(x, f"{source}: devices[{n}]") for n, x in enumerate(items)], source)


def csv_text(devices: Iterable[Device]) -> str:
    """All devices as CSV, one column for every label and component that any of them has."""
    listed = list(devices)
    labels = sorted({key for d in listed for key in d.labels})
    components = sorted({name for d in listed for name in d.components})
    out = io.StringIO(newline="")
    writer = csv.writer(out)  # ends lines with CRLF (RFC 4180), and so quotes both
    writer.writerow(
        ["id", "key", "courier", *_PASSED_OVER]
        + [_LABEL + key for key in labels]
        + [_COMPONENT + name for name in components]
    )
    for d in listed:
        cells = [d.id, d.key.keyid, d.courier, d.state, _seen(d)]
        cells += [d.labels.get(key, "") for key in labels]
        cells += [_running(d, name) for name in components]
        writer.writerow([safe_cell(cell) for cell in cells])
    return out.getvalue()


def json_text(devices: Iterable[Device]) -> str:
    """All devices as JSON, readable by :func:`read_json`."""
    rows = [
        {
            "id": d.id,
            "key": d.key.keyid,
            "courier": d.courier,
            "state": d.state,
            "last_seen": _seen(d),
            "labels": dict(d.labels),
            "components": {name: _running(d, name) for name in sorted(d.components)},
        }
        for d in devices
    ]
    return json.dumps({"schema": 1, "devices": rows}, indent=1, ensure_ascii=False) + "\n"


def safe_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; see the module."""
    return "'" + text if text.startswith((*_RISKY, "'")) else text


def _plain_cell(text: str) -> str:
    return text[1:] if text[:1] == "'" and text[1:].startswith((*_RISKY, "'")) else text


def _header(header: Sequence[str], source: str) -> list[str]:
    """Each column's use: ``id``, ``key``, ``courier``, ``label:NAME``, or "" to pass over."""
    uses = []
    for number, name in enumerate(header, 1):
        where = f"{source}:1: column {number}"
        if name.startswith(_LABEL):
            check_key(name.removeprefix(_LABEL), where)
        elif name not in {"id", "key", "courier", *_PASSED_OVER} and not name.startswith(
            _COMPONENT
        ):
            raise Malformed(
                f"{where}: {name!r:.80} is not id, key, courier or label:NAME", subject=source
            )
        if name in header[: number - 1]:
            raise Malformed(f"{where}: {name!r:.80} stands twice", subject=source)
        uses.append("" if name in _PASSED_OVER or name.startswith(_COMPONENT) else name)
    if "id" not in uses:
        raise Malformed(f"{source}:1: there is no column 'id'", subject=source)
    return uses


def _csv_row(uses: list[str], header: list[str], row: list[str], where: str) -> Entry:
    if len(row) != len(uses):
        raise Malformed(f"{where}: {len(row)} cells, the header has {len(uses)}", subject=where)
    fields: dict[str, str] = {}
    labels: dict[str, str | None] = {}
    for number, (use, raw) in enumerate(zip(uses, row, strict=True), 1):
        cell = _plain_cell(raw)
        at = f"{where}: column {number} ({header[number - 1]})"
        if use.startswith(_LABEL):
            labels[use.removeprefix(_LABEL)] = check_value(cell, at) or None
        elif use:
            fields[use] = _field(use, cell, at)
    return Entry(**fields, labels=labels, where=where)


def _json_row(item: Any, where: str) -> Entry:
    if not isinstance(item, dict):
        raise Malformed(f"{where}: not an object", subject=where)
    if unknown := set(item) - _FIELDS:
        raise Malformed(f"{where}.{min(unknown):.80}: unknown key", subject=where)
    fields = {
        name: _field(name, _text(item.get(name, ""), f"{where}.{name}"), f"{where}.{name}")
        for name in ("id", "key", "courier")
    }
    labels = item.get("labels", {})
    if not isinstance(labels, dict):
        raise Malformed(f"{where}.labels: not an object", subject=where)
    return Entry(**fields, labels=_json_labels(labels, f"{where}.labels"), where=where)


def _json_labels(labels: Mapping[str, Any], where: str) -> dict[str, str | None]:
    return {
        check_key(key, where): None
        if value is None
        else check_value(_text(value, f"{where}.{key}"), f"{where}.{key}")
        for key, value in labels.items()
    }


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise Malformed(f"{where}: not text", subject=where)
    return value


def _field(use: str, text: str, where: str) -> str:
    if use == "id":
        return strict.identifier(text, where)
    if use == "courier":
        return check_courier(text, where)
    if text and not strict.SHA256.fullmatch(text):
        raise Malformed(f"{where}: {text!r:.80} is not a key id (64 hex digits)", subject=where)
    return text


def _distinct(entries: list[Entry], source: str) -> list[Entry]:
    if len(entries) > MAX_ROWS:
        raise Malformed(f"{source}: more than {MAX_ROWS} devices", subject=source)
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.id in seen:
            raise Malformed(
                f"{entry.where}: {entry.id} stands already at {seen[entry.id]}", subject=source
            )
        seen[entry.id] = entry.where
    return entries


def _seen(device: Device) -> str:
    return strict.stamp(device.last_seen) if device.last_seen else ""


def _running(device: Device, component: str) -> str:
    """``VERSION`` or ``sha256:...`` of what runs; "" for nothing or another component."""
    state = device.components.get(component)
    if state is None or state.current is None:
        return ""
    return state.current.version or f"sha256:{state.current.sha256}"
