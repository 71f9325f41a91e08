"""``ota init`` and ``ota key``: a workspace, and keys that nobody overwrites or leaks."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.cli.conftest import NAMES, PASSPHRASE, Ota


def test_init_makes_a_workspace(empty: Ota) -> None:
    """Settings, policies and a .gitignore, in one command; keys and state are private folders."""
    result = empty("init", empty.folder)
    assert (result.code, result.out, result.err) == (
        0,
        (
            "FILE\nWS/.gitignore\nWS/repo-metadata/image.toml\nWS/repo-metadata/director.toml\n"
            "WS/repo-metadata/rollout.toml\nWS/ota.toml\n"
        ),
        "next: edit WS/repo-metadata (who signs what), then ota -C WS key generate root-1 ...\n",
    )
    for name in ("keys", "state"):
        assert stat.S_IMODE((empty.folder / name).stat().st_mode) == 0o700
    assert "/keys/" in (empty.folder / ".gitignore").read_text().splitlines()


def test_init_dry_run_writes_nothing(empty: Ota) -> None:
    """``--dry-run`` lists the files and makes none."""
    result = empty("init", empty.folder, "--dry-run")
    assert result.code == 0
    assert result.err == "nothing was written\n"
    assert len(result.out.splitlines()) == 6
    assert not empty.folder.exists()


def test_init_never_overwrites(empty: Ota) -> None:
    """A workspace stays as it is: exit 4."""
    empty.ok("init", empty.folder)
    (empty.folder / "ota.toml").write_text("# mine\n")
    before = empty.files()
    result = empty("init", empty.folder)
    assert (result.code, result.out, result.err) == (
        4,
        "",
        (
            "error: WS is a workspace already\nwhat: WS/ota.toml\ncode: exists\n"
            "next: ota repo status\n"
        ),
    )
    assert empty.files() == before


def test_killed_init_is_repeated(empty: Ota) -> None:
    """What a killed init left is kept, an edited policy too; the rest is made."""
    (empty.folder / "repo-metadata").mkdir(parents=True)
    (empty.folder / "repo-metadata" / "image.toml").write_text("# edited\n")
    result = empty.ok("init", empty.folder)
    assert "image.toml" not in result.out
    assert (empty.folder / "repo-metadata" / "image.toml").read_text() == "# edited\n"
    assert (empty.folder / "ota.toml").exists()


def test_generate_one(empty: Ota) -> None:
    """A key is encrypted, mode 0600; its public half lies beside the policies."""
    empty.ok("init", empty.folder)
    result = empty("key", "generate", "root-1", "--scheme", "ecdsa-p256")
    assert (result.code, result.out, result.err) == (
        0,
        (
            "name:  root-1\nroles:  image root\nscheme:  ecdsa-sha2-nistp256\nkeyid:  KEYID\n"
            "private:  file:keys/root-1.pem\n"
        ),
        "",
    )
    private = empty.folder / "keys" / "root-1.pem"
    assert private.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert (empty.folder / "repo-metadata" / "keyholders" / "root-1.json").exists()


def test_list_tells_who_is_missing(empty: Ota) -> None:
    """``key list`` names every keyholder of the policies, made or not."""
    empty.ok("init", empty.folder)
    empty.ok("key", "generate", "author")
    rows = empty.ok("key", "list", "-o", "json").json
    assert {row["name"] for row in rows} == set(NAMES)
    assert {row["name"] for row in rows if row["private"] != "missing"} == {"author"}


def test_key_elsewhere_is_listed(ota: Ota) -> None:
    """A private key on another machine is no error; only its public half is needed here."""
    (ota.folder / "keys" / "root-3.pem").unlink()
    rows = {r["name"]: r["private"] for r in ota.ok("key", "list", "-o", "json").json}
    assert rows["root-3"] == "elsewhere"
    assert rows["root-1"] == "file:keys/root-1.pem"


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (["generate", "root-1"], 4, "exists"),
        (["generate", "../evil"], 2, "malformed"),
        (["generate", "new", "--scheme", "rsa-512"], 2, "usage"),
        (["generate"], 2, "usage"),
    ],
)
def test_bad_generate(ota: Ota, words: list[str], code: int, name: str) -> None:
    """A key that exists, a path for a name, an unknown scheme: named, nothing written."""
    before = ota.files()
    result = ota("key", *words)
    assert (result.code, result.out) == (code, "")
    assert f"code: {name}\n" in result.err
    assert "\nnext: " in result.err
    assert ota.files() == before


def test_no_passphrase_and_no_terminal(empty: Ota, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal and a configured passphrase the error says how to configure one."""
    monkeypatch.delenv("OTA_PASSPHRASE")
    empty.ok("init", empty.folder)
    result = empty("key", "generate", "root-1")
    assert (result.code, result.out, result.err) == (
        2,
        "",
        (
            "error: Passphrase of root-1: none is configured and there is no terminal to ask on\n"
            "code: passphrase\n"
            "next: export OTA_PASSPHRASE=..., or [passphrases] in ota.toml\n"
        ),
    )
    assert not list((empty.folder / "keys").iterdir())


