"""``ota fleet``: who joins, who is labelled, who leaves; entire output and state afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Ota, component, roots_of
from tests.simulators.identities import Identity


@pytest.fixture
def enrolment(ota: Ota) -> Path:
    """An enrolment of a new device, gw-9."""
    path = ota.folder.parent / "gw-9.json"
    path.write_bytes(
        Identity("gw-9").enrol({"app": component("app-1", "1.0.0")}, **roots_of(ota.folder))
    )
    return path


def ids(ota: Ota, *words: str) -> list[str]:
    return [row["id"] for row in ota.ok("fleet", "list", *words, "-o", "json").json]


def test_list(ota: Ota) -> None:
    """Every device with what it runs."""
    result = ota("fleet", "list")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "ID  STATE  COURIER  RUNNING  LAST SEEN  LABELS\n"
        "gw-1  active  spool  app=1.0.0  -  site=lyon\n"
        "gw-2  active  spool  app=1.0.0  -  site=lyon\n"
        "gw-3  active  spool  app=1.0.0  -  site=lyon\n"
    )


def test_register_against_an_allow_list(ota: Ota, enrolment: Path) -> None:
    """An allowed device joins with the list's labels, and has director metadata at once."""
    allow = ota.folder.parent / "allow.csv"
    allow.write_text("id,courier,label:site\ngw-9,,paris\n")
    result = ota("fleet", "register", enrolment, "--allow", allow)
    assert (result.code, result.out, result.err) == (
        0,
        "DEVICE  RESULT  CODE  ENROLMENT\ngw-9  registered  -  TMP/gw-9.json\n",
        "",
    )
    assert (ota.folder / "store/director/devices/gw-9/timestamp.json").exists()
    assert ids(ota, "-l", "site=paris") == ["gw-9"]
    again = ota("fleet", "register", enrolment, "--allow", allow)
    assert (again.code, again.out) == (
        0,
        "DEVICE  RESULT  CODE  ENROLMENT\ngw-9  unchanged  -  TMP/gw-9.json\n",
    )


def test_register_completes_what_was_killed(ota: Ota, enrolment: Path) -> None:
    """Killed between registry and director: the same command again publishes the metadata."""
    wiring = ota.wiring()
    wiring.registry.register(enrolment.read_bytes(), None, {}, "spool", ota.now)
    wiring.close()
    timestamp = ota.folder / "store/director/devices/gw-9/timestamp.json"
    assert not timestamp.exists()
    assert ota.ok("fleet", "show", "gw-9", "-o", "json").json["assigned"] == {}
    assert ota("fleet", "register", enrolment, "--unsafe-allow-any").code == 0
    assert timestamp.exists()


def test_register_of_a_stranger(ota: Ota, enrolment: Path) -> None:
    """Not in the allow-list: exit 4; the allowed ones of the same call still join."""
    allow = ota.folder.parent / "allow.csv"
    allow.write_text("id\ngw-9\n")
    stranger = ota.folder.parent / "gw-8.json"
    stranger.write_bytes(
        Identity("gw-8").enrol({"app": component("app-1")}, **roots_of(ota.folder))
    )
    result = ota("fleet", "register", stranger, enrolment, "--allow", allow)
    assert result.code == 4
    assert result.out == (
        "DEVICE  RESULT  CODE  ENROLMENT\n"
        "gw-8  refused  not-allowed  TMP/gw-8.json\n"
        "gw-9  registered  -  TMP/gw-9.json\n"
    )
    assert result.err == (
        "error: 1 of 2 were not taken; the first: TMP/gw-8.json: gw-8: not in the allow-list TMP/allow.csv\n"
        "code: not-allowed\nnext: if it may join, add it to TMP/allow.csv\n"
    )
    assert "gw-8" not in ids(ota)
    assert not (ota.folder / "store/director/devices/gw-8").exists()


@pytest.mark.parametrize("name", ["director", "image"])
def test_device_of_another_workspace(ota: Ota, name: str) -> None:
    """A device provisioned with somebody else's root obeys somebody else: it may not join."""
    path = ota.folder.parent / "gw-9.json"
    roots = roots_of(ota.folder) | {f"{name}_root": "f" * 64}
    path.write_bytes(Identity("gw-9").enrol({"app": component("app-1")}, **roots))
    refused = ota("fleet", "register", path, "--unsafe-allow-any")
    assert (refused.code, "code: workspace-mismatch" in refused.err) == (3, True)
    assert "gw-9" not in ids(ota)
    assert not (ota.folder / "store/director/devices/gw-9").exists()


def test_other_key_needs_replace(ota: Ota) -> None:
    """A known id with another key is refused by register, and taken by replace after a yes."""
    path = ota.folder.parent / "gw-1.json"
    renewed = Identity("gw-1", "state-2")
    path.write_bytes(renewed.enrol({"app": component("app-1", "1.0.0")}, **roots_of(ota.folder)))
    refused = ota("fleet", "register", path, "--unsafe-allow-any")
    assert refused.code == 4
    assert (
        "code: key-differs\nnext: if its key was really renewed: ota fleet replace" in refused.err
    )
    assert ota("fleet", "replace", path).code == 4
    assert ota.ok("fleet", "show", "gw-1", "-o", "json").json["key"] != renewed.keyid
    assert ota("fleet", "replace", path, "--yes").code == 0
    assert ota.ok("fleet", "show", "gw-1", "-o", "json").json["key"] == renewed.keyid


