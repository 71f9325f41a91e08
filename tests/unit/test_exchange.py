"""Fleet lists: strict to read, safe to open in a spreadsheet, and errors with a place."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.identities import START, Identity, running

from ota.errors import Malformed, NotFound, NotPermitted
from ota.fleet import exchange
from ota.fleet.allow import AllowList
from ota.fleet.entries import MAX_LABELS, Entry, check_value, merged
from ota.ports import Device

KEY = "a" * 64


def device(name: str = "dev-1", **changes: object) -> Device:
    fields: dict[str, object] = {
        "id": name,
        "key": Identity(name).signer.public_key,
        "state": "active",
        "state_id": "s",
        "counter": 1,
        "courier": "spool",
        "labels": {"site": "lyon"},
        "components": {"app": running("app-1")},
        "last_seen": START,
    }
    return Device(**{**fields, **changes})  # type: ignore[arg-type]  # a test's shorthand


def test_a_csv_with_everything() -> None:
    """BOM, CRLF, quotes, blank lines, columns that an export writes."""
    text = (
        "\ufeffid,key,courier,label:site,state,component:app\r\n"
        f'dev-1,{KEY},spool,"lyon",active,1.0.0\r\n\r\n'
        "'-dev,,,,,\r\n"
    )
    assert exchange.read_csv(text.encode(), "f.csv") == [
        Entry("dev-1", KEY, "spool", {"site": "lyon"}, "f.csv:2"),
        Entry("-dev", "", "", {"site": None}, "f.csv:4"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.csv: it is empty"),
        ("name\ndev-1\n", "f.csv:1: column 1: 'name' is not id, key, courier"),
        ("key\n\n", "f.csv:1: there is no column 'id'"),
        ("id,id\n", "f.csv:1: column 2: 'id' stands twice"),
        ("id,label:si te\n", "f.csv:1: column 2: 'si te' is not a label key"),
        ("id,label:state\n", "f.csv:1: column 2: 'state' is a property"),
        ("id,courier\ndev-1\n", "f.csv:2: 1 cells, the header has 2"),
        ("id,courier\na,b,c\n", "f.csv:2: 3 cells, the header has 2"),
        ("id\ndev 1\n", "f.csv:2: column 1 (id): 'dev 1'"),
        ("id\n../x\n", "f.csv:2: column 1 (id)"),
        ("id,key\ndev-1,abc\n", "f.csv:2: column 2 (key): 'abc' is not a key id"),
        ("id,label:site\ndev-1,a b\n", "f.csv:2: column 2 (label:site): 'a b'"),
        ("id,courier\ndev-1,s p\n", "f.csv:2: column 2 (courier)"),
        ("id\ndev-1\n\ndev-1\n", "f.csv:4: dev-1 stands already at f.csv:2"),
        ('id\n"dev-1\n', "f.csv:2: unexpected end of data"),
        ('id\n"a"b\n', "f.csv:2:"),
    ],
)
def test_csv_errors_name_file_line_and_column(text: str, message: str) -> None:
    """Every malformed row or header has its place in the message."""
    with pytest.raises(Malformed) as caught:
        exchange.read_csv(text.encode(), "f.csv")
    assert message in str(caught.value)


def test_bytes_that_are_no_text_are_named() -> None:
    """Latin-1 or binary: the line of the first bad byte."""
    with pytest.raises(Malformed, match=r"f\.csv:3: not UTF-8"):
        exchange.read_csv(b"id\ndev-1\nd\xe9v\n", "f.csv")


def test_a_json_with_everything() -> None:
    """Labels of null are removals; what an export adds is passed over."""
    text = json.dumps(
        {
            "schema": 1,
            "devices": [
                {"id": "dev-1", "key": KEY, "labels": {"site": "lyon", "old": None}},
                {"id": "dev-2", "state": "active", "components": {}, "last_seen": ""},
            ],
        }
    )
    assert exchange.read_json(text.encode(), "f.json") == [
        Entry("dev-1", KEY, "", {"site": "lyon", "old": None}, "f.json: devices[0]"),
        Entry("dev-2", where="f.json: devices[1]"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", 'f.json: not {"schema": 1'),
        ('{"schema": 1}', "f.json: devices"),
        ('{"schema": 1, "devices": {}}', "f.json: devices"),
        ('{"schema": 1, "devices": [], "x": 1}', "f.json: x"),
        ('{"schema": 1, "devices": [1]}', "devices[0]: not an object"),
        ('{"schema": 1, "devices": [{"id": 1}]}', "devices[0].id: not text"),
        ('{"schema": 1, "devices": [{}]}', "devices[0].id"),
        ('{"schema": 1, "devices": [{"id": "a", "kye": ""}]}', "devices[0].kye: unknown key"),
        ('{"schema": 1, "devices": [{"id": "a", "labels": []}]}', "devices[0].labels: not an"),
        ('{"schema": 1, "devices": [{"id": "a", "labels": {"b": 1}}]}', "labels.b: not text"),
        ('{"schema": 1, "devices": [{"id": "a", "labels": {"b": "%"}}]}', "labels.b: '%'"),
        ('{"schema": 1, "devices": [{"id": "a"}, {"id": "a"}]}', "a stands already"),
        ('{"schema": 1, "schema": 1, "devices": []}', "a key stands twice"),
        ('{"schema": 1,\n "devices": [}', "line 2"),
        ('{"schema": 1.0, "devices": []}', "not an integer"),
    ],
)
def test_json_errors_name_file_and_key(text: str, message: str) -> None:
    """Every malformed entry has its place in the message."""
    with pytest.raises(Malformed) as caught:
        exchange.read_json(text.encode(), "f.json")
    assert message in str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_an_export_can_be_imported(tmp_path: Path, suffix: str) -> None:
    """Ids, keys, couriers and labels come back; ids that look like formulas too."""
    devices = [device("-dev", labels={"site": "lyon"}), device("dev-2", labels={"line": "a"})]
    text = (exchange.csv_text if suffix == ".csv" else exchange.json_text)(devices)
    file = tmp_path / f"fleet{suffix}"
    file.write_text(text)
    found = exchange.read(file)
    assert [(e.id, e.key, e.courier) for e in found] == [
        (d.id, d.key.keyid, "spool") for d in devices
    ]
    kept = [{k: v for k, v in e.labels.items() if v is not None} for e in found]
    assert kept == [{"site": "lyon"}, {"line": "a"}]


def test_an_export_shows_what_runs() -> None:
    """State, last report and components stand beside the labels."""
    row = next(csv.DictReader(io.StringIO(exchange.csv_text([device()]))))
    assert (row["state"], row["last_seen"], row["label:site"]) == (
        "active",
        "2026-11-23T08:00:00Z",
        "lyon",
    )
    assert row["component:app"].startswith("sha256:")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "'="])
def test_no_cell_is_a_formula(start: str) -> None:
    """A version chosen by a hostile device does not run in the operator's spreadsheet."""
    state = running("app-1")
    assert state.current is not None
    evil = type(state.current)(sha256="a" * 64, length=1, version=f"{start}cmd|'/c calc'!A0")
    hostile = device(components={"app": type(state)(hardware_id="x", floor=0, current=evil)})
    rows = list(csv.DictReader(io.StringIO(exchange.csv_text([hostile]), newline="")))
    assert rows[0]["component:app"] == f"'{start}cmd|'/c calc'!A0"


