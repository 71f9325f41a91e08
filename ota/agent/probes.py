"""One try of each kind of health probe: "" when it succeeded, else the reason.

A try never lasts longer than its ``seconds``, whatever the other side does.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ota.agent import command
from signing.errors import Malformed

BODY_LIMIT = 65_536


@dataclass(frozen=True)
class Command:
    """Exit status 0 is healthy."""

    argv: Sequence[str]
    env: Sequence[str] = ()

    def __call__(self, seconds: float) -> str:
        """Run it once."""
        ran = command.run(self.argv, timeout=seconds, names=self.env)
        return "" if ran.succeeded else ran.why()


@dataclass(frozen=True)
class Tcp:
    """A connection that opens is healthy."""

    host: str
    port: int

    def __call__(self, seconds: float) -> str:
        """Connect once and close."""
        try:
            socket.create_connection((self.host, self.port), timeout=seconds).close()
        except (OSError, UnicodeError) as e:
            return f"{self.host} port {self.port}: {e}"
        return ""


@dataclass(frozen=True)
class Http:
    """One GET; no redirects, no proxy, bounded reads."""

    secure: bool
    host: str
    port: int | None
    target: str
    contains: bytes

    @classmethod
    def create(cls, url: str, contains: str, where: str) -> Http:
        """Split a URL; ``Malformed`` for anything but https, or http to loopback."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as e:
            raise Malformed(f"{where}: url: {e}", subject=where) from e
        plain = url.isascii() and url.isprintable() and " " not in url
        allowed = parts.scheme == "https" or (parts.scheme == "http" and loopback(host))
        if not (plain and host and allowed) or parts.username is not None:
            raise Malformed(
                f"{where}: url: {url!r:.120} is neither https nor http to a loopback address",
                subject=where,
            )
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme == "https", host, port, target, contains.encode())

    def __call__(self, seconds: float) -> str:
        """Ask once. A timer cuts the connection, because a socket timeout restarts per read."""
        connection = self._connection(seconds)
        try:
            connection.connect()
            timer = threading.Timer(seconds, _cut, (connection.sock,))
            timer.daemon = True
            timer.start()
            try:
                return self._exchange(connection)
            finally:
                timer.cancel()
        except (OSError, http.client.HTTPException, ValueError) as e:
            return f"{self.target}: {type(e).__name__}: {e}"
        finally:
            connection.close()

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        if not self.secure:
            return http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(self.host, self.port, timeout=seconds, context=context)

    def _exchange(self, connection: http.client.HTTPConnection) -> str:
        connection.request("GET", self.target, headers={"Connection": "close"})
        answer = connection.getresponse()
        if not 200 <= answer.status <= 299:
            return f"{self.target}: status {answer.status} {answer.reason}"
        if self.contains and self.contains not in answer.read(BODY_LIMIT):
            return f"{self.target}: the answer does not contain {self.contains.decode()!r}"
        return ""


def _cut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        sock.close()


def loopback(host: str) -> bool:
    """``localhost``, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
