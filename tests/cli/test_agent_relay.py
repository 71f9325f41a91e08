"""``ota-agent relay`` as couriers call it: one JSON object, exit codes, a look that outlives them."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulators.agentcli import Device

from signing import durable
from signing.errors import Busy

ORDER = "ota-app-2-x7k2m9-u1-w0-b0"
NOBODY = 65_534
WORDS = ("--device", "press-07", "--order", ORDER, "--rollout", "app-2-x7k2m9")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path)
    device.provision()
    return device


def eventually(true: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def idle(device: Device) -> bool:
    try:
        with durable.locked(device.state / "lock"):
            return True
    except Busy:
        return False


def test_a_visit_in_the_agents_shadow(device: Device) -> None:
    """It works while an agent holds the device, and needs neither its lock nor its key."""
    (device.state / "identity" / "key.pem").unlink()
    with durable.locked(device.state / "lock"):
        said = device.call("relay", *WORDS, "--look")
    assert said.code == 0, said.err
    assert said.json == {
        "schema": 1,
        "device": "press-07",
        "agent": said.json["agent"],
        "hint": "new",
        "look": "running",
        "reports": [],
        "more": False,
        "oversize": [],
    }
    assert (device.folder / "spool" / "orders" / f"{ORDER}.json").exists()


def test_a_look_outlives_its_visit(device: Device) -> None:
    """The relay's whole session is killed at once; the update is installed and told of."""
    device.ship()
    shell = subprocess.Popen(
        ["sh", "-c", '"$@"; sleep 600', "sh", *device.argv("relay", *WORDS, "--look")],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=device.environment(),
    )
    assert shell.stdout is not None
    assert json.loads(shell.stdout.readline())["look"] == "started"
    os.killpg(shell.pid, signal.SIGKILL)
    shell.communicate(timeout=60)
    reports = device.folder / "spool" / "reports"
    eventually(lambda: device.slot.exists() and reports.exists() and idle(device))
    assert device.slot.read_bytes() == b"one"
    again = device.process("relay", *WORDS, "--look")
    assert (again.json["hint"], again.json["look"]) == ("known", "")
    names = [entry["name"] for entry in again.json["reports"]]
    assert len(names) > 1
    acks = [word for name in names for word in ("--ack", name)]
    assert device.call("relay", *acks).json["reports"] == []
    assert list(reports.iterdir()) == []


def test_a_look_ends_at_its_limit(device: Device) -> None:
    """``once --time-limit``: broken off where it stands, exit 8; the next look goes on from there."""
    device.ship()
    healthy = device.config.read_text()
    probe = 'argv = ["/usr/bin/sleep", "30"], timeout = 30.0, deadline = 30.0'
    device.config.write_text(re.sub(r"argv = .*deadline = 0.4", probe, healthy))
    code = "import sys; from ota.agent import main, time_limit; time_limit.GRACE = 0.2\n"
    code += "sys.exit(main.main(sys.argv[1:]))"
    said = subprocess.run(
        [sys.executable, "-c", code, *device.argv("once", "--time-limit", "0.5")[3:]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=device.environment(),
    )
    assert said.returncode == 8, said.stderr
    assert "stopped after" in said.stderr
    device.config.write_text(healthy)
    assert device.call("once", "--time-limit", "60").out.startswith("app committed")
    assert device.call("verify").out == "sound\n"


def test_its_user_needs_no_right_to_the_agents_folder() -> None:
    """The spool belongs to whom SSH logs in as, all else to the agent: the visit works, both ways."""
    with tempfile.TemporaryDirectory(prefix="relay-") as name:
        Path(name).chmod(0o755)
        device = Device(Path(name))
        device.provision()
        assert stat.S_IMODE(device.state.stat().st_mode) == 0o700
        spool = device.folder / "spool"
        for folder in (spool, spool / "orders", spool / "reports"):
            folder.mkdir()
            os.chown(folder, NOBODY, NOBODY)
        device.ship()
        first = as_nobody(device, *WORDS, "--look")
        assert (first["hint"], first["look"]) == ("new", "not-permitted")
        assert device.call("once").code == 0
        names = [entry["name"] for entry in as_nobody(device)["reports"]]
        assert len(names) > 1
        acks = [word for name in names for word in ("--ack", name)]
        assert as_nobody(device, *acks)["reports"] == []
        assert list((spool / "reports").iterdir()) == []


def as_nobody(device: Device, *words: str) -> Any:
    """A visit by a user without rights."""
    os.seteuid(NOBODY)
    try:
        said = device.call("relay", *words)
    finally:
        os.seteuid(0)
    assert said.code == 0, said.err
    return said.json


@pytest.mark.parametrize(
    ("words", "code", "exit"),
    [
        (("--device", "press-08", *WORDS[2:]), "hint-wrong-device", 3),
        (("--device", "../x"), "malformed", 2),
        (("--order", "a/b", "--rollout", "x"), "malformed", 2),
        (("--order", ORDER), "usage", 2),
        (("--rollout", "x"), "usage", 2),
        ((*WORDS, "--cancel", ORDER), "usage", 2),
        (("--ack", "../../etc/passwd"), "malformed", 2),
        (("--max-bytes", "7"), "malformed", 2),
        (("--look", "--look-limit", "0"), "malformed", 2),
    ],
)
def test_wrong_words(device: Device, words: tuple[str, ...], code: str, exit: int) -> None:  # noqa: A002 - the exit code
    """Each its own error, as JSON too, and nothing lands in the spool."""
    said = device.call("relay", *words)
    assert (said.code, said.json["code"]) == (exit, code)
    assert code in said.err
    assert not (device.folder / "spool").exists()


def test_devices_that_can_not_be_relayed_for(tmp_path: Path) -> None:
    """No configuration, no spool, not provisioned: exit 2, and what to do."""
    device = Device(tmp_path)
    text = device.config.read_text()
    assert device.call("relay", "--look").json["code"] == "not-found"
    device.config.write_text(text.replace('kind = "spool"', 'kind = "none"'))
    said = device.call("relay")
    assert (said.code, "spool" in said.json["next"]) == (2, True)
    device.config.unlink()
    assert device.call("relay").code == 2
    assert not device.state.exists()
