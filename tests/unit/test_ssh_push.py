"""Mirrors pushed by SFTP to real servers: whole, resumed, hashed over there, full disks told."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from simulators.sshd import Server
from simulators.sshfleet import SshFleet

from ota.couriers import ssh_push
from ota.couriers.ssh_links import Links
from ota.couriers.ssh_push import Pushed
from ota.errors import Malformed, OtaError
from ota.ports import MirrorFile

DEVICE = "press-07"
IMAGE = "image/targets/app/{sha}.app-1.bin"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshFleet]:
    made = SshFleet(tmp_path_factory.mktemp("push"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def far(fleet: SshFleet) -> Server:
    return fleet.serve()


@pytest.fixture
def mirror(fleet: SshFleet, far: Server, tmp_path: Path) -> Path:
    """An empty mirror of a device."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    fleet.join(DEVICE, far, mirror=str(folder))
    return folder


class Store:
    """Bytes by name, as a store hands them out."""

    def __init__(self, **small: bytes) -> None:
        self.objects: dict[str, bytes] = {}
        self.files: list[MirrorFile] = []
        for name, data in small.items():
            self.add(f"director/devices/{DEVICE}/{name}.json", data)

    def add(self, name: str, data: bytes, *, image: bool = False) -> MirrorFile:
        sha = hashlib.sha256(data).hexdigest()
        name = name.format(sha=sha)
        self.objects[name] = data
        made = MirrorFile(name, len(data), sha, None if image else data)
        self.files.append(made)
        return made

    def image(self, size: int) -> MirrorFile:
        return self.add(IMAGE, random.Random(size).randbytes(size), image=True)

    def piece(self, name: str, offset: int, length: int) -> bytes:
        return self.objects[name][offset : offset + length]


def push(fleet: SshFleet, store: Store, **words: Any) -> Pushed:
    words = {"until": time.monotonic() + 60} | words
    with Links(fleet.inventory, fleet.keys) as links, links.opened(DEVICE, 60) as link:
        return ssh_push.push(link, store.files, store.piece, **words)


def fails(fleet: SshFleet, store: Store, **words: Any) -> str:
    with pytest.raises(OtaError) as caught:
        push(fleet, store, **words)
    return caught.value.code


def holds(mirror: Path) -> dict[str, bytes]:
    """Every file of a mirror; parts too."""
    return {str(p.relative_to(mirror)): p.read_bytes() for p in mirror.rglob("*") if p.is_file()}


def test_a_mirror_holds_exactly_what_was_pushed(fleet: SshFleet, mirror: Path) -> None:
    """Byte for byte; a second push sends nothing; what changed is sent alone."""
    store = Store(snapshot=b"s1", timestamp=b"t1")
    store.image(3_000_000)
    assert push(fleet, store) == Pushed(files=3, sent=3_000_004, kept=0, removed=0)
    assert holds(mirror) == store.objects
    assert push(fleet, store) == Pushed(0, 0, 3, 0)
    store.files.pop(1)
    store.add(f"director/devices/{DEVICE}/timestamp.json", b"t22")
    assert push(fleet, store) == Pushed(1, 3, 2, 0)
    assert holds(mirror) == store.objects


