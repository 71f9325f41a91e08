"""Fleet lists: an import changes all that it names or nothing, and its errors name the row."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from simulators.identities import START, Identity
from simulators.mutations import NASTY, budget, damaged, dumps, mutated

from ota.errors import Malformed, NotFound, NotPermitted, OtaError
from ota.fleet import exchange, tables
from ota.fleet.allow import AllowList
from ota.fleet.entries import Entry
from ota.fleet.registry import Registry, _changes, _locked

ONE, TWO = Identity("gw-1"), Identity("gw-2")
ROWS = [
    {"id": "gw-1", "key": ONE.keyid, "courier": "spool", "labels": {"site": "lyon", "old": None}},
    {"id": "gw-2", "key": "", "courier": "", "labels": {"acme.io/cell": "a-1"}},
]
DOCUMENT = {"schema": 1, "devices": ROWS}
HEAD = ["id", "key", "courier", "label:site", "label:acme.io/cell", "state", "component:app"]
CELLS = [
    ["gw-1", ONE.keyid, "spool", "lyon", "", "active", "'=1"],
    ["gw-2", "", "", "", "a-1", "active", ""],
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Two devices with labels."""
    made = Registry(f"sqlite:///{tmp_path_factory.mktemp('fleet') / 'registry.db'}")
    for identity in (ONE, TWO):
        made.register(identity.enrol(), None, {"old": "yes"}, "spool", START)
    yield made
    made.close()


def read(data: bytes, kind: str) -> list[Entry] | None:
    """The entries of a file; None when it was refused with its name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"fleet.{kind}"
        path.write_bytes(data)
        try:
            found = exchange.read(path)
        except Malformed as error:
            assert str(path) in str(error)
            return None
        try:
            allowed = AllowList.load(path)
            assert allowed.entry("gw-1", ONE.keyid).id == "gw-1"
        except (NotPermitted, Malformed) as error:
            assert str(path) in str(error)
    return found


def imported(registry: Registry, entries: list[Entry] | None) -> None:
    """Applied as a whole, or as ``update`` refuses it; either way taken back for the next one."""
    if entries is None:
        return
    with registry.engine.connect() as conn, conn.begin() as work:
        try:
            for entry in sorted(entries, key=lambda e: e.id):
                values = _changes(entry, lambda name: _locked(conn, name))
                conn.execute(
                    tables.devices.update().where(tables.devices.c.id == entry.id).values(**values)
                )
            labels = {row.id: json.loads(row.labels) for row in conn.execute(rows_of())}
            assert set(labels) == {"gw-1", "gw-2"}
            for entry in entries:
                given_labels = {k: v for k, v in entry.labels.items() if v is not None}
                assert given_labels.items() <= labels[entry.id].items()
        except (NotFound, Malformed) as error:
            assert "fleet." in str(error)
        finally:
            work.rollback()


def rows_of() -> sa.Select[Any]:
    """Every device's labels."""
    return sa.select(tables.devices.c.id, tables.devices.c.labels)


def test_the_examples_are_imported(registry: Registry) -> None:
    """What the examples begin with is read, both ways, as the same thing."""
    first, second = read(dumps(DOCUMENT), "json"), read(csv_of([HEAD, *CELLS]), "csv")
    assert first is not None
    assert second is not None
    assert [(e.id, e.key, e.courier) for e in first] == [(e.id, e.key, e.courier) for e in second]
    imported(registry, first)


def csv_of(lines: list[list[Any]]) -> bytes:
    """Cells of any kind, quoted as CSV wants it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    for line in lines:
        writer.writerow([cell if isinstance(cell, str) else repr(cell)[:80] for cell in line])
    return out.getvalue().encode("utf-8", "surrogatepass")


@budget(1.5)
@given(mutated(DOCUMENT))
def test_mutated_json(registry: Registry, document: Any) -> None:
    """Keys and values of every kind, in every place."""
    imported(registry, read(dumps(document), "json"))


@budget(1.5)
@given(st.data())
def test_mutated_csv(registry: Registry, data: st.DataObject) -> None:
    """Cells, columns and rows removed, repeated and replaced."""
    table = data.draw(mutated([HEAD, *CELLS]))
    lines = table if isinstance(table, list) else [table]
    lines = [line if isinstance(line, list) else [line] for line in lines]
    imported(registry, read(csv_of(lines), "csv"))


@budget(1)
@given(st.sampled_from(["csv", "json"]), st.data())
def test_damaged_bytes(registry: Registry, kind: str, data: st.DataObject) -> None:
    """Cut, joined, with quotes and line ends anywhere, not text at all."""
    good = dumps(DOCUMENT) if kind == "json" else csv_of([HEAD, *CELLS])
    imported(registry, read(data.draw(damaged(good, others=b'"\r\n,\x00\xff;"""' * 4)), kind))


@budget(0.5)
@given(st.lists(st.sampled_from([n for n in NASTY if isinstance(n, str)]), min_size=2, max_size=2))
def test_labels_on_the_line(registry: Registry, words: list[str]) -> None:
    """``ota fleet label``: set, or refused and as before."""
    before = registry.device("gw-2").labels
    try:
        registry.label("gw-2", {words[0]: words[1]})
    except OtaError:
        assert registry.device("gw-2").labels == before
    else:
        assert registry.device("gw-2").labels == {**before, words[0]: words[1]}
        registry.label("gw-2", {words[0]: None})
