"""``exec``: the protocol with a vendor's updater, and an A/B device with a real boot environment.

The updater is ``tests/simulators/ab_device.py``; its environment is written by the real
``fw_setenv`` (Debian package ``libubootenv-tool``), and its boot loader counts tries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from simulators import images
from simulators.images import Image

from ota.agent import installers
from ota.ports_device import Installer, Slots
from signing.errors import OtaError, Outage, Refusal

AB_DEVICE = Path(__file__).parents[1] / "simulators" / "ab_device.py"


def image(folder: Path, name: str, hardware: str = "ab-rev-1", **changes: Any) -> Image:
    fields = {"version": name, "hardware_ids": (hardware,), "release_counter": 7} | changes
    data = name.encode() * 1000
    return images.image(
        folder / f"{name}.part", f"os/{name}.img", data, notes="never sent", **fields
    )


# -- the protocol ------------------------------------------------------------------------------
class Vendor:
    """An updater that keeps what it is asked and answers what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "updater"
        self.image = image(folder, "one")

    def says(self, script: str, **options: Any) -> Installer:
        self.program.write_text(f"#!/bin/sh\ncat > {self.folder}/asked-$1\n{script}\n")
        self.program.chmod(0o755)
        words = {"argv": [str(self.program)], "timeout": 5.0, **options}
        return installers.create("exec", words, self.folder / "private")

    def answers(self, answer: object, **options: Any) -> Installer:
        (self.folder / "answer").write_text(json.dumps(answer))
        return self.says(f"cat {self.folder}/answer", **options)

    def asked(self, verb: str) -> Any:
        return json.loads((self.folder / f"asked-{verb}").read_bytes())


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return Vendor(tmp_path)


def test_requests(vendor: Vendor) -> None:
    """Each verb asks for exactly what the protocol's table says."""
    sha256, path = vendor.image.sha256, str(vendor.image.path)
    installer = vendor.answers(
        {
            "ok": True,
            "activation": "reboot",
            "active": True,
            "current": sha256,
            "previous": "",
            "staged": "",
            "trial": False,
            "vendor_extra": 1,
        }
    )
    installer.precheck(vendor.image.release)
    installer.stage(vendor.image)
    assert installer.activate(sha256) == "reboot"
    assert installer.verify_active(sha256) is True
    installer.commit(sha256)
    assert installer.rollback() == "reboot"
    installer.cleanup(iter([sha256, sha256]))
    assert installer.inspect() == Slots(sha256, "", "", trial=False)
    release = vendor.asked("stage").pop("release")
    assert release == {
        "path": "os/one.img",
        "component": "os",
        "version": "one",
        "hardware_ids": ["ab-rev-1"],
        "release_counter": 7,
        "format": "file",
        "length": 3000,
        "hashes": {"sha256": sha256},
        "security_fix": False,
        "kind": "release",
    }
    expected: dict[str, dict[str, object]] = {
        "precheck": {"sha256": sha256, "release": release},
        "stage": {"sha256": sha256, "release": release, "path": path},
        "activate": {"sha256": sha256},
        "verify-active": {"sha256": sha256},
        "commit": {"sha256": sha256},
        "rollback": {},
        "cleanup": {"keep": [sha256]},
        "inspect": {},
    }
    for verb, words in expected.items():
        assert vendor.asked(verb) == {"schema": 1, "verb": verb, **words}


@pytest.mark.parametrize(
    "script",
    [
        "",
        "echo hello",
        "echo '[]'",
        "echo '{}'",
        "echo null",
        """echo '{"ok": "yes"}'""",
        """echo '{"ok": true, "ok": true, "activation": "active"}'""",
        """echo '{"ok": true}'""",
        """echo '{"ok": true, "activation": "later"}'""",
        """echo '{"ok": true, "activation": "active"}'; exit 1""",
        """echo '{"ok": true, "activation": "active"} trailing'""",
        """echo '{"ok": false}'""",
        """echo '{"ok": false, "code": 3}'""",
        """echo '{"ok": true, "activation": 1.5}'""",
        "printf '\\377\\376'",
        "exit 9",
        "kill -9 $$",
        "head -c 70000 /dev/zero | tr '\\0' x",
        "head -c 70000 /dev/zero >&2",
        "yes",
    ],
)
def test_wrong_answers(vendor: Vendor, script: str) -> None:
    """No answer, a wrong, doubtful or endless one: always the same outage, never a success."""
    with pytest.raises(Outage) as caught:
        vendor.says(script).activate(vendor.image.sha256)
    assert caught.value.code == "installer"
    assert len(str(caught.value)) <= 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": True, "current": "x", "previous": "", "staged": "", "trial": False},
        {"ok": True, "current": "../../etc", "previous": "", "staged": "", "trial": False},
        {"ok": True, "current": "", "previous": "", "staged": "", "trial": 0},
        {"ok": True, "current": "", "previous": "", "staged": ""},
        {"ok": True, "current": "a" * 64 + "\n", "previous": "", "staged": "", "trial": False},
        {"ok": True, "current": None, "previous": "", "staged": "", "trial": False},
    ],
)
def test_wrong_inspection(vendor: Vendor, answer: object) -> None:
    """What the medium holds is believed only in the exact form."""
    with pytest.raises(Outage) as caught:
        vendor.answers(answer).inspect()
    assert caught.value.code == "installer"


