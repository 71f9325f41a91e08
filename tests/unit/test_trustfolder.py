"""Scratch and adopt: at any crash the old trusted set stands, or the new one does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ota.agent.trustfolder import TrustFolder
from signing.errors import NotFound, Outage

SAME = {"targets.json": b"targets 1"}
OLD = SAME | {"root.json": b"root 1", "timestamp.json": b"timestamp 1"}
NEW = SAME | {"root.json": b"root 2", "timestamp.json": b"timestamp 2", "a b.json": b"role"}

ADOPT = """
import sys
from pathlib import Path
from ota.agent.trustfolder import TrustFolder
folder = TrustFolder(Path(sys.argv[1]))
folder.keep_root(2, b"root 2")
new = {"root.json": b"root 2", "timestamp.json": b"timestamp 2", "a b.json": b"role"}
folder.adopt(new | {"targets.json": b"targets 1"})
"""


@pytest.fixture
def folder(tmp_path: Path) -> TrustFolder:
    folder = TrustFolder(tmp_path / "trust")
    folder.provision(b"root 1")
    folder.adopt(OLD)
    return folder


def test_adopt_replaces_the_whole_set(folder: TrustFolder) -> None:
    """What is not in the new set is gone, one generation is left, and modes are private."""
    folder.adopt(NEW)
    assert folder.load() == NEW
    assert len(list(folder.path.glob("gen-*"))) == 1
    modes = {p.stat().st_mode & 0o077 for p in folder.path.rglob("*") if not p.is_symlink()}
    assert modes == {0}


def test_what_has_not_changed_is_not_written_again(folder: TrustFolder) -> None:
    """A file of the same bytes is taken over, with its mode; others are new files."""
    root = (folder.path / "current" / "root.json").stat()
    stamp = (folder.path / "current" / "timestamp.json").stat()
    folder.adopt({"root.json": b"root 1", "timestamp.json": b"timestamp 2"})
    after = (folder.path / "current" / "root.json").stat()
    assert (after.st_ino, after.st_mode, after.st_nlink) == (root.st_ino, root.st_mode, 1)
    assert (folder.path / "current" / "timestamp.json").stat().st_ino != stamp.st_ino
    assert folder.load() == {"root.json": b"root 1", "timestamp.json": b"timestamp 2"}


@pytest.mark.parametrize("call", ["fsync", "rename", "symlink", "mkdir", "openat", "link,linkat"])
def test_killed_at_each_system_call(folder: TrustFolder, call: str) -> None:
    """SIGKILL at the Nth call of each kind, then once more: old or new, never a mixture."""
    seen: set[bytes] = set()
    for number in range(1, 60):
        folder.adopt(OLD)
        count = number if call != "openat" else number + _opens_before()
        done = _run(folder, f"inject={call}:signal=KILL:when={count}")
        loaded = TrustFolder(folder.path).load()
        assert loaded in (OLD, NEW)
        seen.add(loaded["root.json"])
        assert folder.newest_root() in (None, b"root 2")
        if done == 0:
            break
    assert done == 0
    assert number > 1
    assert seen == {b"root 1", b"root 2"}


_opened: list[int] = []


def _opens_before() -> int:
    """How many files the interpreter opens before it touches the folder."""
    if not _opened:
        result = subprocess.run(
            ["strace", "-f", "-e", "trace=openat", sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd=Path(__file__).parents[2],
        )
        _opened.append(sum("openat(" in line for line in result.stderr.splitlines()))
    return _opened[0]


_PROBE = ADOPT.split("folder =", maxsplit=1)[0]


def _run(folder: TrustFolder, injection: str) -> int:
    call = injection.split("=")[1].split(":", maxsplit=1)[0]
    return subprocess.run(
        [
            "strace",
            "-f",
            "-e",
            f"trace={call}",
            "-e",
            injection,
            sys.executable,
            "-c",
            ADOPT,
            str(folder.path),
        ],
        capture_output=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    ).returncode


@pytest.mark.parametrize("call", ["fsync", "rename", "symlink"])
def test_full_disk_is_an_outage(folder: TrustFolder, call: str) -> None:
    """A failing call leaves the old set and says so."""
    result = subprocess.run(
        [
            "strace",
            "-f",
            "-e",
            f"trace={call}",
            "-e",
            f"inject={call}:error=ENOSPC:when=1+",
            sys.executable,
            "-c",
            ADOPT,
            str(folder.path),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert "signing.errors.Outage" in result.stderr
    assert "No space left" in result.stderr
    assert folder.load() == OLD


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 kB."""
    disk = tmp_path / "small"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk)]
    subprocess.run(words, check=True, timeout=10)
    yield disk
    subprocess.run(["umount", str(disk)], check=True, timeout=10)


def test_what_a_full_disk_left_does_not_keep_it_full(small: Path) -> None:
    """Each try takes away what the last one left, so that a disk with room again is enough."""
    folder = TrustFolder(small / "trust")
    folder.provision(b"root 1")
    folder.adopt(OLD | {"snapshot.json": b"s" * 100_000})
    new = OLD | {"snapshot.json": b"n" * 300_000}
    others = small / "others"
    for taken in (330_000, 200_000, 150_000):
        others.write_bytes(b"x" * taken)
        with pytest.raises(Outage):
            folder.adopt(new)
        assert len(list(folder.path.glob("gen-*"))) == 1, "what could not be finished is gone"
    others.unlink()
    folder.adopt(new)
    assert folder.load() == new


def test_what_a_kill_left_is_no_reason_to_fail(small: Path) -> None:
    """A killed process cleans nothing up: the next one does, before it needs the room."""
    folder = TrustFolder(small / "trust")
    folder.provision(b"root 1")
    folder.adopt(OLD)
    for number in (7, 8):
        (folder.path / f"gen-{number}").mkdir()
        (folder.path / f"gen-{number}" / "snapshot.json").write_bytes(b"x" * 150_000)
    folder.adopt(OLD | {"snapshot.json": b"n" * 300_000})
    assert len(list(folder.path.glob("gen-*"))) == 1


def test_nothing_provisioned(tmp_path: Path) -> None:
    """Without a trust anchor there is a named error and the next command."""
    with pytest.raises(NotFound) as caught:
        TrustFolder(tmp_path / "none").load()
    assert caught.value.remedy == "ota-agent provision"
    with pytest.raises(Outage):
        TrustFolder(tmp_path / "none").adopt({"root.json": b"x"})