def test_passphrase_is_never_printed_or_stored(ota: Ota) -> None:
    """No file of the workspace and no output holds the passphrase."""
    result = ota("key", "generate", "spare", "--debug")
    assert PASSPHRASE not in result.out + result.err
    assert not [name for name, data in ota.files().items() if PASSPHRASE.encode() in data]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[store]\nurl = 3\n", "store.url"),
        ("[store]\nurl = 'ftp://x'\n", "store.url"),
        ("[stores]\n", "stores"),
        ("[passphrases]\nroot-1 = 'hunter2'\n", "passphrases.root-1"),
        ("[registry]\nurl = 'postgresql+psycopg://u:secret@h/db'\n", "registry.url"),
        ("[registry]\nurl = 'postgresql+psycopg://h/db?password=secret'\n", "registry.url"),
        ("[registry]\nurl = 'mysql://h/db'\n", "registry.url"),
        ("[registry]\npassword = 'hunter2'\n", "registry.password"),
        ("[keys]\nroot-1 = 'root-1.pem'\n", "keys.root-1"),
        ("[couriers.pigeon]\n", "couriers"),
        ("[store\n", "ota.toml"),
    ],
)
def test_malformed_settings(ota: Ota, text: str, where: str) -> None:
    """Every fault of ota.toml names file and key; literal secrets are refused, never repeated."""
    (ota.folder / "ota.toml").write_text(text)
    result = ota("key", "list")
    assert (result.code, result.out) == (2, "")
    first = result.err.splitlines()[0]
    assert first.startswith("error: ota.toml: ")
    assert where in first
    assert "code: malformed\n" in result.err
    assert "hunter2" not in result.err
    assert "secret@" not in result.err


def test_no_workspace(empty: Ota) -> None:
    """Outside a workspace every command says how to make or name one."""
    result = empty("key", "list")
    assert (result.code, result.out, result.err) == (
        2,
        "",
        (
            "error: WS is not a workspace: it has no ota.toml\nwhat: WS/ota.toml\n"
            "code: not-found\nnext: ota init, or name one: ota -C DIR\n"
        ),
    )


def test_malformed_policy(ota: Ota) -> None:
    """A policy that can not be met names file and key."""
    path = ota.folder / "repo-metadata" / "image.toml"
    path.write_text(path.read_text().replace("threshold = 2", "threshold = 9", 1))
    result = ota("repo", "status")
    assert result.code == 2
    assert result.err.startswith("error: image.toml: root.threshold is 9, of 3 keyholders\n")


def test_passphrase_file_must_be_private(ota: Ota, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase file that others can read is refused with the command that mends it."""
    monkeypatch.delenv("OTA_PASSPHRASE")
    secret = Path(ota.folder / "secret")
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o644)
    (ota.folder / "ota.toml").write_text("[passphrases]\ndefault = 'file:secret'\n")
    result = ota("key", "generate", "spare")
    assert (result.code, result.err) == (
        4,
        (
            "error: passphrases.spare: WS/secret is readable by others (mode 0644)\n"
            "code: secret-mode\nnext: chmod 600 WS/secret\n"
        ),
    )
    secret.chmod(0o600)
    assert ota("key", "generate", "spare").code == 0
