"""``ota key import`` and ``ota key list --check``: keys that live elsewhere, and who holds them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from signing.keys import keys
from tests.cli.conftest import PASSPHRASE, Ota

COMMENTED = """\
# ours
[store]
url = "file:store"   # a folder

 [ keys ]  # who holds what
root-2 = "file:keys/two.pem"

[passphrases]
default = "prompt"
"""


@pytest.fixture
def usb(tmp_path: Path) -> Path:
    """An encrypted key on a stick."""
    path = tmp_path / "usb" / "root.pem"
    keys.generate(path, PASSPHRASE.encode(), "ecdsa-p384")
    return path


def pem(folder: Path) -> Path:
    """Somebody's public key."""
    path = folder / "public.pem"
    path.write_text(CryptoSigner.generate_ecdsa().public_key.keyval["public"])
    return path


def test_import_writes_the_public_half_and_the_uri(empty: Ota, usb: Path) -> None:
    """The whole output; the key then signs; nothing secret is in the workspace."""
    empty.ok("init", empty.folder)
    result = empty("key", "import", "root-1", "--uri", f"file:{usb}")
    assert (result.code, result.out, result.err) == (
        0,
        (
            "name:  root-1\nroles:  image root\nscheme:  ecdsa-sha2-nistp384\nkeyid:  KEYID\n"
            "private:  file:TMP/usb/root.pem\n"
        ),
        "",
    )
    assert tomllib.loads((empty.folder / "ota.toml").read_text())["keys"] == {
        "root-1": f"file:{usb}"
    }
    assert (empty.folder / "repo-metadata" / "keyholders" / "root-1.json").exists()
    assert not list((empty.folder / "keys").iterdir())
    assert not [name for name, data in empty.files().items() if PASSPHRASE.encode() in data]
    before = empty.files()
    empty.ok("key", "import", "root-1", "--uri", f"file:{usb}")
    assert empty.files() == before


def test_import_of_somebody_elses_key(empty: Ota) -> None:
    """With a public key alone no source is written, and nobody is asked for a secret."""
    empty.ok("init", empty.folder)
    toml = (empty.folder / "ota.toml").read_bytes()
    result = empty.ok("key", "import", "root-2", "--public", pem(empty.folder))
    assert result.out.endswith("private:  elsewhere\n")
    assert (empty.folder / "ota.toml").read_bytes() == toml
    rows = {r["name"]: r for r in empty.ok("key", "list", "--check", "-o", "json").json}
    assert rows["root-2"]["reachable"] == "-"


def test_public_half_must_fit_the_source(empty: Ota, usb: Path) -> None:
    """A public key given beside the URI is compared: another one is refused, nothing is written."""
    empty.ok("init", empty.folder)
    other = pem(empty.folder)
    before = empty.files()
    uri = f"file:{usb}"
    result = empty("key", "import", "root-1", "--uri", uri, "--public", other)
    assert result.code == 4
    assert "code: wrong-key\n" in result.err
    assert empty.files() == before


