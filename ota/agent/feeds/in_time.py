"""A TCP connection within one limit, however many addresses a name has.

The standard library's ``create_connection`` takes its limit once for each address. What the resolver
may take is its own configuration's (``resolv.conf``).

>>> sock = connect("broker", 8883, time.monotonic() + 10)
"""

from __future__ import annotations

import socket
import time


def connect(host: str, port: int, until: float) -> socket.socket:
    """The first address that takes a connection before ``until`` (monotonic); else ``OSError``.

    The socket has no limit of its own: whoever uses it sets one.
    """
    failed: OSError = TimeoutError("no time is left to connect")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        left = until - time.monotonic()
        if left <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left)
            sock.connect(address)
            sock.settimeout(None)
        except OSError as e:
            sock.close()
            failed = e
        else:
            return sock
    raise failed
