"""The devices of a quickstart: each a folder of its own and an ``ota-agent`` process of its own.

A device knows its own folder, its own spool folder and loopback URLs. It makes its own key,
takes both roots from files with their fingerprints, and runs its program below its own slots.

>>> fleet = Devices(stage, ["gw-01", "gw-02"], kind)
>>> fleet.provision()
>>> with fleet: ...          # all agents run
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from ota.errors import NotFound, Outage
from ota.quickstart import program
from ota.quickstart.stage import Stage

HARDWARE = "gw-rev-b"
_CONFIG = """\
device = "{id}"
state_dir = "{home}/state"
store = "{store}"

[feed]
kind = "spool"
path = "{spool}"

[poll]
interval = 3600.0

{component}
"""
_PROGRAM = """\
[components.app]
hardware_id = "{hardware}"
installer = "dir-symlink"

[components.app.options]
path = "{home}/app"
restart = ["{python}", "-I", "-S", "{home}/service.py", "{home}/app", "{port}", "{owner}"]

[components.app.health]
kind = "http"
url = "http://127.0.0.1:{port}/health"
interval = 0.1
deadline = 3.0
"""
_FILE = """\
[components.image]
hardware_id = "{hardware}"
installer = "single-file"

[components.image.options]
path = "{home}/image"

[components.image.health]
kind = "command"
argv = ["test", "-s", "{home}/image"]
"""


def agent_command() -> str:
    """The ``ota-agent`` of this installation."""
    beside = Path(sys.executable).parent / "ota-agent"
    found = str(beside) if beside.exists() else shutil.which("ota-agent")
    if found is None:
        raise NotFound(
            "there is no ota-agent beside this ota",
            code="not-installed",
            remedy="pip install the project, then ota quickstart again",
        )
    return found


class Devices:
    """All devices of one stage. ``files``: their component is one plain file, not a program."""

    def __init__(self, stage: Stage, ids: Sequence[str], *, files: bool = False) -> None:
        self._stage = stage
        self._files = files
        self._agent = agent_command()
        self.ids = list(ids)
        self.ports: dict[str, int] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def home(self, device: str) -> Path:
        """The device's own folder."""
        return self._stage.folder / "devices" / device

    def spool(self, device: str) -> Path:
        """The device's own spool folder."""
        return self._stage.folder / "spool" / device

    # -- provisioning ------------------------------------------------------------------------------
    def provision(self, tick: Callable[[int], None]) -> None:
        """Configure and provision all of them with their own commands, then register them."""
        with contextlib.ExitStack() as sockets:
            for device in self.ids:
                taken = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
                self.ports[device] = taken.getsockname()[1]
        for device in self.ids:
            self._configure(device)
        with ThreadPoolExecutor(4) as pool:
            for done, _ in enumerate(pool.map(self._provision, self.ids), 1):
                tick(done)
        self._register()

    def _configure(self, device: str) -> None:
        home = self.home(device)
        home.mkdir(parents=True)
        (home / "service.py").write_text(program.SERVICE)
        words = {
            "id": device,
            "home": str(home),
            "store": self._stage.url,
            "spool": str(self.spool(device)),
            "hardware": HARDWARE,
            "python": sys.executable,
            "port": str(self.ports[device]),
            "owner": str(os.getpid()),
        }
        component = (_FILE if self._files else _PROGRAM).format(**words)
        (home / "agent.toml").write_text(_CONFIG.format(component=component, **words))

    def _provision(self, device: str) -> None:
        director, image = self._stage.roots()
        fingerprints = ["--root-sha256", director["sha256"], "--root-sha256", image["sha256"]]
        roots = ["--director-root", director["file"], "--image-root", image["file"]]
        config = ["--config", str(self.home(device) / "agent.toml")]
        ran = subprocess.run(
            [self._agent, "provision", *config, *roots, *fingerprints],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if ran.returncode:
            raise Outage(f"{device} could not be provisioned: {ran.stderr.strip()[:500]}")

    def _register(self) -> None:
        allow = self._stage.folder / "devices.csv"
        allow.write_text("id,courier\n" + "".join(f"{d},spool\n" for d in self.ids))
        paths = [self.home(d) / "state" / "identity" / "enrolment.json" for d in self.ids]
        joined = self._stage.wiring.join([p.read_bytes() for p in paths], allow, {}, "spool")
        refused = [j for j in joined if j.result == "refused"]
        if refused:
            raise Outage(f"not registered: {refused}")

    # -- running -----------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        for device in self.ids:
            with (self.home(device) / "agent.log").open("ab") as log:
                self._running[device] = subprocess.Popen(
                    [self._agent, "run", "--config", str(self.home(device) / "agent.toml")],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for device in self.ids:
            self._stop_program(device)

    def _stop_program(self, device: str) -> None:
        file = self.home(device) / "app.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)
            file.unlink()

    def freeze(self, device: str) -> None:
        """Stop the agent's process for a moment, as a device that is busy or asleep."""
        self._running[device].send_signal(signal.SIGSTOP)

    def thaw(self, device: str) -> None:
        """Let it go on."""
        self._running[device].send_signal(signal.SIGCONT)

    # -- looking -----------------------------------------------------------------------------------
    def installed(self, device: str) -> str:
        """The version in the slot that is current, "" for none."""
        try:
            return (self.home(device) / "app" / "current" / "VERSION").read_text().strip()
        except FileNotFoundError:
            return ""

    def answers(self, device: str) -> str:
        """The version that the running program itself says, "" when it does not answer."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports[device]), timeout=2) as client:
                client.sendall(b"GET /version HTTP/1.0\r\n\r\n")
                data = b"".join(iter(lambda: client.recv(4096), b""))
        except OSError:
            return ""
        return data.rpartition(b'"version": "')[2].partition(b'"')[0].decode("ascii", "replace")

    def log(self, device: str) -> str:
        """The last lines of the agent's log."""
        with contextlib.suppress(FileNotFoundError):
            return (self.home(device) / "agent.log").read_text()[-2000:]
        return ""


def wait_for(what: str, check: Callable[[], bool], limit: float = 15.0) -> None:
    """Poll until ``check`` is true; ``Outage`` past the limit."""
    until = time.monotonic() + limit
    while not check():
        if time.monotonic() > until:
            raise Outage(f"waited {limit:.0f} s for {what}", code="demo")
        time.sleep(0.05)