def test_unproven_asks_no_secret(empty: Ota, usb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--unsafe-unproven`` writes down a key whose secret is with somebody else."""
    empty.ok("init", empty.folder)
    monkeypatch.delenv("OTA_PASSPHRASE")
    words = ("key", "import", "root-1", "--uri", f"file:{usb}", "--public", pem(empty.folder))
    assert empty(*words).code == 2
    assert empty(*words, "--unsafe-unproven").code == 0


def test_settings_keep_what_people_wrote(empty: Ota, usb: Path) -> None:
    """Comments, order and spaces stay byte for byte; one line is added under ``[keys]``."""
    empty.ok("init", empty.folder)
    toml = empty.folder / "ota.toml"
    toml.write_text(COMMENTED)
    toml.chmod(0o640)
    empty.ok("key", "import", "root-1", "--uri", f"file:{usb}")
    line = f"root-1 = {json.dumps(f'file:{usb}')}\n"
    head, tail = COMMENTED.split("root-2")
    assert toml.read_text() == f"{head}{line}root-2{tail}"
    assert toml.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["team:root", "r_1", "1"])
def test_any_name_can_be_written(empty: Ota, usb: Path, name: str) -> None:
    """A name that TOML wants in quotes gets them."""
    empty.ok("init", empty.folder)
    empty.ok("key", "import", name, "--uri", f"file:{usb}")
    assert name in tomllib.loads((empty.folder / "ota.toml").read_text())["keys"]


@pytest.mark.parametrize(
    "text",
    [
        'keys = {root-2 = "file:x.pem"}\n[store]\nurl = "file:store"\n',
        'keys.root-2 = "file:x.pem"\n',
        '[keys."root-2.x"]\n',
    ],
)
def test_settings_that_can_not_be_edited(empty: Ota, usb: Path, text: str) -> None:
    """The line to write by hand is named and ota.toml stays; a repeat after that is fine."""
    empty.ok("init", empty.folder)
    toml = empty.folder / "ota.toml"
    toml.write_text(text)
    result = empty("key", "import", "root-1", "--uri", f"file:{usb}")
    assert result.code == 2
    assert toml.read_text() == text
    if "x.pem" in text:
        assert 'next: write it: root-1 = "file:TMP/usb/root.pem"\n' in result.err
    toml.write_text(f'[keys]\nroot-1 = "file:{usb}"\n')
    empty.ok("key", "import", "root-1", "--uri", f"file:{usb}")


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (["root-1"], 2, "usage"),
        ([], 2, "usage"),
        (["../evil", "--uri", "file:x"], 2, "malformed"),
        (["root-1", "--uri", "x"], 2, "malformed"),
        (["root-1", "--uri", "file:nobody.pem"], 2, "not-found"),
        (["root-1", "--uri", "gcpkms:projects/x"], 2, "public-key-needed"),
        (["root-1", "--uri", "hsm:1?label=x&pin-value=0815"], 2, "malformed"),
        (["root-1", "--public", "nobody.pem"], 2, "not-found"),
    ],
)
def test_bad_import(empty: Ota, words: list[str], code: int, name: str) -> None:
    """Every fault is named, with what to do next; nothing is written, no PIN repeated."""
    empty.ok("init", empty.folder)
    before = empty.files()
    result = empty("key", "import", *words)
    assert (result.code, result.out) == (code, "")
    assert f"code: {name}\n" in result.err
    assert "0815" not in result.err
    assert empty.files() == before


@pytest.mark.parametrize("data", [b"", b"\xff" * 100, b"x" * 70_000])
def test_bad_public_key_file(empty: Ota, data: bytes) -> None:
    """What is no public key, or too long for one, is malformed; nothing is written."""
    empty.ok("init", empty.folder)
    path = empty.folder / "public.pem"
    path.write_bytes(data)
    before = empty.files()
    result = empty("key", "import", "root-1", "--public", path)
    assert result.code == 2
    assert "code: malformed\n" in result.err
    assert empty.files() == before


def test_check_tells_what_is_wrong(ota: Ota, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--check`` adds a column: yes, elsewhere, or the code of the fault; it asks no secret."""
    monkeypatch.delenv("OTA_PASSPHRASE")
    with (ota.folder / "ota.toml").open("a") as toml:
        toml.write(
            '\n[keys]\nauthor = "hsm:1?module=/no/such.so"\napprover = "exec:/no/such --slot 3"\n'
            'targets-1 = "hsm:"\ntargets-2 = "gcpkms:projects/x"\n'
        )
    (ota.folder / "keys" / "root-3.pem").unlink()
    (ota.folder / "keys" / "root-2.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    before = ota.files()
    rows = {r["name"]: r for r in ota.ok("key", "list", "--check", "-o", "json").json}
    found = {name: rows[name]["reachable"] for name in rows}
    assert found["root-1"] == "yes"
    assert found["root-2"] == "unencrypted"
    assert found["root-3"] == "-"
    assert found["author"] == "hsm-module"
    assert found["approver"] == "signer-missing"
    assert found["targets-1"] == "hsm-module"
    assert found["targets-2"] == "yes"
    assert rows["author"]["private"] == "hsm:1?module=/no/such.so"
    assert "reachable" not in ota.ok("key", "list").out
    assert ota.files() == before
