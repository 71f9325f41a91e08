"""Hashing behind a writer: the digests are the file's own, and stand for that very file only."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from simulators.repos import NOW, World

from ota.agent.following import Follower
from ota.agent.time import EPOCH
from ota.agent.trust import TrustRoom
from ota.agent.verdict import Known, Wanted
from ota.errors import Refusal

DATA = random.Random(7).randbytes(3 * 1024 * 1024 + 17)
NAMES = ("sha256", "sha512")


def write(path: Path, follower: Follower, data: bytes = DATA, offset: int = 0) -> None:
    """A downloader: appends pieces of uneven size and tells of each."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.lseek(handle, offset, os.SEEK_SET)
        with follower.behind(path, handle, offset):
            while offset < len(data):
                piece = data[offset : offset + 100_003]
                offset += os.write(handle, piece)
                follower.grown(len(piece))
    finally:
        os.close(handle)


@pytest.mark.parametrize("have", [0, 1, 1024 * 1024, len(DATA)])
def test_digests_are_those_of_the_whole_file(tmp_path: Path, have: int) -> None:
    """A fresh file, and a resumed one whose prefix was there before: hashed from its first byte."""
    path = tmp_path / "part"
    path.write_bytes(DATA[:have])
    follower = Follower(NAMES)
    write(path, follower, offset=have)
    assert follower.digests_of(path) == {n: hashlib.new(n, DATA).hexdigest() for n in NAMES}
    assert follower.length == len(DATA)


def test_a_prefix_that_was_changed_is_noticed(tmp_path: Path) -> None:
    """What lay there before is read back, not believed."""
    path = tmp_path / "part"
    path.write_bytes(b"x" + DATA[1:1000])
    follower = Follower(("sha256",))
    write(path, follower, offset=1000)
    found = follower.digests_of(path)
    assert found is not None
    assert found["sha256"] != hashlib.sha256(DATA).hexdigest()


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def longer(path: Path) -> None:
    with path.open("ab") as out:
        out.write(b"x")


def exchanged(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(DATA)
    other.replace(path)


def linked(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


@pytest.mark.parametrize("change", [touched, longer, exchanged, linked])
def test_another_or_a_touched_file_is_not_known(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Touched, longer, exchanged for equal bytes, or a link: nothing is known of it."""
    path = tmp_path / "part"
    follower = Follower(("sha256",))
    write(path, follower)
    change(path)
    assert follower.digests_of(path) is None


def test_a_broken_download_leaves_nothing(tmp_path: Path) -> None:
    """An error while writing: no digest, and the thread has ended."""
    path = tmp_path / "part"
    follower = Follower(("sha256",))
    before = threading.active_count()

    def broken() -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "wb") as out, follower.behind(path, handle, 0):
            out.write(DATA)
            follower.grown(len(DATA))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert follower.digests_of(path) is None
    assert threading.active_count() == before


def test_a_writer_that_lies_about_its_length(tmp_path: Path) -> None:
    """More was announced than was written: the digest never stands."""
    path = tmp_path / "part"
    follower = Follower(("sha256",))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with follower.behind(path, handle, 0):
        os.write(handle, DATA)
        follower.grown(10)
    os.close(handle)
    assert follower.digests_of(path) is None


@pytest.fixture
def room(tmp_path: Path) -> tuple[TrustRoom, Wanted]:
    """A trust room that wants ``DATA``."""
    world = World()
    world.release(data=DATA)
    world.assign()
    made = TrustRoom(
        world.device,
        {"app": "gw-rev-b"},
        tmp_path / "trust",
        world.director.fetch,
        world.image.fetch,
    )
    made.provision(world.director.files["1.root.json"], world.image.files["1.root.json"])
    return made, made.cycle(Known({}, {}, {}, EPOCH), NOW).wanted[0]


@pytest.mark.parametrize("data", [DATA, DATA[:-1] + b"x"])
def test_the_trust_room_judges_what_was_followed(
    room: tuple[TrustRoom, Wanted], tmp_path: Path, data: bytes
) -> None:
    """Right bytes make an image without a second read; one wrong byte is refused all the same."""
    trust, wanted = room
    path = tmp_path / "part"
    follower = Follower(tuple(wanted.release.hashes))
    write(path, follower, data)
    read: list[int] = []
    if data == DATA:
        assert trust.verify(wanted, path, read.append, follower).path == path
    else:
        with pytest.raises(Refusal) as caught:
            trust.verify(wanted, path, read.append, follower)
        assert caught.value.code == "image-mismatch"
    assert read == []


@pytest.mark.parametrize("names", [("sha256",), ("sha512",)])
def test_the_trust_room_hashes_whatever_was_not_followed(
    room: tuple[TrustRoom, Wanted], tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Exchanged after it was followed, or followed for other hashes: read again, in full."""
    trust, wanted = room
    path = tmp_path / "part"
    follower = Follower(names)
    write(path, follower)
    if names == ("sha256",):
        exchanged(path)
        path.write_bytes(DATA[:-1] + b"x")
        with pytest.raises(Refusal, match="not the signed bytes"):
            trust.verify(wanted, path, None, follower)
        return
    read: list[int] = []
    assert trust.verify(wanted, path, read.append, follower).path == path
    assert sum(read) == len(DATA)
