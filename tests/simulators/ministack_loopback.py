"""Runs ministack with every listener on 127.0.0.1, whatever its code asks for.

Its MQTT listener is written for all interfaces. Here a bind to all of them becomes one to the
loopback address, and a bind to any other address ends the program. Started by ``ministack.py``
beside this file, with the interpreter of ``.venv-ministack``.
"""

from __future__ import annotations

import os
import runpy
import socket
import sys
from typing import Any

LOOPBACK = "127.0.0.1"
_real_bind = socket.socket.bind


def _bind(self: socket.socket, address: Any) -> None:
    if self.family == socket.AF_INET and address[0] in {"", "0.0.0.0"}:  # noqa: S104 - undone here
        address = (LOOPBACK, *address[1:])
    _real_bind(self, address)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.bind":
        return
    handle, address = arguments
    inet = handle.family in {socket.AF_INET, socket.AF_INET6}
    if inet and address[0] not in {LOOPBACK, "::1"}:
        sys.stderr.write(f"refused to bind to {address!r}\n")
        sys.stderr.flush()
        os._exit(70)


if __name__ == "__main__":
    sys.addaudithook(_watch)
    socket.socket.bind = _bind  # type: ignore[method-assign] # that is the point
    runpy.run_module("ministack", run_name="__main__", alter_sys=True)
