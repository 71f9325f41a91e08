"""A store behind HTTPS (or loopback HTTP): bounded in time even while headers or TLS drip.

urllib3 limits each single read; a server that sends a byte now and then stays within every such
limit for ever. So each connection also hands a duplicate of its socket to a guard, which shuts
it down when the request's deadline comes. Redirects are not followed and proxies are those of
the environment.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from signing.errors import Outage

_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_MISSING = {403, 404}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class _Guard:
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


class HttpSource:
    """Reads store names below ``base``; implements ``transfer.Source``.

    Names are percent-encoded unless they come ``encoded``.
    """

    def __init__(self, base: str, *, connect: float, read: float, encoded: bool = False) -> None:
        self._base = base
        self._encoded = encoded
        self._guard = _Guard()
        self._pool = _pool(base, self._guard)
        self._timeout = urllib3.Timeout(connect=connect, read=read)

    @contextlib.contextmanager
    def open(self, name: str, offset: int, tag: str, deadline: float) -> Iterator[_HttpAnswer]:
        """See ``transfer.Source``."""
        headers = {"Accept-Encoding": "identity"}
        if offset and tag:
            headers |= {"Range": f"bytes={offset}-", "If-Range": tag}
        self._guard.arm(deadline)
        response: BaseHTTPResponse | None = None
        try:
            try:
                response = self._pool.request(
                    "GET",
                    f"{self._base}/{name if self._encoded else quote(name, safe='/~+:')}",
                    headers=headers,
                    preload_content=False,
                    redirect=False,
                    retries=False,
                    timeout=self._timeout,
                )
            except (HTTPError, OSError) as e:
                raise self._outage(name, e) from e
            yield self._answer(name, response, offset if "Range" in headers else 0)
        finally:
            self._guard.disarm()
            if response is not None:
                _finish(response)

    def _answer(self, name: str, response: BaseHTTPResponse, asked: int) -> _HttpAnswer:
        status = response.status
        if status in _MISSING:
            return _HttpAnswer(self, name, response, missing=True)
        if status == 206:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != asked:
                raise Outage(f"{name}: the store answered another range", subject=name)
            return _HttpAnswer(self, name, response, offset=asked, total=int(match[3]))
        if status == 200:
            listed = response.headers.get("Content-Length", "")
            total = int(listed) if re.fullmatch(r"\d{1,15}", listed) else None
            return _HttpAnswer(self, name, response, total=total)
        raise Outage(f"{name}: the store answered {status}", code="http", subject=name)

    def _outage(self, name: str, error: BaseException) -> Outage:
        if self._guard.expired:
            return Outage(f"{name}: took too long in all", code="slow", subject=name)
        text = str(error)[:200]
        refused = isinstance(error, urllib3.exceptions.NewConnectionError)  # a TimeoutError too
        timed_out = isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError))
        timed_out = timed_out and not refused
        return Outage(f"{name}: {text}", code="slow" if timed_out else "outage", subject=name)


class _HttpAnswer:
    """Implements ``transfer.Answer`` on an open response."""

    def __init__(
        self,
        source: HttpSource,
        name: str,
        response: BaseHTTPResponse,
        *,
        missing: bool = False,
        offset: int = 0,
        total: int | None = None,
    ) -> None:
        self._source = source
        self._name = name
        self._response = response
        self.missing = missing
        self.offset = offset
        self.total = total
        tag = response.headers.get("ETag", "")
        self.tag = "" if tag.startswith("W/") else tag

    def read(self, amount: int) -> bytes:
        """At most ``amount`` bytes, as soon as some are there."""
        if amount <= 0:
            return b""
        try:
            if self._source._guard.expired:  # noqa: SLF001 - two halves of one adapter
                raise TimeoutError
            return self._response.read1(amount, decode_content=False)
        except (HTTPError, OSError, ValueError) as e:
            raise self._source._outage(self._name, e) from e  # noqa: SLF001 - the same


def _finish(response: BaseHTTPResponse) -> None:
    """Keep the connection only when the answer was read to its end."""
    done = getattr(response, "length_remaining", None) == 0
    if not done:
        response.close()
    response.release_conn()


def _pool(base: str, guard: _Guard) -> urllib3.PoolManager:
    """A pool whose connections report their sockets to ``guard``."""

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
        manager = urllib3.ProxyManager(proxy, num_pools=2, maxsize=1)
    else:
        manager = urllib3.PoolManager(num_pools=2, maxsize=1)
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return manager
