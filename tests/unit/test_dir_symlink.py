"""``dir-symlink``: damage is noticed, the owner's content survives, full disks change nothing."""

from __future__ import annotations

import io
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from simulators import images
from simulators.images import Image

from ota.agent import installers
from ota.agent.installers import durable
from ota.ports_device import Installer, Slots
from signing.errors import Outage, Refusal
from signing.release import Format


def image(folder: Path, name: str, kind: Format = "tar") -> Image:
    """An archive with ``bin/run``, ``share/data`` and a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for path in ("bin/run", "share/data"):
            data = f"{path} {name}".encode()
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("latest")
        info.type, info.linkname = tarfile.SYMTYPE, "bin/run"
        tar.addfile(info)
    return written(folder, name, buffer.getvalue(), kind)


def written(folder: Path, name: str, data: bytes, kind: Format) -> Image:
    file = folder / f"{name}.part"
    return images.image(file, f"app/{name}.tar.xz", data, version=name, format=kind)


class Box:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = folder / "app"
        self.one, self.two = image(folder, "1"), image(folder, "2")
        self.a, self.b = self.one.release.sha256, self.two.release.sha256

    def installer(self, **options: Any) -> Installer:
        words = {"path": str(self.app), **options}
        return installers.create("dir-symlink", words, self.folder / "private")

    def run(self, item: Image, **options: Any) -> None:
        installer = self.installer(**options)
        installer.stage(item)
        installer.activate(item.release.sha256)

    def install(self, item: Image) -> None:
        self.run(item)
        self.installer().commit(item.release.sha256)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_layout(box: Box) -> None:
    """The medium holds what the README says: releases, two relative links, nothing hidden."""
    box.install(box.one)
    box.install(box.two)
    names = sorted(path.name for path in box.app.iterdir())
    assert names == ["current", "previous", "releases"]
    assert (box.app / "current").readlink() == Path(f"releases/{box.b}")
    assert (box.app / "previous").readlink() == Path(f"releases/{box.a}")
    assert (box.app / "current" / "latest").read_bytes() == b"bin/run 2"
    expected = sorted([box.a, box.b, f"{box.a}.manifest", f"{box.b}.manifest"])
    assert sorted(path.name for path in (box.app / "releases").iterdir()) == expected


@pytest.mark.parametrize(
    "damage",
    ["change", "same size", "remove", "replace by link", "mode", "relink", "folder", "manifest"],
)
def test_damage(box: Box, damage: str) -> None:
    """``verify_active`` notices every kind of change to what was unpacked."""
    box.install(box.one)
    top = box.app / "releases" / box.a
    assert box.installer().verify_active(box.a)
    file = top / "bin" / "run"
    if damage == "change":
        file.write_bytes(b"longer than it was before")
    elif damage == "same size":
        file.write_bytes(file.read_bytes()[::-1])
    elif damage == "remove":
        file.unlink()
    elif damage == "replace by link":
        file.replace(box.folder / "elsewhere")
        file.symlink_to(box.folder / "elsewhere")
    elif damage == "mode":
        file.chmod(0o4755)
    elif damage == "relink":
        (top / "latest").unlink()
        (top / "latest").symlink_to("/etc/passwd")
    elif damage == "folder":
        (top / "share").replace(box.folder / "share")
        (top / "share").symlink_to(box.folder / "share")
    else:
        (box.app / "releases" / f"{box.a}.manifest").write_text("{not json\n")
    assert not box.installer().verify_active(box.a)


def test_added_files_are_the_programs(box: Box) -> None:
    """Files that the program adds, such as byte code, are no damage."""
    box.install(box.one)
    (box.app / "current" / "bin" / "run.pyc").write_bytes(b"cache")
    assert box.installer().verify_active(box.a)


def test_damaged_staged_release_is_unpacked_again(box: Box) -> None:
    """Staging mends a damaged folder that does not run; the one that runs it leaves alone."""
    box.install(box.one)
    box.installer().stage(box.two)
    (box.app / "releases" / box.b / "bin" / "run").write_bytes(b"damaged")
    box.installer().stage(box.two)
    assert (box.app / "releases" / box.b / "bin" / "run").read_bytes() == b"bin/run 2"
    (box.app / "current" / "bin" / "run").write_bytes(b"damaged")
    with pytest.raises(Outage) as caught:
        box.installer().stage(box.one)
    assert caught.value.code == "installer"
    assert (box.app / "current" / "bin" / "run").read_bytes() == b"damaged"


def test_unmanaged_current(box: Box) -> None:
    """What the owner linked is unknown (""), survives a rollback, and is never kept as a way back."""
    vendor = box.folder / "vendor"
    vendor.mkdir()
    (vendor / "program").write_text("by hand")
    box.app.mkdir()
    (box.app / "current").symlink_to(vendor)
    assert box.installer().inspect() == Slots("", "", "", trial=False)
    box.run(box.one)
    assert box.installer().inspect() == Slots(box.a, "", "", trial=True)
    box.installer().rollback()
    assert (box.app / "current" / "program").read_text() == "by hand"
    box.install(box.one)
    assert box.installer().inspect() == Slots(box.a, "", "", trial=False)
    assert (vendor / "program").read_text() == "by hand"


def test_factory_layout(box: Box) -> None:
    """A release laid down by the factory, without a manifest, counts and is a way back."""
    top = box.app / "releases" / box.a
    top.mkdir(parents=True)
    (top / "program").write_text("factory")
    (box.app / "current").symlink_to(f"releases/{box.a}")
    assert box.installer().inspect().current == box.a
    assert box.installer().verify_active(box.a)
    box.run(box.two)
    box.installer().rollback()
    assert box.installer().verify_active(box.a)
    assert (box.app / "current" / "program").read_text() == "factory"
    box.install(box.two)
    box.installer().activate(box.a)
    assert box.installer().inspect() == Slots(box.a, box.b, "", trial=True)
    assert (box.app / "current" / "program").read_text() == "factory"


def test_first_install_rolled_back(box: Box) -> None:
    """Where nothing ran before, going back leaves nothing running."""
    box.run(box.one)
    box.installer().rollback()
    found = box.installer().inspect()
    assert (found.current, found.trial) == ("", False)
    assert not (box.app / "current").is_symlink()


@pytest.mark.parametrize("mode", [0o777, 0o1777])
@pytest.mark.parametrize("where", ["app", "app/releases"])
def test_a_folder_of_everyone(box: Box, where: str, mode: int) -> None:
    """Who comes first would own what runs next: nothing is installed there, sticky or not."""
    (box.app / "releases").mkdir(parents=True)
    (box.folder / where).chmod(mode)
    for action in (
        lambda: box.installer().precheck(box.one.release),
        lambda: box.installer().stage(box.one),
    ):
        with pytest.raises(Outage, match="writable by everyone"):
            action()
    assert [path.name for path in box.app.rglob("*")] == ["releases"]


def test_current_is_a_real_folder(box: Box) -> None:
    """A folder in the link's place is the owner's: precheck says so, nothing is written."""
    (box.app / "current").mkdir(parents=True)
    (box.app / "current" / "keep").write_text("mine")
    with pytest.raises(Outage) as caught:
        box.installer().precheck(box.one.release)
    assert "not a symlink" in str(caught.value)
    assert [path.name for path in box.app.iterdir()] == ["current"]


def test_format_file_is_refused(box: Box) -> None:
    """An opaque image can not be unpacked: refused before anything is downloaded."""
    item = written(box.folder, "raw", b"firmware", "file")
    with pytest.raises(Refusal) as caught:
        box.installer().precheck(item.release)
    assert caught.value.code == "release-malformed"
    with pytest.raises(Refusal):
        box.installer().stage(item)
    assert list((box.app / "releases").iterdir()) == []


@pytest.mark.parametrize("data", [b"not an archive", b""])
def test_bad_archive_changes_nothing(box: Box, data: bytes) -> None:
    """A broken archive leaves what runs running and no folder behind."""
    box.install(box.one)
    before = box.installer().inspect()
    item = written(box.folder, "bad", data or b"\0" * 10, "tar")
    with pytest.raises(Refusal):
        box.installer().stage(item)
    assert box.installer().inspect() == before
    assert box.installer().verify_active(box.a)
    assert not list((box.app / "releases").glob(".tmp-*"))


def test_precheck_space(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than twice the archive's length and a margin is ``no-space``, before any write."""
    monkeypatch.setattr(durable, "free", lambda _: 16 << 20)
    with pytest.raises(Outage) as caught:
        box.installer().precheck(box.one.release)
    assert caught.value.code == "no-space"
    assert not box.app.exists()


