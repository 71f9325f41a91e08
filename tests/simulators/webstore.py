"""A loopback HTTP store that serves a dictionary and can misbehave by name.

``behaviour[name]`` is a function that gets the handler and answers the request itself; without
one, ``objects[name]`` is served with ranges and strong entity tags.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from simulators.serving import in_thread


class WebStore(ThreadingHTTPServer):
    """See the module; ``requests`` logs ``(name, Range header)``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.behaviour: dict[str, Callable[[Handler], None]] = {}
        self.requests: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def calm(self) -> None:
        """Behave again."""
        self.behaviour = {}

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the test."""


class Handler(BaseHTTPRequestHandler):
    """Serves one request."""

    server: WebStore
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: 40 ms between them otherwise

    def log_message(self, *args: object) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        name = unquote(self.path.lstrip("/"))
        self.server.requests.append((name, self.headers.get("Range", "")))
        if name in self.server.behaviour:
            self.server.behaviour[name](self)
            return
        data = self.server.objects.get(name)
        if data is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and self.headers.get("If-Range") == tag:
            start = int(match[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            data = data[start:]
        else:
            self.send_response(200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def webstore() -> Iterator[WebStore]:
    """Run a store in a thread on a free loopback port."""
    with in_thread(WebStore()) as server:
        yield server
