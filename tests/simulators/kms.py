"""AWS KMS for the tests: ministack, an emulator that does DIGEST signatures as AWS does.

A server of its own, started by ``ministack.py`` beside this file. And ``lying``: an endpoint that
answers what a test wants, for what no honest KMS says.

>>> with ministack() as kms:
...     kms.make("ECC_NIST_P256")
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3

from tests.simulators import ministack as emulator
from tests.simulators.serving import in_thread

REGION = emulator.REGION
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
    with emulator.running(auth=False, mqtt=False) as server:
        yield Kms(server.url, server.pid)


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

    with in_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}"


def error(code: str) -> tuple[int, Mapping[str, str]]:
    """What AWS answers for an error."""
    return 400, {"__type": code, "message": "as the test wants it"}