def test_permissions(box: Box) -> None:
    """While it is unpacked a release is the agent's alone; complete, others may read it."""
    box.install(box.one)
    top = box.app / "releases" / box.a
    assert stat.S_IMODE(top.stat().st_mode) == 0o755
    assert stat.S_IMODE((top / "bin" / "run").stat().st_mode) == 0o755


def test_restart(box: Box) -> None:
    """The restart command sees the new release on the way forth and the old one on the way back."""
    log = box.folder / "log"
    restart = ["/bin/sh", "-c", f"cat {box.app}/current/bin/run >> {log}; echo >> {log}"]
    box.install(box.one)
    box.run(box.two, restart=restart)
    box.installer(restart=restart).rollback()
    assert log.read_text().splitlines() == ["bin/run 2", "bin/run 1"]


@pytest.mark.parametrize(
    "restart", [["/bin/false"], ["/nonexistent"], ["/bin/sh", "-c", "echo broken >&2; exit 3"]]
)
def test_restart_fails(box: Box, restart: list[str]) -> None:
    """A failing restart fails the activation, on trial, so that the agent can go back."""
    box.install(box.one)
    installer = box.installer(restart=restart)
    installer.stage(box.two)
    with pytest.raises(Outage) as caught:
        installer.activate(box.b)
    assert caught.value.code == "restart"
    assert installer.inspect() == Slots(box.b, box.a, "", trial=True)
    box.installer().rollback()
    assert box.installer().inspect().current == box.a


