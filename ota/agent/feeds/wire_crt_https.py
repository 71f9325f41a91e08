"""One HTTPS request by AWS's common runtime, with the key on a PKCS#11 token. An ``Exchange``.

The token signs the handshake of each request, so a slow one needs a longer ``[feed] timeout``. What
the runtime says of a handshake that failed is translated as in ``wire_crt.py``. It counts no
headers: how many come is bounded by the time limit alone, and they come from whom ``ca`` vouches for.

>>> ask = exchange(options, Address("a1-ats.iot.eu-west-1.amazonaws.com", 8443))
"""

from __future__ import annotations

import concurrent.futures
import io
import time
from typing import TYPE_CHECKING, Final, TypeVar

from ota.agent.feeds import iot_trouble
from ota.agent.feeds.iot_https import Exchange
from ota.agent.feeds.iot_messages import LIMIT
from ota.agent.feeds.options import IotJobsOptions
from ota.agent.feeds.wire import Address
from ota.agent.feeds.wire_crt import tls_context, translated
from signing.errors import OtaError, Outage

if TYPE_CHECKING:
    from awscrt import http

_KIND: Final = "x-amzn-errortype"
Found = TypeVar("Found")


def exchange(options: IotJobsOptions, address: Address) -> Exchange:
    """Requests to one address."""

    def ask(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        until = time.monotonic() + options.timeout
        connection = _connected(options, address, until)
        try:
            return _exchanged(connection, address, _request(address, method, path, body), until)
        finally:
            connection.close()

    return ask


def _connected(
    options: IotJobsOptions, address: Address, until: float
) -> http.HttpClientConnection:
    try:
        context = tls_context(options, address.alpn)
    except Outage:
        raise
    except OtaError as e:
        raise iot_trouble.outage("feed-certificate", f"{address}: {e}") from e
    from awscrt import http  # noqa: PLC0415 - an optional install

    tls = context.new_connection_options()
    tls.set_server_name(address.host)
    future = http.HttpClientConnection.new(address.host, address.port, tls_connection_options=tls)
    try:
        return _in_time(future, address, until)
    except Outage:
        future.add_done_callback(_discard)  # it may come about when nobody waits any more
        raise


def _discard(future: concurrent.futures.Future[http.HttpClientConnection]) -> None:
    if future.exception() is None:
        future.result().close()


def _request(address: Address, method: str, path: str, body: bytes) -> http.HttpRequest:
    from awscrt import http  # noqa: PLC0415 - an optional install

    words = [
        ("Host", address.host),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
    ]
    return http.HttpRequest(method, path, http.HttpHeaders(words), io.BytesIO(body))


def _exchanged(
    connection: http.HttpClientConnection, address: Address, request: http.HttpRequest, until: float
) -> tuple[int, str, bytes]:
    """Status, kind of error and body; of a body that is too long, one byte more than the limit."""
    status: list[tuple[int, str]] = []
    body = bytearray()

    def answered(
        http_stream: object, status_code: int, headers: list[tuple[str, str]], **_: object
    ) -> None:
        del http_stream
        kinds = [value for name, value in headers if name.lower() == _KIND]
        status.append((status_code, kinds[0] if kinds else ""))

    def more(http_stream: object, chunk: bytes, **_: object) -> None:
        del http_stream
        body.extend(chunk[: LIMIT + 1 - len(body)])
        if len(body) > LIMIT:
            connection.close()

    stream = connection.request(request, answered, more)
    stream.activate()
    try:
        _in_time(stream.completion_future, address, until)
    except Outage:
        if len(body) <= LIMIT:
            raise
    code, kind = status[-1]
    return code, kind, bytes(body)


def _in_time(future: concurrent.futures.Future[Found], address: Address, until: float) -> Found:
    from awscrt.exceptions import AwsCrtError  # noqa: PLC0415 - an optional install

    try:
        return future.result(max(0.0, until - time.monotonic()))
    except concurrent.futures.TimeoutError as e:
        raise iot_trouble.outage("feed-slow", f"{address}: no answer in time") from e
    except AwsCrtError as e:
        raise translated(e, str(address)) from e