@given(st.text())
def test_safe_cells_come_back(text: str) -> None:
    """Making a cell safe loses nothing, and a safe cell never starts a formula."""
    safe = exchange.safe_cell(text)
    assert exchange._plain_cell(safe) == text
    assert not safe.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_files_are_limited_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large, or not there: told with the path."""
    file = tmp_path / "fleet.csv"
    with pytest.raises(NotFound, match=r"fleet\.csv"):
        exchange.read(file)
    file.write_text("id\n" + "dev-1\n" * 10)
    monkeypatch.setattr(exchange, "MAX_BYTES", 20)
    with pytest.raises(Malformed, match="longer than 20 bytes"):
        exchange.read(file)


def test_an_allow_list_says_no_by_default(tmp_path: Path) -> None:
    """Empty is an error, an unlisted id and another key are not permitted."""
    file = tmp_path / "allowed.csv"
    file.write_text("id,key\n")
    with pytest.raises(Malformed, match="lists no device"):
        AllowList.load(file)
    file.write_text(f"id,key\ndev-1,{KEY}\ndev-2,\n")
    allow = AllowList.load(file)
    assert len(allow) == 2
    assert allow.entry("dev-1", KEY).key == KEY
    assert allow.entry("dev-2", "b" * 64).id == "dev-2"
    for name, key in (("dev-1", "b" * 64), ("dev-3", KEY)):
        with pytest.raises(NotPermitted) as caught:
            allow.entry(name, key)
        assert caught.value.code == "not-allowed"


def test_labels_are_limited() -> None:
    """Values are short and plain, and there are not too many."""
    with pytest.raises(Malformed, match="limit"):
        merged({}, {f"k{n}": "v" for n in range(MAX_LABELS + 1)})
    for bad in ("-a", "a-", "a" * 64, "a/b", "a b", "\n"):
        with pytest.raises(Malformed):
            check_value(bad)
    assert merged({"a": "1"}, {"a": None, "acme.io/b": ""}) == {"acme.io/b": ""}