@pytest.mark.parametrize(
    ("code", "kind", "seen"),
    [
        ("no-space", Outage, "no-space"),
        ("busy", Outage, "busy"),
        ("whatever", Outage, "installer"),
        ("hardware-mismatch", Refusal, "hardware-mismatch"),
        ("release-malformed", Refusal, "release-malformed"),
        ("below-floor", Outage, "installer"),
    ],
)
def test_failures(vendor: Vendor, code: str, kind: type[OtaError], seen: str) -> None:
    """A vendor can refuse for a few named reasons; every other one means "not now"."""
    installer = vendor.answers({"ok": False, "code": code, "message": "line\n\x1b[31mred"})
    with pytest.raises(kind) as caught:
        installer.precheck(vendor.image.release)
    assert caught.value.code == seen
    assert "line [31mred" in str(caught.value)


def test_time_limit_kills_the_group(vendor: Vendor) -> None:
    """At the time limit the updater and its children are ended."""
    started = time.monotonic()
    installer = vendor.says(f"sleep 60 & echo $! > {vendor.folder}/child; wait", timeout=0.5)
    with pytest.raises(Outage) as caught:
        installer.commit(vendor.image.sha256)
    assert "time limit" in str(caught.value)
    assert time.monotonic() - started < 10
    child = int((vendor.folder / "child").read_text())
    assert not running(child)


def running(pid: int) -> bool:
    """Whether it runs; an ended one may wait for its reaper."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state == "Z":
            return False
        time.sleep(0.02)
    return True


def test_environment(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the usual and the named variables reach the updater; nothing secret stands in argv."""
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("VENDOR_ROOT", "/v")
    script = f'env > {vendor.folder}/env; echo "$@" > {vendor.folder}/argv; echo \'{{"ok":true}}\''
    vendor.says(script, env=["VENDOR_ROOT"]).commit(vendor.image.sha256)
    seen = (vendor.folder / "env").read_text()
    assert "hunter2" not in seen
    assert "VENDOR_ROOT=/v" in seen
    assert (vendor.folder / "argv").read_text() == "commit\n"


def test_program_is_missing(vendor: Vendor) -> None:
    """A missing updater is an outage that names it."""
    installer = installers.create("exec", {"argv": ["/nonexistent/updater"]}, vendor.folder)
    with pytest.raises(Outage) as caught:
        installer.inspect()
    assert "/nonexistent/updater" in str(caught.value)


