"""Files that are whole or not there, with their mode from the first instant."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from signing import durable
from signing.errors import Busy, Malformed, NotPermitted, Outage


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_replace_is_whole_and_private(tmp_path: Path, mode: int) -> None:
    """New content, the mode asked for, no temporary file left."""
    path = tmp_path / "a" / "b" / "x"
    durable.replace(path, b"1", mode=mode)
    durable.replace(path, b"2", mode=mode)
    assert path.read_bytes() == b"2"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert names(path.parent) == ["x"]


def test_create_never_overwrites(tmp_path: Path) -> None:
    """The first content stays, whatever the second one is."""
    path = tmp_path / "x"
    durable.create(path, b"1")
    with pytest.raises(NotPermitted):
        durable.create(path, b"2")
    assert path.read_bytes() == b"1"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_disk_that_says_no_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """An error at any step is an outage; the old content stays and nothing else does."""
    path = tmp_path / "x"
    durable.replace(path, b"old")

    def no(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, no)
    with pytest.raises(Outage) as caught:
        durable.replace(path, b"new")
    assert caught.value.code == "no-space"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("threads", [99, 2, 0])
@pytest.mark.parametrize("bad", [None, 0, 1, 4])
def test_a_slow_disk_is_asked_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, bad: int | None
) -> None:
    """Each file once, with as many threads as there are; an error anywhere is the caller's."""
    real, start, asked, left = os.fsync, threading.Thread.start, [], [threads]

    def slow(descriptor: int) -> None:
        which = os.fstat(descriptor).st_ino
        asked.append(which)
        time.sleep(0.002)
        if bad is not None and which == inode(bad):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    def scarce(thread: threading.Thread) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    def inode(number: int) -> int:
        return (tmp_path / str(number) if number else tmp_path).stat().st_ino

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(threading.Thread, "start", scarce)
    files = {str(number): b"x" for number in range(1, 6)}
    if bad is None:
        durable.write_folder(tmp_path, files, 0o600)
    else:
        with pytest.raises(OSError, match="Input/output"):
            durable.write_folder(tmp_path, files, 0o600)
    assert sorted(asked) == sorted(map(inode, range(6)))


def test_read_is_bounded(tmp_path: Path) -> None:
    """None when missing, Malformed past the limit."""
    path = tmp_path / "x"
    assert durable.read(path, 3, "thing") is None
    path.write_bytes(b"123")
    assert durable.read(path, 3, "thing") == b"123"
    with pytest.raises(Malformed, match="thing"):
        durable.read(path, 2, "thing")
    with pytest.raises(Malformed, match="folder"):
        durable.read(tmp_path, 3, "thing")


def test_remove_of_nothing_is_fine(tmp_path: Path) -> None:
    """Removing is idempotent."""
    path = tmp_path / "x"
    path.touch()
    durable.remove(path)
    durable.remove(path)
    assert names(tmp_path) == []


def test_a_lock_is_held_by_one_and_waited_for(tmp_path: Path) -> None:
    """Busy at once without patience; with it, the lock comes when the holder leaves."""
    path = tmp_path / "lock"
    held, leave = threading.Event(), threading.Event()

    def holder() -> None:
        with durable.locked(path):
            held.set()
            leave.wait(5)

    thread = threading.Thread(target=holder)
    thread.start()
    held.wait(5)
    with pytest.raises(Busy), durable.locked(path):
        raise AssertionError("two holders")
    leave.set()
    with durable.locked(path, wait=5):
        assert path.exists()
    thread.join()
