"""One HTTPS request with the key in a file, within one limit for all of it. An ``Exchange``.

The connection is shut down when the time is over, whatever was said so far; an answer that is cut
is an error, and so is an end of TLS that the other side did not announce.

>>> ask = exchange(options, Address("a1-ats.iot.eu-west-1.amazonaws.com", 8443))
>>> ask("GET", "/things/press-07/jobs/$next", b"")
(200, '', b'{}')
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator

from ota.agent.feeds import in_time, iot_messages, iot_tls, iot_trouble
from ota.agent.feeds.iot_https import Exchange
from ota.agent.feeds.options import IotJobsOptions
from ota.agent.feeds.wire import Address


def exchange(options: IotJobsOptions, address: Address) -> Exchange:
    """Requests to one address."""

    def ask(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        context = iot_tls.context(options, address.alpn)
        late = threading.Event()
        until = time.monotonic() + options.timeout
        try:
            with (
                in_time.connect(address.host, address.port, until) as raw,
                _deadline(raw, until, late),
                context.wrap_socket(
                    raw, server_hostname=address.host, suppress_ragged_eofs=False
                ) as sock,
            ):
                return _exchanged(sock, address.host, method, path, body)
        except (http.client.HTTPException, OSError) as e:
            if late.is_set():
                words = f"{address}: no answer in time"
                raise iot_trouble.outage("feed-slow", words) from e
            if isinstance(e, OSError):
                raise iot_trouble.connection(e, str(address)) from e
            words = f"{address}: no HTTP: {type(e).__name__}"
            raise iot_trouble.outage("feed-message", words) from e

    return ask


def _exchanged(
    sock: ssl.SSLSocket, host: str, method: str, path: str, body: bytes
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(host)
    connection.sock = sock
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
    except OSError:
        sock.recv(1)  # who hangs up may have said why before, and then this raises it
        raise
    answer = connection.getresponse()
    data = answer.read(iot_messages.LIMIT + 1)
    if answer.length and len(data) <= iot_messages.LIMIT:
        raise http.client.IncompleteRead(b"", answer.length)
    return answer.status, answer.headers.get("x-amzn-ErrorType", ""), data


@contextlib.contextmanager
def _deadline(sock: socket.socket, until: float, late: threading.Event) -> Iterator[None]:
    """Shut a connection down then, and say so: through a duplicate, because TLS detaches it."""
    twin = sock.dup()

    def shut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            twin.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, until - time.monotonic()), shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        twin.close()
