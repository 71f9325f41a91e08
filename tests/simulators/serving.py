"""A server of the standard library, run in a thread for as long as a block lasts.

>>> with in_thread(WebStore()) as server:
...     server.url
"""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from typing import TypeVar

S = TypeVar("S", bound=socketserver.BaseServer)


@contextlib.contextmanager
def in_thread(server: S) -> Iterator[S]:
    """It answers inside the block; afterwards its port is closed and its thread has ended."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