def test_restart_hangs(box: Box) -> None:
    """A restart that outlives its limit is ended and fails the activation."""
    with pytest.raises(Outage) as caught:
        box.run(box.one, restart=["/bin/sleep", "60"], restart_timeout=0.2)
    assert caught.value.code == "restart"
    assert "time limit" in str(caught.value)


def test_rollback_restart_fails_then_repeats(box: Box) -> None:
    """When the restart after a rollback fails, the marker stays: a repeat restarts again."""
    box.install(box.one)
    box.run(box.two)
    with pytest.raises(Outage):
        box.installer(restart=["/bin/false"]).rollback()
    assert box.installer().inspect().current == box.a
    done = box.folder / "restarted"
    box.installer(restart=["/bin/touch", str(done)]).rollback()
    assert done.exists()
    assert sorted(path.name for path in box.app.iterdir()) == ["current", "releases"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"sha256": 3}', '{"sha256":"a","x":1}', "x" * 9999]
)
def test_damaged_marker(box: Box, text: str) -> None:
    """A damaged trial marker is named, never taken for "nothing on trial"."""
    box.install(box.one)
    (box.app / ".trial").write_text(text)
    for action in (box.installer().inspect, box.installer().rollback):
        with pytest.raises(Outage) as caught:
            action()
        assert caught.value.code == "installer"
        assert str(box.app / ".trial") in caught.value.subject


def test_foreign_names_stay(box: Box) -> None:
    """Clean-up removes only names of its own making."""
    box.install(box.one)
    (box.app / "releases" / "README").write_text("by the owner")
    (box.app / "releases" / ".tmp-left").mkdir()
    box.installer().cleanup([])
    assert (box.app / "releases" / "README").exists()
    assert not (box.app / "releases" / ".tmp-left").exists()
