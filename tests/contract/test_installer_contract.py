"""One contract for every installer: slots, trials, ways back, repetition, power cuts.

The three run on real files: ``dir-symlink`` unpacks real archives, ``exec`` asks the A/B device
of ``tests/simulators/ab_device.py`` (real ``fw_setenv``; ``hot``, so that it switches without a
reboot). A power cut is a killed process: a forked child that dies in front of its Nth change of
the file system, or, for ``exec``, the device's own process.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from simulators.images import Image, image

from ota.agent import installers
from ota.ports_device import Installer, Slots
from signing.errors import Malformed, Outage

AB_DEVICE = Path(__file__).parents[1] / "simulators" / "ab_device.py"
KINDS = ("dir-symlink", "single-file", "exec")
STEPS = ("stage", "activate", "commit", "rollback", "cleanup")
CHANGES = ("rename", "replace", "symlink", "link", "unlink", "rmdir", "mkdir", "chmod", "fsync")


def tarball(number: int) -> bytes:
    """A small application: a program, two data files in folders, a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, mode in (("bin/app", 0o755), ("lib/data", 0o644), ("lib/more/data", 0o644)):
            data = f"{name} of release {number}\n".encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("bin/latest")
        info.type, info.linkname = tarfile.SYMTYPE, "app"
        tar.addfile(info)
    return buffer.getvalue()


class Kit:
    """One installer with its folders: ``world/own`` is its own, the rest of the world is not."""

    def __init__(self, kind: str, top: Path) -> None:
        self.kind = kind
        self.world = top / "world"
        self.own = self.world / "own"
        self.downloads = top / "downloads"
        self.saved = top / "saved"
        self.own.mkdir(parents=True)
        self.downloads.mkdir(mode=0o700)
        (self.world / "bystander").write_text("not yours")
        options: dict[str, dict[str, Any]] = {
            "dir-symlink": {"path": str(self.own / "app")},
            "single-file": {"path": str(self.own / "model.bin")},
            "exec": {"argv": [sys.executable, "-I", "-S", str(AB_DEVICE), str(self.own)]},
        }
        self.options = options[kind]
        self.images = [self.image(number) for number in range(5)]
        if kind == "exec":
            argv = [*self.options["argv"], "factory", str(self.images[0].path)]
            subprocess.run(argv, check=True)
            (self.own / "hot").touch()
        else:
            self.update(0)

    def image(self, number: int) -> Image:
        data = tarball(number) if self.kind == "dir-symlink" else b"image %d" % number * 1000
        return image(
            self.downloads / f"{number}.part",
            f"os/image-{number}.bin",
            data,
            version=f"{number}.0",
            hardware_ids=("ab-rev-1",),
            format="tar" if self.kind == "dir-symlink" else "file",
        )

    def installer(self) -> Installer:
        """A fresh one, as after a restart: it remembers nothing."""
        return installers.create(self.kind, self.options, self.own / "private")

    def sha(self, number: int) -> str:
        return self.images[number].sha256

    def update(self, number: int) -> None:
        self.installer().stage(self.images[number])
        self.installer().activate(self.sha(number))
        self.installer().commit(self.sha(number))

    def inspect(self) -> Slots:
        return self.installer().inspect()

    def step(self, name: str, number: int) -> None:
        installer = self.installer()
        sha256 = self.sha(number)
        steps: dict[str, Callable[[], object]] = {
            "precheck": lambda: installer.precheck(self.images[number].release),
            "stage": lambda: installer.stage(self.images[number]),
            "activate": lambda: installer.activate(sha256),
            "verify": lambda: installer.verify_active(sha256),
            "commit": lambda: installer.commit(sha256),
            "rollback": installer.rollback,
            "cleanup": lambda: installer.cleanup([installer.inspect().current]),
            "inspect": installer.inspect,
        }
        steps[name]()

    def before(self, name: str) -> None:
        """Bring release 2 over 1 over 0 to the point where ``name`` comes next."""
        self.update(1)
        order = {"stage": 0, "activate": 1, "commit": 2, "rollback": 2, "cleanup": 3}
        for earlier in ("stage", "activate", "commit")[: order[name]]:
            self.step(earlier, 2)

    def save(self) -> None:
        shutil.copytree(self.world, self.saved, symlinks=True)

    def restore(self) -> None:
        shutil.rmtree(self.world)
        shutil.copytree(self.saved, self.world, symlinks=True)

    def tree(self) -> dict[str, str]:
        """What an onlooker sees: every name with its content, but not private notes."""
        found = {}
        for path in sorted(self.own.rglob("*")):
            name = str(path.relative_to(self.own))
            if name.startswith(("private", "env-", "env.")):
                continue
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file():
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def cut(self, name: str, number: int) -> bool:
        """Do step ``name`` for release 2, cut before change ``number``; True: it was cut."""
        if self.kind == "exec":
            die = self.own / "die-at"
            die.write_text(str(number))
            try:
                self.step(name, 2)
            except Outage:
                return True
            finally:
                die.unlink()
            return False
        child = os.fork()
        if child == 0:
            status = 3
            try:
                die_before(number)
                self.step(name, 2)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert status in {0, signal.SIGKILL}, "the step failed instead of being cut"
        return status != 0


