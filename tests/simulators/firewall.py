"""What stands between a plant and its cloud: lets a TCP connection through, or hangs up on it.

``alpn``: only TLS whose ClientHello names this protocol passes, as on AWS's port 443.

>>> with firewall(broker.port, alpn="x-amzn-mqtt-ca") as wall:
...     wall.port
...     wall.blocked = True          # what is open is cut, too
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

from simulators.serving import in_thread


class Firewall(socketserver.ThreadingTCPServer):
    """See the module. ``passed`` counts connections that were let through."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, target: int, alpn: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.target = target
        self.alpn = alpn.encode()
        self.passed = 0
        self._blocked = False
        self._open: list[socket.socket] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def blocked(self) -> bool:
        """Whether nothing passes."""
        return self._blocked

    @blocked.setter
    def blocked(self, value: bool) -> None:
        self._blocked = value
        for sock in self._open if value else ():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Passage(socketserver.BaseRequestHandler):
    """One connection: its first bytes are looked at, then both directions are copied."""

    server: Firewall

    def handle(self) -> None:
        wall = self.server
        hello = self.request.recv(65536)
        if wall.blocked or wall.alpn not in hello:
            return
        with socket.create_connection(("127.0.0.1", wall.target)) as away:
            wall.passed += 1
            wall._open += [self.request, away]
            away.sendall(hello)
            back = threading.Thread(target=_copy, args=(away, self.request), daemon=True)
            back.start()
            _copy(self.request, away)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def firewall(target: int, alpn: str = "") -> Iterator[Firewall]:
    """One for as long as the block lasts; ``target`` is a port on the loopback address."""
    wall = Firewall(target, alpn)
    with in_thread(wall):
        try:
            yield wall
        finally:
            wall.blocked = True
