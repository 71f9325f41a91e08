"""Connections that end: urllib3 pools whose sockets a guard shuts down when a deadline comes.

urllib3 limits each single read; a server that sends a byte now and then stays within every such
limit for ever. So each connection also hands a duplicate of its socket to a guard. Redirects are
never followed by callers; proxies are those of the environment.

>>> guard = Guard()
>>> pool = make_pool("https://updates.example", guard)
>>> guard.arm(time.monotonic() + 60)
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import BaseHTTPResponse

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Guard:
    """Shuts down the sockets of one source when a deadline passes; one request at a time."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._timer: threading.Timer | None = None
        self.expired = False

    def watch(self, sock: socket.socket) -> None:
        """Remember a new connection by a duplicate: TLS detaches the original."""
        self._sockets = [*self._sockets[-7:], sock.dup()]

    def arm(self, deadline: float) -> None:
        """Start the clock of one request."""
        self.expired = False
        self._timer = threading.Timer(max(0.0, deadline - time.monotonic()), self._shut)
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """End the clock."""
        if self._timer is not None:
            self._timer.cancel()

    def _shut(self) -> None:
        self.expired = True
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._sockets = []


def finish(response: BaseHTTPResponse) -> None:
    """Keep the connection only when the answer was read to its end."""
    done = getattr(response, "length_remaining", None) == 0
    if not done:
        response.close()
    response.release_conn()


def make_pool(
    base: str, guard: Guard, context: ssl.SSLContext | None = None
) -> urllib3.PoolManager:
    """A pool whose connections report their sockets to ``guard``; ``context`` is for TLS."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            sock = super()._new_conn()
            guard.watch(sock)
            return sock

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            sock = super()._new_conn()
            guard.watch(sock)
            return sock

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    parts = urlsplit(base)
    proxy = None if parts.hostname in _LOOPBACK else getproxies().get(parts.scheme)
    manager: urllib3.PoolManager
    if proxy and not proxy_bypass(parts.netloc):
        manager = urllib3.ProxyManager(proxy, num_pools=2, maxsize=1, ssl_context=context)
    else:
        manager = urllib3.PoolManager(num_pools=2, maxsize=1, ssl_context=context)
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return manager
