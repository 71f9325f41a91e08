"""A real Mosquitto as a plant would run it for its devices: mTLS, a CRL, one topic tree each.

The user is the common name of the certificate, so a thing's name; the client id is free. Topics
are those of AWS IoT. One certificate, ``jobs-service``, may speak for the Jobs service and read
all reports (``jobs_service.py``).

>>> with running(tmp_path) as broker:
...     thing = broker.authority.issue("press-07")
...     broker.options(thing)                 # [feed] of agent.toml
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulators.pki import Authority, Issued

from ota.agent.feeds.options import IotJobsOptions

SERVICE = "jobs-service"
ACL = f"""\
user {SERVICE}
topic readwrite $aws/things/#
topic readwrite ota/#
pattern read $aws/things/%u/jobs/#
pattern write $aws/things/%u/jobs/start-next
pattern write $aws/things/%u/jobs/+/update
pattern write $aws/things/%u/jobs/+/get
pattern write ota/%u/report
"""
CONFIG = """\
user {user}
listener {port} 127.0.0.1
cafile {ca}
certfile {certificate}
keyfile {key}
crlfile {crl}
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {folder}/acl
persistence false
log_type all
"""


@dataclass
class Broker:
    """``start`` again after ``stop`` reads the CRL again; the port stays."""

    folder: Path
    authority: Authority
    server: Issued
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        config = self.folder / "mosquitto.conf"
        (self.folder / "acl").write_text(ACL)
        config.write_text(
            CONFIG.format(
                user="root" if os.geteuid() == 0 else "mosquitto",
                port=self.port,
                ca=self.authority.ca,
                certificate=self.server.certificate,
                key=self.server.key,
                crl=self.authority.crl,
                folder=self.folder,
            )
        )
        with (self.folder / "log").open("ab") as log:
            words = ["/usr/sbin/mosquitto", "-c", str(config)]
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise RuntimeError(f"mosquitto does not start: {self.log()[-2000:]}")

    def stop(self) -> None:
        """End it at once, as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """What it said so far."""
        return (self.folder / "log").read_text(errors="replace")

    def options(self, thing: Issued, /, **changes: Any) -> IotJobsOptions:
        """The feed of this thing's agent."""
        words = {
            "endpoint": "127.0.0.1",
            "port": self.port,
            "thing": thing.name,
            "certificate": str(thing.certificate),
            "key": str(thing.key),
            "ca": str(self.authority.ca),
            "fallback": (),
            "start_jitter": 0.0,
            "timeout": 5.0,
        }
        return IotJobsOptions(**(words | changes))


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Broker]:
    """One broker for as long as the block lasts."""
    authority = Authority(folder / "pki")
    server = authority.issue("127.0.0.1", server=True)
    broker = Broker(folder, authority, server, free_port())
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
