"""The Jobs service over HTTPS, as AWS IoT's data endpoint speaks it to certificates.

Mutual TLS; the thing is the certificate's common name, and nobody reaches another thing's paths
(403). ``jobDocument`` is a string here, errors have the HTTP API's names, and a version that does
not fit is an ``InvalidRequestException`` that does not show the execution.

>>> with serving(authority, jobs) as endpoint:
...     endpoint.port, endpoint.reports, endpoint.alpn
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from simulators.jobs_model import JSON, Jobs
from simulators.pki import Authority
from simulators.serving import in_thread

_STATUS = {
    "InvalidRequest": (400, "InvalidRequestException"),
    "VersionMismatch": (400, "InvalidRequestException"),
    "ResourceNotFound": (404, "ResourceNotFoundException"),
    "InvalidStateTransition": (409, "InvalidStateTransitionException"),
    "TerminalStateReached": (410, "TerminalStateException"),
    "RequestThrottled": (429, "ThrottlingException"),
    "InternalError": (503, "ServiceUnavailableException"),
}


class Endpoint(ThreadingHTTPServer):
    """See the module. ``garble`` is answered instead of anything else; ``drip`` never ends, ``hang_up`` never begins."""

    daemon_threads = True

    def __init__(self, authority: Authority, jobs: Jobs, alpn: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        made = authority.issue("127.0.0.1", server=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(made.certificate, made.key)
        self.context.load_verify_locations(authority.ca)
        self.context.load_verify_locations(authority.crl)
        self.context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        self.context.verify_mode = ssl.CERT_REQUIRED
        if alpn:
            self.context.set_alpn_protocols(alpn)
        self.jobs = jobs
        self.reports: list[tuple[str, bytes]] = []
        self.alpn: list[str | None] = []
        self.garble = b""
        self.drip = threading.Event()
        self.hang_up = threading.Event()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS in the request's own thread."""
        if self.hang_up.is_set():
            return
        with contextlib.suppress(OSError):
            request.settimeout(10)
            with self.context.wrap_socket(request, server_side=True) as sock:
                self.alpn.append(sock.selected_alpn_protocol())
                super().finish_request(sock, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Endpoint

    def log_message(self, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        """Describe."""
        self._do()

    def do_PUT(self) -> None:
        """Start next."""
        self._do()

    def do_POST(self) -> None:
        """Update, or publish."""
        self._do()

    def _do(self) -> None:
        subject = self.connection.getpeercert()["subject"]
        mine = next(value for ((key, value),) in subject if key == "commonName")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        levels = [unquote(level) for level in parts.path.split("/")[1:]]
        if self.server.garble or self.server.drip.is_set():
            self._garbled()
        elif levels[0] == "topics":
            self._publish(mine, "/".join(levels[1:]), body)
        elif levels[1] != mine:
            self._answer(403, {"message": None}, "ForbiddenException")
        else:
            self._job(mine, levels[3], body, parts.query)

    def _publish(self, mine: str, topic: str, body: bytes) -> None:
        if topic != f"ota/{mine}/report":
            self._answer(403, {"message": None}, "ForbiddenException")
            return
        self.server.reports.append((mine, body))
        self._answer(200, {"message": "OK", "traceId": "0"})

    def _job(self, thing: str, job: str, body: bytes, query: str) -> None:
        asked: JSON = json.loads(body) if body else {}
        if query:
            asked["includeJobDocument"] = parse_qs(query)["includeJobDocument"] == ["true"]
        verb = {"GET": "get", "PUT": "start-next", "POST": "update"}[self.command]
        accepted, answer = self.server.jobs.handle(verb, thing, job, asked)
        if not accepted:
            status, kind = _STATUS[answer["code"]]
            self._answer(status, {"message": answer["message"]}, kind)
            return
        execution = answer.get("execution")
        if execution and "jobDocument" in execution:
            document = execution["jobDocument"]
            if isinstance(document, bytes):
                document = document.decode("utf-8", "replace")
            elif not isinstance(document, str):
                document = json.dumps(document)
            execution["jobDocument"] = document
        self._answer(200, answer)

    def _answer(self, status: int, body: JSON, kind: str = "") -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        if kind:
            self.send_header("x-amzn-ErrorType", f"{kind}:http://internal.amazon.com/")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _garbled(self) -> None:
        data = self.server.garble
        if not self.server.drip.is_set():
            self.connection.sendall(data)
            return
        with contextlib.suppress(OSError):
            self.connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while self.server.drip.is_set():
                self.connection.sendall(b"x")
                threading.Event().wait(0.05)


@contextlib.contextmanager
def serving(authority: Authority, jobs: Jobs, alpn: list[str] | None = None) -> Iterator[Endpoint]:
    """The endpoint for as long as the block lasts."""
    endpoint = Endpoint(authority, jobs, alpn or [])
    with in_thread(endpoint):
        try:
            yield endpoint
        finally:
            endpoint.drip.clear()
