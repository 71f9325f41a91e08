"""A device whose disk fails: every file of its own, damaged in every way, and every verb."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from simulators.agentcli import ROOT, Device

from ota.agent import verbs

DAMAGE: dict[str, Callable[[bytes], bytes] | None] = {
    "emptied": lambda _data: b"",
    "noise": lambda _data: bytes(range(256)) * 20,
    "flipped": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :]
    ),
    "gone": None,
}
FETCHED = ("timestamp.json", "snapshot.json", "targets.json", "app.json")
"""What a look fetches anew as soon as it needs it; everything else needs the owner."""
FILES = (
    *(f"trust/{repo}/current/root.json" for repo in ("director", "image")),
    *(f"trust/director/current/{role}.json" for role in ("timestamp", "snapshot", "targets")),
    *(f"trust/image/current/{role}.json" for role in ("timestamp", "targets", "app")),
    "trust/director/roots/2.root.json",
    "identity/key.pem",
    "state.db",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Device:
    """One release installed, under a director root that has moved on once."""
    device = Device(tmp_path_factory.mktemp("device"))
    device.slot.parent.mkdir()
    device.slot.write_bytes(b"factory")
    device.provision()
    device.world.director.publish_root()
    device.world.release()
    device.world.assign()
    device.publish()
    assert device.call("once").code == 0
    assert device.slot.read_bytes() == b"one"
    return device


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file(installed: Device, name: str, how: str) -> None:
    """No traceback, the slot untouched; what can not be fetched anew is named, and not made anew."""
    path, runs = installed.state / name, installed.slot.read_bytes()
    good, damage = path.read_bytes(), DAMAGE[how]
    path.unlink() if damage is None else path.write_bytes(damage(good))
    for verb in ("status", "verify", "once"):
        said = installed.call(verb)
        assert said.code in {0, 1, 2, 3}
        assert installed.slot.read_bytes() == runs
        if verb == "verify" and how != "gone":
            assert said.code != 0
    if path.name in FETCHED:
        assert said.code == 0
    else:
        if said.code:
            assert str(installed.state) in said.err
            assert "\nnext: " in said.err
        path.write_bytes(good)
        path.chmod(0o600)
    updates(installed)


def updates(device: Device) -> None:
    """The next honest update is installed, and the device is sound."""
    number = len(device.world.images) + 1
    data = f"release {number}".encode()
    device.ship(f"app/app-{number}.bin", data, order=f"ota-app-1-aaaaaa-u{number}-w1-b1")
    assert device.call("once").code == 0
    assert device.slot.read_bytes() == data
    assert device.call("verify").out == "sound\n"


def test_what_nobody_foresaw_is_no_traceback(installed: Device) -> None:
    """A mistake of ours ends in one line and exit 1; ``--debug`` shows the rest."""
    script = (
        "import sys\nfrom ota.agent import main, verbs\n"
        "def broken(arguments): raise ZeroDivisionError('oops')\n"
        "verbs.run = broken\nsys.exit(main.main(sys.argv[1:]))"
    )
    assert callable(verbs.run)
    for more, shown in (((), False), (("--debug",), True)):
        done = subprocess.run(
            [sys.executable, "-c", script, "status", *more],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert ("Traceback" in done.stderr) is shown
        assert "ZeroDivisionError: oops" in done.stderr