def die_before(number: int) -> None:
    """In this process: SIGKILL in front of the Nth change of the file system."""
    left = [number]

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*args, **kwargs)

        return call

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))


@pytest.fixture(params=KINDS)
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Kit:
    return Kit(request.param, tmp_path)


def test_road(kit: Kit) -> None:
    """Staging changes nothing that runs; activation is a trial; commit keeps one previous."""
    installer = kit.installer()
    installer.precheck(kit.images[1].release)
    assert installer.inspect() == Slots(kit.sha(0), "", "", trial=False)
    installer.stage(kit.images[1])
    assert installer.inspect() == Slots(kit.sha(0), "", kit.sha(1), trial=False)
    assert installer.verify_active(kit.sha(0))
    assert installer.activate(kit.sha(1)) == "active"
    assert installer.inspect() == Slots(kit.sha(1), kit.sha(0), "", trial=True)
    assert installer.verify_active(kit.sha(1))
    assert not installer.verify_active(kit.sha(0))
    installer.commit(kit.sha(1))
    assert installer.inspect() == Slots(kit.sha(1), kit.sha(0), "", trial=False)


def test_rollback(kit: Kit) -> None:
    """A rolled-back trial leaves what ran before, whole; the failed image can be removed."""
    kit.update(1)
    kit.step("stage", 2)
    kit.step("activate", 2)
    assert kit.installer().rollback() == "active"
    found = kit.inspect()
    assert (found.current, found.trial) == (kit.sha(1), False)
    assert kit.installer().verify_active(kit.sha(1))
    kit.step("cleanup", 1)
    assert kit.inspect() == Slots(kit.sha(1), "", "", trial=False)


def test_update_after_rollback(kit: Kit) -> None:
    """A failed trial does not stand in the way of the next release."""
    kit.step("stage", 1)
    kit.step("activate", 1)
    kit.installer().rollback()
    kit.update(2)
    assert kit.inspect().current == kit.sha(2)
    assert kit.inspect().previous == kit.sha(0)


def test_way_back_after_commit(kit: Kit) -> None:
    """The kept previous image is activated without staging it again."""
    kit.update(1)
    kit.step("activate", 0)
    assert kit.inspect() == Slots(kit.sha(0), kit.sha(1), "", trial=True)
    kit.step("commit", 0)
    assert kit.installer().verify_active(kit.sha(0))
    assert kit.inspect() == Slots(kit.sha(0), kit.sha(1), "", trial=False)


def test_stage_previous_again(kit: Kit) -> None:
    """Staging the image that is already the kept previous leads to the same way back."""
    kit.update(1)
    kit.step("stage", 0)
    kit.step("activate", 0)
    kit.step("commit", 0)
    assert kit.inspect() == Slots(kit.sha(0), kit.sha(1), "", trial=False)


@pytest.mark.parametrize("name", ["precheck", *STEPS, "verify", "inspect"])
def test_repeated(kit: Kit, name: str) -> None:
    """Every method, done twice by fresh processes, leads to the same state as done once."""
    kit.before(name if name in STEPS else "commit")
    kit.step(name, 2)
    once, slots = kit.tree(), kit.inspect()
    kit.step(name, 2)
    assert kit.tree() == once
    assert kit.inspect() == slots


