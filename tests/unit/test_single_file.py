"""``single-file``: cheap staging of verified bytes, and no trust in bytes that others touch."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from simulators.images import Image, image

from ota.agent import installers
from ota.agent.installers import durable, manifest
from ota.ports_device import Installer, Slots
from signing.errors import Outage, Refusal


class Box:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "fw" / "model.bin"
        self.downloads = folder / "downloads"
        self.downloads.mkdir(mode=0o700)
        self.one, self.two = self.image(b"one" * 1000), self.image(b"two" * 1000)

    def image(self, data: bytes) -> Image:
        digest = hashlib.sha256(data).hexdigest()
        return image(self.downloads / f"{digest}.part", "fw/model.bin", data)

    def installer(self, **options: Any) -> Installer:
        words = {"path": str(self.path), **options}
        return installers.create("single-file", words, self.folder / "private")

    def install(self, item: Image) -> None:
        self.installer().stage(item)
        self.installer().activate(item.sha256)
        self.installer().commit(item.sha256)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir())


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links, or a download folder on another one."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)


def test_staging_copies_nothing(box: Box) -> None:
    """On one file system the verified file itself gets the staged name."""
    box.installer().stage(box.one)
    staged = box.path.with_name(f"model.bin.staged-{box.one.sha256}")
    assert staged.stat().st_ino == box.one.path.stat().st_ino
    box.installer().activate(box.one.sha256)
    assert box.path.stat().st_ino == box.one.path.stat().st_ino
    box.one.path.unlink()
    assert box.installer().verify_active(box.one.sha256)


def test_stage_and_inspect_read_nothing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """From verified file to trial no byte is read again; ``verify_active`` reads once."""
    reads: list[Path] = []
    real = manifest.sha256

    def counted(path: Path) -> str:
        reads.append(path)
        return real(path)

    monkeypatch.setattr("ota.agent.installers.hashes.sha256", counted)
    box.install(box.one)
    box.installer().stage(box.two)
    box.installer().activate(box.two.sha256)
    assert box.installer().inspect().trial
    assert reads == []
    assert box.installer().verify_active(box.two.sha256)
    assert reads == [box.path]


@pytest.mark.usefixtures("no_links")
def test_copy(box: Box) -> None:
    """Across file systems it is copied, whole; the road is the same."""
    box.install(box.one)
    box.installer().stage(box.two)
    box.installer().activate(box.two.sha256)
    assert box.path.stat().st_ino != box.two.path.stat().st_ino
    assert box.installer().inspect() == Slots(box.two.sha256, box.one.sha256, "", trial=True)
    box.installer().rollback()
    assert box.path.read_bytes() == b"one" * 1000
    box.install(box.two)
    assert box.names() == ["model.bin", "model.bin.previous"]


@pytest.mark.usefixtures("no_links")
def test_changed_while_copied(box: Box) -> None:
    """Bytes that changed after they were verified are refused, and not staged."""
    box.one.path.write_bytes(b"bad" * 1000)
    with pytest.raises(Refusal) as caught:
        box.installer().stage(box.one)
    assert caught.value.code == "image-mismatch"
    assert box.names() == []


def test_changed_length(box: Box) -> None:
    """A verified file that has another length now is refused."""
    box.one.path.write_bytes(b"longer" * 1000)
    with pytest.raises(Refusal) as caught:
        box.installer().stage(box.one)
    assert caught.value.code == "image-mismatch"
    assert box.names() == []


@pytest.mark.parametrize("how", ["folder", "link", "missing"])
def test_source_of_others(box: Box, how: str) -> None:
    """A source that others could write, a link or a missing file is never staged."""
    if how == "folder":
        box.downloads.chmod(0o777)
    else:
        moved = box.folder / "moved"
        box.one.path.rename(moved)
        if how == "link":
            box.one.path.symlink_to(moved)
    with pytest.raises(Outage) as caught:
        box.installer().stage(box.one)
    assert caught.value.code == "installer"
    assert box.names() == []


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_target_folder_of_everyone(box: Box, mode: int) -> None:
    """Where everyone may make or rename files nothing is installed."""
    box.path.parent.mkdir()
    box.path.parent.chmod(mode)
    for action in (
        lambda: box.installer().precheck(box.one.release),
        lambda: box.installer().stage(box.one),
    ):
        with pytest.raises(Outage) as caught:
            action()
        assert "writable by everyone" in str(caught.value)
    assert box.names() == []


@pytest.mark.parametrize("what", ["folder", "link", "fifo"])
def test_target_is_no_file(box: Box, what: str) -> None:
    """A folder, link or FIFO in the target's place is the owner's: left alone."""
    box.path.parent.mkdir()
    if what == "folder":
        box.path.mkdir()
    elif what == "link":
        box.path.symlink_to("/etc/hostname")
    else:
        os.mkfifo(box.path)
    with pytest.raises(Outage) as caught:
        box.installer().precheck(box.one.release)
    assert "not a regular file" in str(caught.value)
    assert box.installer().inspect().current == ""
    assert box.names() == ["model.bin"]


def test_factory_file(box: Box) -> None:
    """A file laid down by hand is known by its content and is a way back."""
    box.path.parent.mkdir()
    box.path.write_bytes(b"factory")
    factory = hashlib.sha256(b"factory").hexdigest()
    assert box.installer().inspect() == Slots(factory, "", "", trial=False)
    box.install(box.one)
    assert box.installer().inspect() == Slots(box.one.sha256, factory, "", trial=False)
    assert box.path.with_name("model.bin.previous").read_bytes() == b"factory"


@pytest.mark.parametrize("keep_time", [False, True])
def test_changed_behind_our_back(box: Box, keep_time: bool) -> None:
    """A file changed in place no longer verifies, whatever its times say."""
    box.install(box.one)
    before = box.path.stat()
    with box.path.open("r+b") as file:
        file.write(b"xxx")
    if keep_time:
        os.utime(box.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        assert box.installer().inspect().current not in {"", box.one.sha256}
    assert not box.installer().verify_active(box.one.sha256)
    assert box.installer().inspect().current not in {"", box.one.sha256}


def test_replaced_file_is_seen(box: Box) -> None:
    """Another file under the same name is another image, not the noted one."""
    box.install(box.one)
    other = box.path.with_name("other")
    other.write_bytes(b"two" * 1000)
    other.replace(box.path)
    assert box.installer().inspect().current == box.two.sha256


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"a":1}', b"\xff" * 10])
def test_damaged_notes(box: Box, text: bytes) -> None:
    """Notes are a convenience: damaged or lost ones only cost reading."""
    box.install(box.one)
    (box.folder / "private" / "hashes.json").write_bytes(text)
    assert box.installer().inspect() == Slots(box.one.sha256, "", "", trial=False)
    box.install(box.two)
    assert box.installer().inspect().previous == box.one.sha256


def test_notes_are_private(box: Box) -> None:
    """The notes lie in the agent's folder, readable by nobody else."""
    box.install(box.one)
    private = box.folder / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert stat.S_IMODE((private / "hashes.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(("mode", "bits"), [(None, 0o644), ("0755", 0o755), ("600", 0o600)])
def test_mode(box: Box, mode: str | None, bits: int) -> None:
    """The file has exactly the configured mode, also after a cut-short staging."""
    installer = box.installer(**({"mode": mode} if mode else {}))
    installer.stage(box.one)
    box.path.with_name(f"model.bin.staged-{box.one.sha256}").chmod(0o400)
    installer.stage(box.one)
    installer.activate(box.one.sha256)
    assert stat.S_IMODE(box.path.stat().st_mode) == bits


def test_space(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for the copy is asked for only where a copy is made."""
    release = box.one.release
    monkeypatch.setattr(durable, "free", lambda _: (1 << 20) + 10)
    with pytest.raises(Outage) as caught:
        box.installer().precheck(release)
    assert caught.value.code == "no-space"
    (box.folder / "private").mkdir()
    box.installer().precheck(release)


@pytest.mark.usefixtures("no_links")
def test_disk_full(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while copying: ``no-space``, the old version runs on, no litter."""
    box.install(box.one)
    real = os.fsync

    def full(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Outage) as caught:
            box.installer().stage(box.two)
    assert caught.value.code == "no-space"
    assert box.names() == ["model.bin"]
    assert box.installer().verify_active(box.one.sha256)
    box.install(box.two)
    assert box.installer().verify_active(box.two.sha256)


def test_way_back_gone(box: Box) -> None:
    """When somebody removed the way back, going back says so and leaves what runs."""
    box.install(box.one)
    box.installer().stage(box.two)
    box.installer().activate(box.two.sha256)
    box.path.with_name("model.bin.rollback").unlink()
    with pytest.raises(Outage) as caught:
        box.installer().rollback()
    assert "gone" in str(caught.value)
    assert box.installer().inspect().trial
    assert box.path.read_bytes() == b"two" * 1000


def test_first_install_rolled_back(box: Box) -> None:
    """Where nothing was before, going back leaves nothing."""
    box.installer().stage(box.one)
    box.installer().activate(box.one.sha256)
    box.installer().rollback()
    assert box.names() == []
    assert box.installer().inspect() == Slots("", "", "", trial=False)


def test_neighbours_stay(box: Box) -> None:
    """Other files of the folder, also with similar names, are never removed."""
    box.path.parent.mkdir()
    neighbours = ["model.bin.staged-notes", "model.bin2", "model.bin.previous.txt", "other"]
    for name in neighbours:
        (box.path.parent / name).write_text("mine")
    box.install(box.one)
    box.installer().cleanup([])
    assert set(neighbours) < set(box.names())
