"""Brokers that keep a device waiting: silent, a byte now and then, or deaf once it has connected.

>>> with dripping("handshake") as port: ...
>>> with dripping("packets", authority) as port: ...
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Literal

from simulators.pki import Authority

Kind = Literal["silence", "handshake", "packets", "deaf"]
EVERY = 0.02
"""Seconds between two bytes: far less than any limit on one read."""
_RECORD = b"\x16\x03\x03\x3f\xff"
"""The head of a TLS handshake record of 16,383 bytes."""
_CONNACK = b"\x20\x03\x00\x00\x00"


class _Server:
    def __init__(self, kind: Kind, authority: Authority | None) -> None:
        self._kind = kind
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self._context: ssl.SSLContext | None = None
        if authority is not None:
            own = authority.issue("127.0.0.1", server=True)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(own.certificate, own.key)
            self._context.load_verify_locations(authority.ca)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", 0))
        if kind == "deaf":
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def serve(self) -> None:
        """One thread for each connection."""
        while not self._end.is_set():
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._one, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Hang up on everybody."""
        self._end.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self._threads:
            thread.join(10)

    def _one(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            if self._kind == "handshake":
                self._drip(sock, _RECORD)
            elif self._context is not None:
                with self._context.wrap_socket(sock, server_side=True) as tls:
                    tls.recv(4096)
                    if self._kind == "packets":
                        self._drip(tls, b"\x20\xff\x7f")  # a CONNACK of 16,383 bytes
                    else:
                        self._deaf(tls)
            self._end.wait(300)

    def _drip(self, sock: socket.socket, head: bytes) -> None:
        sock.sendall(head)
        while not self._end.wait(EVERY):
            sock.sendall(b"\x00")

    def _deaf(self, sock: socket.socket) -> None:
        """Take the connection and the first subscription, then read nothing more."""
        sock.sendall(_CONNACK)
        packet = sock.recv(4096)
        filters = packet.count(b"$aws/")
        number = packet[2:4]
        sock.sendall(bytes([0x90, 3 + filters]) + number + b"\x00" + b"\x01" * filters)
        self._end.wait(300)


@contextlib.contextmanager
def dripping(kind: Kind, authority: Authority | None = None) -> Iterator[int]:
    """Run one on a free loopback port; with an ``authority`` the handshake is honest."""
    server = _Server(kind, authority)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield int(server.listener.getsockname()[1])
    finally:
        server.close()
        thread.join(10)
