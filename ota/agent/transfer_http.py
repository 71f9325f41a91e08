"""A store behind HTTPS (or loopback HTTP): bounded in time even while headers or TLS drip.

Redirects are not followed and proxies are those of the environment; see ``http_pool.py``.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from ota.agent.http_pool import Guard, finish, make_pool
from signing.errors import Outage

_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_MISSING = {403, 404}


_POOL = re.compile(r"^\w+\(host='([^']{1,255})', port=(\d{1,5})\)")
"""How urllib3 names a connection in its messages."""


class HttpSource:
    """Reads store names below ``base``; implements ``transfer.Source``.

    Names are percent-encoded unless they come ``encoded``; ``context`` makes the one for TLS.
    """

    def __init__(
        self,
        base: str,
        *,
        connect: float,
        read: float,
        encoded: bool = False,
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        self._base = base
        self._encoded = encoded
        self._guard = Guard()
        self._context = context
        self._timeout = urllib3.Timeout(connect=connect, read=read)

    @cached_property
    def _pool(self) -> urllib3.PoolManager:
        """Made with the first request: a missing file of trust is that request's outage."""
        return make_pool(self._base, self._guard, self._context())

    @contextlib.contextmanager
    def open(self, name: str, offset: int, tag: str, deadline: float) -> Iterator[_HttpAnswer]:
        """See ``transfer.Source``."""
        self._guard.arm(deadline)
        response: BaseHTTPResponse | None = None
        try:
            response, asked = self._respond(name, offset if tag else 0, tag)
            yield self._answer(name, response, asked)
        finally:
            self._guard.disarm()
            if response is not None:
                finish(response)

    def _respond(self, name: str, offset: int, tag: str) -> tuple[BaseHTTPResponse, int]:
        """An open response, and the offset that was asked for; how is an adapter's own."""
        path = name if self._encoded else quote(name, safe="/~+:")
        ranged = {"Range": f"bytes={offset}-", "If-Range": tag} if offset else {}
        return self._request("GET", name, f"{self._base}/{path}", ranged), offset

    def _request(
        self, method: str, name: str, url: str, headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        try:
            return self._pool.request(
                method,
                url,
                headers={"Accept-Encoding": "identity", **headers},
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=self._timeout,
            )
        except (HTTPError, OSError) as e:
            raise self._outage(name, e) from e

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
        raise Outage(
            f"{name}: the store answered {status}",
            code="http",
            subject=name,
            remedy=f"compare store in agent.toml with what serves {self._base}",
        )

    def _outage(self, name: str, error: BaseException) -> Outage:
        if self._guard.expired:
            return Outage(f"{name}: took too long in all", code="slow", subject=name)
        text = _POOL.sub(r"\1:\2", str(error))[:200]
        refused = isinstance(error, urllib3.exceptions.NewConnectionError)  # a TimeoutError too
        timed_out = isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError))
        timed_out = timed_out and not refused
        return Outage(
            f"{name}: {text}",
            code="slow" if timed_out else "outage",
            subject=name,
            remedy=f"curl -sI {self._base}; ota-agent run tries again by itself",
        )


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
