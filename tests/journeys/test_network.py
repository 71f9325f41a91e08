"""Cut connections, a dead store, an agent killed in the middle of a download: over real HTTP.

The old version runs on, what has arrived is kept, and the next cycle goes on from there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulators.plant import TREE, Gateway, Plant
from simulators.plants import fixtures
from simulators.webstore import Handler, WebStore, webstore

from signing.refusals import REFUSALS

ONE = b"app 1.0.0"
BIG = os.urandom(3 << 20)


def made(folder: Path) -> Plant:
    """``a`` runs 1.0.0, and 2.0.0 is on its way."""
    plant = Plant(folder, ["a"])
    plant.publish(plant.build("1.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    plant.publish(plant.build("2.0.0", BIG))
    plant.step(plant.start("two", "2.0.0"))
    return plant


frozen, _ = fixtures(made)


@pytest.fixture
def store() -> Iterator[WebStore]:
    with webstore() as server:
        yield server


@pytest.fixture
def gateway(frozen: Plant, store: WebStore) -> Gateway:
    """The device, reading the same store over HTTP."""
    frozen.thaw()
    for path in frozen.store.rglob("*"):
        if path.is_file():
            store.objects[str(path.relative_to(frozen.store))] = path.read_bytes()
    device = frozen["a"]
    device.toml.write_text(device.toml.read_text().replace(frozen.url, store.url))
    return device


def cut(handler: Handler) -> None:
    """Promise everything, send half, hang up."""
    data = handler.server.objects[handler.path.lstrip("/")]
    handler.send_response(200)
    handler.send_header("ETag", '"cut"')
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True


def test_every_transfer_cut(frozen: Plant, store: WebStore, gateway: Gateway) -> None:
    """Whichever file is cut in half: an outage, never an accusation; the next cycle installs."""
    over_http = gateway.toml.read_text()
    gateway.look()
    assert gateway.running == BIG
    asked = dict.fromkeys(name for name, _ in store.requests if name in store.objects)
    assert len(asked) >= 6, asked
    for name in asked:
        frozen.thaw()
        gateway.toml.write_text(over_http)
        store.behaviour = {name: cut}
        gateway.look()
        assert gateway.running == ONE, name
        assert gateway.told()[-1] not in REFUSALS, name
        assert gateway.waiting(), name
        assert gateway.sound(), name
        store.behaviour = {}
        gateway.look()
        assert gateway.running == BIG, name


def test_a_cut_image_is_resumed(store: WebStore, gateway: Gateway) -> None:
    """Only the rest is asked for, from the byte where it was cut."""
    (image,) = [n for n in store.objects if n.endswith("app-2.0.0.bin")]
    honest = Handler.do_GET

    def half(handler: Handler) -> None:
        handler.server.behaviour = {}
        handler.wfile = _Cut(handler.wfile, len(BIG) // 2)  # type: ignore[assignment]  # writes only
        honest(handler)
        handler.close_connection = True

    store.behaviour = {image: half}
    gateway.look()
    assert gateway.running == ONE
    store.requests.clear()
    gateway.look()
    assert gateway.running == BIG
    asked = [header for name, header in store.requests if name == image]
    assert len(asked) == 1
    assert int(asked[0].removeprefix("bytes=").removesuffix("-")) > 0


class _Cut:
    """Passes on so many bytes, and then the line is dead."""

    def __init__(self, out: object, left: int) -> None:
        self._out, self._left = out, left

    def write(self, data: bytes) -> int:
        if self._left <= 0:
            raise BrokenPipeError
        sent = data[: self._left]
        self._left -= len(sent)
        self._out.write(sent)  # type: ignore[attr-defined]  # a socket's file
        return len(data)

    def flush(self) -> None:
        self._out.flush()  # type: ignore[attr-defined]  # the same

    def close(self) -> None:
        self._out.close()  # type: ignore[attr-defined]  # the same

    @property
    def closed(self) -> bool:
        return bool(self._out.closed)  # type: ignore[attr-defined]  # the same


def test_nobody_serves(frozen: Plant, store: WebStore, gateway: Gateway) -> None:
    """No store at all is an outage; the agent says so when somebody listens again."""
    text = gateway.toml.read_text()
    gateway.toml.write_text(text.replace(store.url, "http://127.0.0.1:9"))
    gateway.look()
    assert gateway.running == ONE
    assert len(gateway.codes) == 1
    gateway.toml.write_text(text)
    gateway.look()
    assert gateway.running == BIG


def test_killed_in_the_middle_of_a_download(store: WebStore, gateway: Gateway) -> None:
    """SIGKILL of a real ``ota-agent once`` while bytes arrive; the next one installs."""
    (image,) = [n for n in store.objects if n.endswith("app-2.0.0.bin")]

    def slow(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("ETag", '"slow"')
        handler.send_header("Content-Length", str(len(BIG)))
        handler.end_headers()
        for at in range(0, len(BIG), 65536):
            handler.wfile.write(BIG[at : at + 65536])
            time.sleep(0.05)

    store.behaviour = {image: slow}
    words = [sys.executable, "-m", "ota.agent.main", "once", "--config", str(gateway.toml)]
    agent = subprocess.Popen(words, cwd=TREE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while not any(name == image for name, _ in store.requests):
        assert time.monotonic() < until
        assert agent.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    agent.send_signal(signal.SIGKILL)
    assert agent.wait() == -signal.SIGKILL
    assert gateway.running == ONE
    assert gateway.sound()
    store.behaviour = {}
    assert gateway.process("once").returncode == 0
    assert gateway.running == BIG
    assert gateway.sound()
