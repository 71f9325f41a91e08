"""Files of the workspace itself, damaged in every way: each command answers as before or names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ota

FILES = (
    "state/registry.db",
    "repo-metadata/roots/image/1.root.json",
    "repo-metadata/roots/director/1.root.json",
    "state/seen/image/root.json",
    "state/seen/image/timestamp.json",
    "state/seen/director.sqlite",
    "repo-metadata/keyholders/author.json",
    "repo-metadata/image.toml",
    "ota.toml",
)
DAMAGE: dict[str, Callable[[bytes], bytes] | None] = {
    "emptied": lambda _data: b"",
    "noise": lambda _data: bytes(range(256)) * 20,
    "flipped": lambda data: _flip(_flip(data, len(data) // 2), 100 % len(data)),
    "gone": None,
}
COMMANDS = (
    ("repo", "status"),
    ("repo", "verify"),
    ("release", "list"),
    ("fleet", "list"),
    ("rollout", "list"),
)
EXPECTED: dict[tuple[str, ...], str] = {}
"""What each command says in a sound copy of the template; filled by the first test."""


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(ota: Ota, name: str, how: str) -> None:
    """No traceback, no silent new beginning; with the file back, everything is as it was."""
    for words in COMMANDS:
        EXPECTED.setdefault(words, ota.ok(*words).out)
    path = ota.folder / name
    good = path.read_bytes() if path.exists() else b""
    if not good:  # a memory, which reading makes
        ota.ok("release", "list")
        ota.ok("repo", "verify")
        good = path.read_bytes()
    said = []
    for words in COMMANDS:
        _damage(path, good, how)
        result = ota(*words)
        if result.code == 0:
            may_differ = words == ("repo", "status") or (name, how) == ("ota.toml", "emptied")
            assert may_differ or result.out == EXPECTED[words], (words, result.out)
        else:
            assert "\ncode: " in result.err
            assert "\nnext: " in result.err
            said.append(result.err)
        path.write_bytes(good)
    assert all(_names(path, text) for text in said), [t for t in said if not _names(path, t)]
    may_be_silent = name.startswith(("state/seen", "repo-metadata/keyholders"))
    if how == "flipped" and path.suffix == ".toml":  # another letter can be another sound policy
        may_be_silent = True
    assert said or may_be_silent or (name, how) == ("ota.toml", "emptied")
    for words in COMMANDS[3:]:
        assert ota.ok(*words).out == EXPECTED[words]


def _damage(path: Path, good: bytes, how: str) -> None:
    """Nothing of a database is left in its journal either."""
    for leftover in ("-wal", "-shm"):
        path.with_name(f"{path.name}{leftover}").unlink(missing_ok=True)
    damage = DAMAGE[how]
    if damage is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(damage(good))


def _names(path: Path, text: str) -> bool:
    """The file, or for lost roots their folder."""
    return path.name in text or ("roots" in path.parts and "repo-metadata/roots" in text)


def test_a_lost_registry_is_begun_anew_by_registering_only(ota: Ota, template: Path) -> None:
    """Nobody finds an empty fleet by accident; whoever registers again says what is meant."""
    for file in (ota.folder / "state").glob("registry.db*"):
        file.unlink()
    lost = ota("fleet", "list")
    assert (lost.code, lost.out) == (2, "")
    assert "code: registry-lost\nnext: restore it from a backup; or register" in lost.err
    assert not (ota.folder / "state" / "registry.db").exists()
    assert ota("rollout", "list").code == 2
    assert ota.ok("repo", "refresh", "--all", "-o", "json").json["devices"] == 3
    ota.ok("fleet", "register", template.parent / "gw-1.json", "--unsafe-allow-any")
    assert [d["id"] for d in ota.ok("fleet", "list", "-o", "json").json] == ["gw-1"]


def test_roots_that_were_lost_are_not_made_anew(ota: Ota) -> None:
    """Without its own roots a workspace does not begin a second repository over the store's."""
    for file in (ota.folder / "repo-metadata" / "roots").rglob("*.json"):
        file.unlink()
    before = ota.files()
    result = ota("repo", "create")
    assert result.code == 2
    assert "repo-metadata/roots is without the roots of what is in the store" in result.err
    assert "code: roots-lost\nnext: take that folder from version control" in result.err
    assert ota.files() == before