def test_show(ota: Ota) -> None:
    """``show`` prints everything about one device."""
    result = ota("fleet", "show", "gw-1")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "id:  gw-1\nstate:  active\ncourier:  spool\nrunning:  app=1.0.0\nlast seen:  -\n"
        "labels:  site=lyon\nkey:  SHA256\nstate id:  state-1\nheld state id:  -\ncounter:  0\n"
        "\n"
        "components:\n"
        "NAME  HARDWARE ID  FLOOR  CURRENT  PREVIOUS\n"
        "app  gw-rev-b  1  SHA256  -\n"
    )


def test_label(ota: Ota) -> None:
    """Labels are set and removed, and select devices."""
    result = ota("fleet", "label", "gw-1", "line=a", "site-")
    assert result.code == 0
    assert "labels:  line=a\n" in result.out
    assert ids(ota, "-l", "line=a,!site") == ["gw-1"]


def test_export_edit_import(ota: Ota) -> None:
    """An export is edited and imported again; a dry run changes nothing."""
    file = ota.folder.parent / "devices.csv"
    done = ota("fleet", "export", "--out", file)
    assert (done.code, done.out, done.err) == (0, "", "TMP/devices.csv: written\n")
    file.write_text(file.read_text().replace("lyon", "paris", 1))
    dry = ota("fleet", "import", file, "--dry-run")
    assert (dry.code, dry.out) == (0, "file:  TMP/devices.csv\ndevices:  3\nwritten:  no\n")
    assert ids(ota, "-l", "site=paris") == []
    result = ota("fleet", "import", file)
    assert (result.code, result.out) == (0, "file:  TMP/devices.csv\ndevices:  3\nwritten:  yes\n")
    assert ids(ota, "-l", "site=paris") == ["gw-1"]
    document = json.loads(ota.ok("fleet", "export", "-o", "json").raw)
    assert [d["labels"]["site"] for d in document["devices"]] == ["paris", "lyon", "lyon"]


def test_retire(ota: Ota) -> None:
    """A retired device stays listed, after a yes."""
    assert ota("fleet", "retire", "gw-3").code == 4
    assert ids(ota, "-l", "state=active") == ["gw-1", "gw-2", "gw-3"]
    assert ota("fleet", "retire", "gw-3", "--yes").code == 0
    assert ids(ota, "-l", "state=active") == ["gw-1", "gw-2"]


def test_forms_of_output(ota: Ota) -> None:
    """JSON keeps structure, CSV one line a device; the option may stand anywhere."""
    assert ota("fleet", "-o", "csv", "list").out == ota("fleet", "list", "-o", "csv").out
    assert ota("fleet", "list", "-o", "csv").out.splitlines()[:2] == [
        "id,state,courier,running,last_seen,labels",
        "gw-1,active,spool,app=1.0.0,,site=lyon",
    ]


BAD: list[tuple[str, list[str], int, str]] = [
    ("nobody may join", ["register", "gw-9.json"], 2, "usage"),
    ("no enrolment", ["register", "nothing.json", "--unsafe-allow-any"], 2, "not-found"),
    ("not an enrolment", ["register", "JUNK", "--unsafe-allow-any"], 3, "statement-malformed"),
    ("allow-list missing", ["register", "JUNK", "--allow", "nothing.csv"], 2, "not-found"),
    ("allow-list is junk", ["register", "JUNK", "--allow", "JUNK"], 2, "malformed"),
    ("label form", ["register", "JUNK", "--unsafe-allow-any", "--label", "x"], 2, "usage"),
    ("replace junk", ["replace", "JUNK", "--yes"], 3, "statement-malformed"),
    ("show nobody", ["show", "nobody"], 2, "not-found"),
    ("retire nobody", ["retire", "nobody", "--yes"], 2, "not-found"),
    ("accept nobody", ["accept", "nobody", "--yes"], 2, "not-found"),
    ("accept nothing", ["accept", "gw-1", "--yes"], 2, "nothing-held"),
    ("label nobody", ["label", "nobody", "a=b"], 2, "not-found"),
    ("bad label", ["label", "gw-1", "a b=c"], 2, "malformed"),
    ("reserved label", ["label", "gw-1", "state=retired"], 2, "malformed"),
    ("label twice", ["label", "gw-1", "a=b", "a-"], 2, "usage"),
    ("selector", ["list", "-l", "site=a b"], 2, "malformed"),
    ("selector", ["list", "-l", "site in lyon"], 2, "malformed"),
    ("import nothing", ["import", "nothing.csv"], 2, "not-found"),
    ("import junk", ["import", "JUNK"], 2, "malformed"),
    ("import a stranger", ["import", "STRANGER"], 2, "not-found"),
    ("export nowhere", ["export", "--out", "/proc/none/devices.csv"], 1, "io"),
]


@pytest.mark.parametrize(("words", "code", "name"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_fleet(ota: Ota, words: list[str], code: int, name: str) -> None:
    """Every malformed call is a named error with a next step, and changes nothing."""
    junk, stranger = ota.folder.parent / "junk.csv", ota.folder.parent / "stranger.csv"
    junk.write_text('{"payload": 1}')
    stranger.write_text("id,label:site\ngw-1,paris\nnobody,paris\n")
    before = ota.ok("fleet", "export", "-o", "json").raw
    places = {"JUNK": str(junk), "STRANGER": str(stranger)}
    result = ota("fleet", *(places.get(word, word) for word in words))
    assert result.code == code, result.err
    assert f"code: {name}\n" in result.err
    assert result.err.splitlines()[-1].startswith("next: ")
    assert ota.ok("fleet", "export", "-o", "json").raw == before