@pytest.mark.parametrize("name", STEPS)
def test_power_cut(kit: Kit, name: str) -> None:
    """Cut before every single change: something whole runs, and a repeat ends as uncut."""
    kit.before(name)
    kit.save()
    kit.step(name, 2)
    uncut, slots = kit.tree(), kit.inspect()
    for number in range(1, 500):
        kit.restore()
        was_cut = kit.cut(name, number)
        found = kit.inspect()
        assert found.current in {kit.sha(1), kit.sha(2)}, f"cut before change {number}"
        assert kit.installer().verify_active(found.current)
        assert found.previous != found.current
        if found.trial:
            assert found.previous == kit.sha(1)
        if not was_cut:
            break
        kit.step(name, 2)
        assert kit.tree() == uncut, f"cut before change {number}"
        assert kit.inspect() == slots
    assert number > 1
    assert not was_cut


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("kind", ["dir-symlink", "single-file"])
def test_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    """A power cut loses nothing: files are synced before they get their name, folders after."""
    kit = Kit(kind, tmp_path)
    kit.before(name)
    synced: set[str] = set()
    pending: set[str] = set()
    faults: list[str] = []
    fsync, rename = os.fsync, os.rename

    def record_sync(descriptor: int) -> None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        synced.add(path)
        pending.discard(path)
        fsync(descriptor)

    def record_rename(source: Path, target: Path) -> None:
        moved = str(source)
        private = Path(target).name == "hashes.json"  # a note that only saves time
        old = ".rollback" in moved or ".staged-" in moved  # synced when they got that name
        if not (source.is_symlink() or moved in synced or old):
            faults.append(f"{moved} renamed before it was synced")
        if pending and not private:
            faults.append(f"{pending} not synced before {target}")
        pending.add(str(Path(target).parent))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "rename", record_rename)
    kit.step(name, 2)
    assert faults == []
    assert pending == set()


@pytest.mark.parametrize("name", ["activate", "commit"])
def test_power_cut_then_back(kit: Kit, name: str) -> None:
    """A trial that was cut anywhere before the end of its commit can still be taken back."""
    kit.before(name)
    kit.save()
    for number in range(1, 500):
        kit.restore()
        was_cut = kit.cut(name, number)
        if name == "commit" and not kit.inspect().trial:
            break
        kit.installer().rollback()
        assert kit.inspect().current == kit.sha(1), f"cut before change {number}"
        assert kit.installer().verify_active(kit.sha(1))
        assert not kit.inspect().trial
        if not was_cut:
            break
    assert number > 1


def test_one_previous(kit: Kit) -> None:
    """However many updates: at most one previous image stays on the medium."""
    for number in (1, 2, 3, 4):
        kit.update(number)
        found = kit.inspect()
        assert (found.current, found.previous) == (kit.sha(number), kit.sha(number - 1))
        names = [path.name for path in kit.own.rglob("*") if not path.is_relative_to("private")]
        for older in range(number - 1):
            assert not any(kit.sha(older) in name for name in names)
    if kit.kind == "single-file":
        kept = {path.name for path in kit.own.iterdir() if path.is_file()}
        assert kept == {"model.bin", "model.bin.previous"}


def test_drop_previous(kit: Kit) -> None:
    """A security fix drops the previous image: afterwards there is no way back to it."""
    kit.update(1)
    kit.installer().cleanup([kit.sha(1)])
    assert kit.inspect() == Slots(kit.sha(1), "", "", trial=False)
    with pytest.raises(Outage):
        kit.step("activate", 0)
    assert kit.inspect() == Slots(kit.sha(1), "", "", trial=False)


def test_cleanup_keeps_what_is_needed(kit: Kit) -> None:
    """Cleaning with an empty list keeps what runs and the way back of a running trial."""
    kit.update(1)
    kit.installer().cleanup([])
    assert kit.installer().verify_active(kit.sha(1))
    kit.step("stage", 2)
    kit.step("activate", 2)
    kit.installer().cleanup([])
    assert kit.inspect() == Slots(kit.sha(2), kit.sha(1), "", trial=True)
    kit.installer().rollback()
    assert kit.installer().verify_active(kit.sha(1))


def test_cleanup_removes_staged(kit: Kit) -> None:
    """An update that was withdrawn before activation leaves nothing behind."""
    kit.step("stage", 1)
    kit.installer().cleanup([kit.sha(0)])
    assert kit.inspect() == Slots(kit.sha(0), "", "", trial=False)


@pytest.mark.parametrize("name", ["activate", "commit"])
def test_out_of_order(kit: Kit, name: str) -> None:
    """Activating what is not staged, committing what does not run: an error, no change."""
    before = kit.tree()
    with pytest.raises(Outage):
        kit.step(name, 3)
    assert kit.tree() == before
    assert kit.inspect() == Slots(kit.sha(0), "", "", trial=False)


