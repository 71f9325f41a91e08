"""``ota-agent playbook run``: as a command of a courier, beside a running agent, and its end."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from simulators.agentcli import Device

from signing import strict

HELLO: dict[str, Any] = {
    "schema": 1,
    "name": "hello",
    "version": "1.0.0",
    "summary": "Say hello",
    "platforms": ["linux"],
    "roads": ["agent"],
    "parameters": {"who": {"type": "string", "pattern": "^[a-z]{1,9}$"}},
}


def body(device: Device, **more: Any) -> dict[str, Any]:
    step = {
        "name": "say",
        "timeout": 20,
        "on_failure": "stop",
        "file": {
            "path": str(device.folder / "said"),
            "mode": "0644",
            "format": "plain",
            "content": "hello ${who}\n",
        },
    }
    return HELLO | {"steps": [step]} | more


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path)
    device.provision()
    return device


def order(device: Device, **more: Any) -> None:
    end = strict.stamp(device.world.director.now.replace(year=device.world.director.now.year + 1))
    playbook = body(device, **more)
    device.world.playbook(playbook)
    device.world.run(playbook, {"who": "anna"}, not_after=end)
    device.publish()


def test_run_says_what_came_of_it(device: Device) -> None:
    """Exit 0 and the outcome; a second time the outcome of then."""
    order(device)
    said = device.call("playbook", "run", "hello@1.0.0", "--param", "who=anna")
    assert (said.code, said.out) == (0, "playbooks committed\n")
    assert (device.folder / "said").read_text() == "hello anna\n"
    again = device.call("playbook", "run", "hello@1.0.0", "-o", "json")
    assert again.code == 0
    assert again.json["updates"][0]["code"] == "done-before"


@pytest.mark.parametrize(
    ("words", "exit_code", "text"),
    [
        (("hello@1.0.0", "--param", "who=bob"), 3, "another value for who (hint-playbook)"),
        (("hello@2.0.0",), 3, "the director orders playbooks/hello-1.0.0.json (hint-playbook)"),
        (("hello",), 2, "is not NAME@VERSION"),
        (("../hello@1",), 2, "does not match"),
        (("hello@1.0.0", "--param", "who"), 2, "not NAME=VALUE"),
        (("hello@1.0.0", "--param", "who=a", "--param", "who=b"), 2, "or twice"),
    ],
)
def test_what_it_does_not_run(
    device: Device, words: tuple[str, ...], exit_code: int, text: str
) -> None:
    """Another playbook, another value, or words that are none: an exit code, and nothing done."""
    order(device)
    said = device.call("playbook", "run", *words)
    assert (said.code, said.out) == (exit_code, "")
    assert text in said.err
    assert not (device.folder / "said").exists()


def test_nothing_is_ordered(device: Device) -> None:
    """A signed playbook alone runs nowhere."""
    device.world.playbook(body(device))
    device.publish()
    said = device.call("playbook", "run", "hello@1.0.0")
    assert (said.code, "orders no playbook here" in said.err) == (3, True)


def test_a_running_agent_does_it_and_the_verb_waits(device: Device) -> None:
    """Beside an agent that holds the device, the request is a hint to it; the outcome is its own."""
    order(device)
    agent = subprocess.Popen(
        device.argv("run"),
        env=device.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 30
        while not (device.folder / "said").exists() and time.monotonic() < until:
            time.sleep(0.1)
        playbook = body(device, version="2.0.0")
        device.world.playbook(playbook)
        device.world.run(playbook, {"who": "bob"}, order="ota-hello-2-aaaaaa-u1-w0-b0",
                         not_after=strict.stamp(device.world.director.timestamp.expires))  # fmt: skip
        device.publish()
        said = device.call("playbook", "run", "hello@2.0.0", "--wait", "60")
        assert (said.code, said.out) == (0, "playbooks committed\n")
        assert (device.folder / "said").read_text() == "hello bob\n"
        late = device.call("playbook", "run", "hello@3.0.0", "--wait", "0")
        assert (late.code, "still-running" in late.err) == (8, True)
    finally:
        agent.terminate()
        agent.communicate(timeout=30)
    assert agent.returncode == 0


def test_status_shows_a_run_that_waits(device: Device) -> None:
    """Between two boots: which playbook, and how far; then it is over."""
    reboot = {"name": "boot", "timeout": 600, "on_failure": "stop", "reboot": {}}
    order(device, steps=[reboot])
    said = device.call("playbook", "run", "hello@1.0.0")
    assert (said.code, said.out) == (
        8,
        "playbooks waiting pending-reboot waiting for a reboot\n",
    )
    found = device.call("status", "-o", "json").json["playbook"]
    assert (found["path"], found["state"], found["steps"]) == (
        "playbooks/hello-1.0.0.json",
        "PENDING_REBOOT",
        [],
    )
    assert "playbook   playbooks/hello-1.0.0.json  PENDING_REBOOT" in device.call("status").out


def test_after_wipe_the_device_is_not_provisioned(device: Device) -> None:
    """Its agent says so, and leaves the receipt alone."""
    receipt = device.folder / "receipt.json"
    wipe = {"name": "end", "timeout": 60, "on_failure": "stop", "wipe": {"receipt": str(receipt)}}
    order(device, steps=[wipe])
    said = device.process("once")
    assert (said.code, said.out) == (0, "playbooks committed wiped keys and state are gone\n")
    assert receipt.exists()
    assert {p.name for p in device.state.iterdir()} <= {"lock"}
    gone = device.process("once")
    assert (gone.code, "is not provisioned" in gone.err) == (2, True)
