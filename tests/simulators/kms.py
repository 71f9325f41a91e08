"""AWS KMS for the tests: ministack, an emulator that does DIGEST signatures as AWS does.

It runs in an environment of its own (``.venv-ministack``, its lock lies beside this file), bound
to 127.0.0.1, with its other listeners off. And ``lying``: an endpoint that answers what a test
wants, for what no honest KMS says.

>>> with ministack() as kms:
...     kms.make("ECC_NIST_P256")
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-west-1"
Answer = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any] | bytes]]


def environment(url: str) -> dict[str, str]:
    """What boto3 is told: endpoint, region, credentials, and nothing of this machine."""
    return {
        "AWS_ENDPOINT_URL_KMS": url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "a throw-away secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


@dataclass(frozen=True)
class Kms:
    """A running endpoint."""

    url: str
    pid: int

    def client(self) -> Any:
        """The administrator's own client."""
        return boto3.client(
            "kms",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
            aws_secret_access_key="a throw-away secret",
        )

    def make(self, spec: str, usage: str = "SIGN_VERIFY") -> str:
        """A new key; its ARN."""
        made = self.client().create_key(KeySpec=spec, KeyUsage=usage)
        return str(made["KeyMetadata"]["Arn"])


@contextlib.contextmanager
def ministack() -> Iterator[Kms]:
    """Run it for as long as the block lasts."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ministack-") as folder:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "TMPDIR": folder,
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
        }
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                [_python(), "-m", "ministack"], cwd=folder, env=env, stdout=log, stderr=log
            )
        try:
            _wait(process, port, Path(folder) / "log")
            yield Kms(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.kill()
            process.wait()


def _python() -> Path:
    """Its interpreter; the environment is made where ``make test`` has not made it."""
    with (ROOT / "tests" / "simulators" / "ministack.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = ["make", "-s", ".venv-ministack/.stamp"]
        subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=240)
    return ROOT / ".venv-ministack" / "bin" / "python"


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"ministack does not start: {log.read_text()[-2000:]}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def lying(answer: Answer) -> Iterator[str]:
    """The URL of an endpoint that answers ``answer(operation, request)``: status and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            request = json.loads(self.rfile.read(length))
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            status, body = answer(operation, request)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def error(code: str) -> tuple[int, Mapping[str, str]]:
    """What AWS answers for an error."""
    return 400, {"__type": code, "message": "as the test wants it"}