@pytest.mark.parametrize("bad", ["", "../../bystander", "0" * 63, "A" * 64, "current"])
@pytest.mark.parametrize("name", ["activate", "commit"])
def test_hash_is_no_path(kit: Kit, name: str, bad: str) -> None:
    """Only a SHA-256 ever becomes a name: anything else is an error and changes nothing."""
    before = kit.tree()
    with pytest.raises(Outage):
        getattr(kit.installer(), name)(bad)
    assert not kit.installer().verify_active(bad)
    assert kit.tree() == before


def test_second_trial(kit: Kit) -> None:
    """While one image is on trial no other is activated: the way back must stay known."""
    kit.step("stage", 1)
    kit.step("activate", 1)
    with suppress(Outage):  # an A/B device has no slot left and says so already here
        kit.step("stage", 2)
    with pytest.raises(Outage):
        kit.step("activate", 2)
    found = kit.inspect()
    assert (found.current, found.previous, found.trial) == (kit.sha(1), kit.sha(0), True)


def test_rollback_without_trial(kit: Kit) -> None:
    """Going back when nothing is on trial changes nothing."""
    kit.update(1)
    before = kit.tree()
    assert kit.installer().rollback() == "active"
    assert kit.tree() == before


def test_own_folders_only(kit: Kit) -> None:
    """Through a whole life nothing outside the installer's own folder is touched."""
    for number in (1, 2):
        kit.update(number)
    kit.step("stage", 3)
    kit.step("activate", 3)
    kit.step("rollback", 3)
    kit.step("cleanup", 3)
    assert sorted(path.name for path in kit.world.iterdir()) == ["bystander", "own"]
    assert (kit.world / "bystander").read_text() == "not yours"
    assert sorted(path.name for path in kit.downloads.iterdir()) == [f"{n}.part" for n in range(5)]
    for kept in kit.images:
        assert hashlib.sha256(kept.path.read_bytes()).hexdigest() == kept.sha256


def bad_options() -> Iterator[tuple[str, dict[str, Any], str]]:
    yield "dir-symlink", {}, "path"
    yield "dir-symlink", {"path": "relative"}, "path"
    yield "dir-symlink", {"path": "/a/../b"}, "path"
    yield "dir-symlink", {"path": "/a\0b"}, "path"
    yield "dir-symlink", {"path": 3}, "path"
    yield "dir-symlink", {"path": "/x", "restrat": ["a"]}, "restrat"
    yield "dir-symlink", {"path": "/x", "restart": "systemctl restart x"}, "restart"
    yield "dir-symlink", {"path": "/x", "restart": []}, "restart"
    yield "dir-symlink", {"path": "/x", "restart": [""]}, "restart"
    yield "dir-symlink", {"path": "/x", "strip": -1}, "strip"
    yield "dir-symlink", {"path": "/x", "strip": "1"}, "strip"
    yield "dir-symlink", {"path": "/x", "max_unpacked": 0}, "max_unpacked"
    yield "single-file", {}, "path"
    yield "single-file", {"path": "/x", "mode": 644}, "mode"
    yield "single-file", {"path": "/x", "mode": "4755"}, "mode"
    yield "single-file", {"path": "/x", "restart_timeout": 0}, "restart_timeout"
    yield "single-file", {"path": "/x", "strip": 1}, "strip"
    yield "exec", {}, "argv"
    yield "exec", {"argv": []}, "argv"
    yield "exec", {"argv": "run"}, "argv"
    yield "exec", {"argv": ["x"], "timeout": -1}, "timeout"
    yield "exec", {"argv": ["x"], "env": ["A=B"]}, "env"
    yield "exec", {"argv": ["x"], "path": "/x"}, "path"
    yield "docker", {}, "docker"


@pytest.mark.parametrize(("kind", "options", "key"), list(bad_options()))
def test_bad_options(tmp_path: Path, kind: str, options: dict[str, Any], key: str) -> None:
    """A wrong option is an error that names component and key, before anything is written."""
    with pytest.raises(Malformed) as caught:
        installers.create(kind, options, tmp_path / "gateway")
    assert "component gateway" in str(caught.value)
    assert key in str(caught.value)
    assert list(tmp_path.iterdir()) == []