# -- the A/B device ------------------------------------------------------------------------------
class Ab:
    """The simulated board: ``boot`` restarts it, as the agent's ``reboot`` command would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "board"
        self.folder.mkdir()
        self.argv = [sys.executable, "-I", "-S", str(AB_DEVICE), str(self.folder)]
        self.old, self.new = image(folder, "old"), image(folder, "new")
        self.third = image(folder, "third")
        subprocess.run([*self.argv, "factory", str(self.old.path)], check=True)

    def installer(self) -> Installer:
        return installers.create("exec", {"argv": self.argv}, self.folder / "private")

    def boot(self) -> None:
        subprocess.run([*self.argv, "boot"], check=True)

    def variable(self, name: str) -> str:
        argv = ["fw_printenv", "-c", "fw_env.config", "-n", name]
        ran = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    def slot(self, name: str) -> bytes:
        return (self.folder / f"slot-{name}.img").read_bytes()

    def start(self, item: Image) -> None:
        self.installer().stage(item)
        assert self.installer().activate(item.sha256) == "reboot"


@pytest.fixture
def board(tmp_path: Path) -> Ab:
    return Ab(tmp_path)


def test_ab_update_committed(board: Ab) -> None:
    """Stage, activate, reboot, trial, commit: the new slot stays for good."""
    installer = board.installer()
    installer.precheck(board.new.release)
    installer.stage(board.new)
    assert board.slot("b").startswith(b"new" * 1000)
    assert board.slot("a").startswith(b"old" * 1000)
    assert installer.activate(board.new.sha256) == "reboot"
    assert installer.inspect() == Slots(board.old.sha256, "", board.new.sha256, trial=False)
    assert installer.verify_active(board.old.sha256)
    board.boot()
    assert installer.inspect() == Slots(board.new.sha256, board.old.sha256, "", trial=True)
    assert installer.verify_active(board.new.sha256)
    assert board.variable("bootcount") == "1"
    installer.commit(board.new.sha256)
    for _ in range(4):
        board.boot()
        found = installer.inspect()
        assert found == Slots(board.new.sha256, board.old.sha256, "", trial=False)
    assert board.variable("upgrade_available") == "0"


def test_ab_falls_back(board: Ab) -> None:
    """A slot in which nobody commits is left by the boot loader after its tries."""
    board.start(board.new)
    tried = []
    for _ in range(3):  # bootlimit is 2
        board.boot()
        tried.append(board.installer().inspect().current)
    assert tried == [board.new.sha256, board.new.sha256, board.old.sha256]
    found = board.installer().inspect()
    assert found == Slots(board.old.sha256, "", board.new.sha256, trial=False)
    assert board.installer().verify_active(board.old.sha256)
    board.installer().cleanup([board.old.sha256])
    assert board.installer().inspect() == Slots(board.old.sha256, "", "", trial=False)
    board.start(board.third)
    board.boot()
    assert board.installer().verify_active(board.third.sha256)


def test_ab_rolled_back_on_trial(board: Ab) -> None:
    """Unhealthy on trial: the way back is another reboot, then the old image runs, committed."""
    board.start(board.new)
    board.boot()
    assert board.installer().rollback() == "reboot"
    waiting = board.installer().inspect()
    assert (waiting.current, waiting.trial) == (board.new.sha256, True)
    assert board.installer().rollback() == "reboot"
    board.boot()
    found = board.installer().inspect()
    assert (found.current, found.trial) == (board.old.sha256, False)
    assert board.installer().rollback() == "active"


def test_ab_rolled_back_before_the_reboot(board: Ab) -> None:
    """Taken back before the reboot, the old slot is simply booted again."""
    board.start(board.new)
    assert board.installer().rollback() == "active"
    board.boot()
    assert board.installer().inspect().current == board.old.sha256
    assert board.installer().verify_active(board.old.sha256)


@pytest.mark.parametrize("verb", ["stage", "activate", "commit"])
def test_ab_killed_in_every_verb(board: Ab, verb: str) -> None:
    """Power cut inside any verb, then a boot: a whole image runs, and a repeat completes it."""
    steps = {
        "stage": lambda: board.installer().stage(board.new),
        "activate": lambda: board.installer().activate(board.new.sha256),
        "commit": lambda: board.installer().commit(board.new.sha256),
    }
    for name in ("stage", "activate", "commit")[: list(steps).index(verb)]:
        steps[name]()
    if verb == "commit":
        board.boot()
    number = 0
    while True:
        number += 1
        die = board.folder / "die-at"
        die.write_text(str(number))
        try:
            steps[verb]()
        except Outage:
            die.unlink()
            assert board.installer().verify_active(board.installer().inspect().current)
            continue
        die.unlink()
        break
    assert number > 1
    if verb == "stage":
        steps["activate"]()
    board.boot()
    assert board.installer().verify_active(board.new.sha256)
    board.installer().commit(board.new.sha256)
    assert board.installer().inspect() == Slots(board.new.sha256, board.old.sha256, "", trial=False)


def test_ab_refuses_other_hardware(board: Ab, tmp_path: Path) -> None:
    """The vendor's own check is a refusal, and nothing was written."""
    before = board.slot("b")
    with pytest.raises(Refusal) as caught:
        board.installer().precheck(image(tmp_path, "else", hardware="gw").release)
    assert caught.value.code == "hardware-mismatch"
    assert board.slot("b") == before


def test_ab_image_too_large(board: Ab, tmp_path: Path) -> None:
    """An image longer than a slot is ``no-space`` before anything is written."""
    with pytest.raises(Outage) as caught:
        board.installer().precheck(image(tmp_path, "big", length=9 << 20).release)
    assert caught.value.code == "no-space"


def test_ab_damaged_slot(board: Ab) -> None:
    """A slot whose bytes changed does not verify."""
    with (board.folder / "slot-a.img").open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(8))
    assert not board.installer().verify_active(board.old.sha256)


def test_ab_lying_file(board: Ab) -> None:
    """A file that is not what was announced is never a staged image."""
    board.new.path.write_bytes(b"something else")
    with pytest.raises(Refusal) as caught:
        board.installer().stage(board.new)
    assert caught.value.code == "image-mismatch"
    assert board.installer().inspect() == Slots(board.old.sha256, "", "", trial=False)
    with pytest.raises(Outage):
        board.installer().activate(board.new.sha256)