def test_a_device_without_openssl(
    fleet: SshFleet, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``sha256sum`` does it as well: both find the same."""
    store = Store(timestamp=b"t1")
    store.image(100_000)
    push(fleet, store)
    monkeypatch.setattr(ssh_push, "_HASH", ssh_push._HASH.replace("-v openssl", "-v no-such-thing"))
    assert push(fleet, store) == Pushed(0, 0, 2, 0)
    store.image(200_000)
    assert push(fleet, store) == Pushed(1, 200_000, 2, 0)


def test_servers_that_take_small_requests_only(
    fleet: SshFleet, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is not known to take large ones gets none."""
    monkeypatch.setattr(ssh_push, "_LARGE", ssh_push._WRITE)
    store = Store(timestamp=b"t1")
    store.image(300_000)
    push(fleet, store)
    assert holds(mirror) == store.objects


def test_images_that_nobody_needs_are_removed(fleet: SshFleet, mirror: Path) -> None:
    """And so are parts of them; metadata stays."""
    store = Store(timestamp=b"t1")
    old = store.image(1000)
    push(fleet, store)
    store.files.remove(old)
    del store.objects[old.name]
    store.image(2000)
    (mirror / old.name).with_name(".part-0123456789abcdef").write_bytes(b"old part")
    assert push(fleet, store).removed == 2
    assert holds(mirror) == store.objects


def test_a_push_that_was_cut_goes_on(fleet: SshFleet, far: Server, mirror: Path) -> None:
    """The node dies in the middle: named, nothing in place; the next push sends only the rest."""
    store = Store(timestamp=b"t1")
    image = store.image(30_000_000)

    def cut(done: int, _of: int) -> None:
        if done > 12_000_000:
            far.cut()

    assert fails(fleet, store, progress=cut) == "ssh-lost"
    assert [name for name in holds(mirror) if ".part-" not in name] == []
    there = sum(map(len, holds(mirror).values()))
    assert there > 1_000_000
    done = push(fleet, store)
    assert done.sent <= image.length + 2 - there + 300_000
    assert holds(mirror) == store.objects


def test_a_push_out_of_time_goes_on(fleet: SshFleet, mirror: Path) -> None:
    """``ssh-time-limit``, and no byte is sent twice."""
    store = Store()
    store.image(20_000_000)
    assert fails(fleet, store, until=time.monotonic() - 1) == "ssh-time-limit"
    assert 0 < sum(map(len, holds(mirror).values())) < 20_000_000
    done = push(fleet, store)
    assert done.sent < 20_000_000
    assert holds(mirror) == store.objects


@pytest.mark.parametrize("damage", ["flipped", "longer", "link", "other"])
def test_a_damaged_part_is_begun_anew(fleet: SshFleet, mirror: Path, damage: str) -> None:
    """Whatever lies there under a part's name: what comes into place is what was signed."""
    store = Store()
    image = store.image(200_000)
    part = (mirror / image.name).with_name(f".part-{image.sha256[:16]}")
    part.parent.mkdir(parents=True)
    data = store.objects[image.name]
    secret = mirror.parent / "secret"
    secret.write_bytes(b"not to be touched")
    if damage == "flipped":
        part.write_bytes(b"X" + data[1:150_000])
    elif damage == "longer":
        part.write_bytes(data + b"more")
    elif damage == "link":
        part.symlink_to(secret)
    else:
        part.write_bytes(os.urandom(200_000))
    push(fleet, store)
    assert holds(mirror) == store.objects
    assert secret.read_bytes() == b"not to be touched"


def test_what_was_damaged_in_its_place_is_pushed_again(fleet: SshFleet, mirror: Path) -> None:
    """Same length, other bytes: found by hashing over there."""
    store = Store(timestamp=b"t1")
    image = store.image(1000)
    push(fleet, store)
    (mirror / image.name).write_bytes(b"y" * 1000)
    assert push(fleet, store) == Pushed(1, 1000, 1, 0)
    assert holds(mirror) == store.objects


@pytest.fixture
def small_disk(mirror: Path) -> Iterator[Path]:
    """A mirror on a file system of 4 MiB."""
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mirror)]
    subprocess.run(words, check=True, timeout=60)
    yield mirror
    subprocess.run(["umount", "-l", str(mirror)], check=True, timeout=60)


def test_a_full_disk_is_known_beforehand(fleet: SshFleet, small_disk: Path) -> None:
    """``no-space`` before a byte is written; what fits is pushed."""
    store = Store(timestamp=b"t1")
    large = store.image(6_000_000)
    assert fails(fleet, store) == "no-space"
    assert holds(small_disk) == {}
    store.files.remove(large)
    assert push(fleet, store).files == 1


def test_a_disk_that_fills_up_meanwhile(
    fleet: SshFleet, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else was faster than ``df``: ``no-space``, and nothing half-written is in place."""
    store = Store(timestamp=b"t1")
    store.image(6_000_000)
    monkeypatch.setattr(ssh_push._Pushing, "_room", lambda _self, _todo: None)
    assert fails(fleet, store) == "no-space"
    assert [name for name in holds(small_disk) if ".part-" not in name] == []


def test_a_mirror_that_is_not_there(fleet: SshFleet, mirror: Path) -> None:
    """No folder, or a file in its way: ``ssh-push``, and what to look at."""
    store = Store(timestamp=b"t1")
    mirror.rmdir()
    assert fails(fleet, store) == "ssh-push"
    mirror.write_text("a file")
    assert fails(fleet, store) == "ssh-push"
    assert mirror.read_text() == "a file"


def test_a_server_without_sftp(fleet: SshFleet, mirror: Path, tmp_path: Path) -> None:
    """Locked down: said so."""
    server = Server(tmp_path / "locked", fleet.key)
    server.config.write_text(server.config.read_text().replace("Subsystem", "#Subsystem"))
    with server:
        fleet.join(DEVICE, server, mirror=str(mirror))
        assert fails(fleet, Store(timestamp=b"t1")) == "ssh-sftp"


def test_a_store_that_is_cut_short(fleet: SshFleet, mirror: Path) -> None:
    """An image shorter than it is signed never comes into place."""
    store = Store(timestamp=b"t1")
    store.objects[store.image(1000).name] = b"short"
    assert fails(fleet, store) == "store"
    assert [name for name in holds(mirror) if ".part-" not in name] == []


def test_a_store_with_other_bytes(fleet: SshFleet, mirror: Path) -> None:
    """What the far side hashes is not what was signed: ``ssh-hash``, nothing in place."""
    store = Store(timestamp=b"t1")
    image = store.image(1000)
    store.objects[image.name] = b"z" * 1000
    assert fails(fleet, store) == "ssh-hash"
    assert not (mirror / image.name).exists()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a//b", "a/.x", "a b", "x\n"])
def test_names_build_no_paths(fleet: SshFleet, mirror: Path, name: str) -> None:
    """What is no name in a store is refused before anything is asked over there."""
    store = Store()
    store.add(name, b"x")
    with pytest.raises(Malformed):
        push(fleet, store)
    assert holds(mirror.parent) == {}
