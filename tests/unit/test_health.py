"""Health probes against real programs, sockets and hostile servers, with a hand-driven clock."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ota.agent import command, health
from ota.ports_device import Healthy, Unhealthy
from signing.errors import Malformed


@dataclass
class Hand:
    """A clock that only ``sleep`` moves."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


def probe(hand: Hand, results: list[str], cost: float = 0.0, **options: Any) -> health.Probe:
    """A probe whose tries answer from ``results`` and take ``cost`` seconds each."""

    def attempt(seconds: float) -> str:
        hand.now += min(cost, seconds)
        return results.pop(0) if results else "exhausted"

    words = health.Common(kind="test", **options)
    return health.Probe(attempt, words, hand.monotonic, hand.sleep)


def test_first_success() -> None:
    """One success is enough by default; no time is lost."""
    hand = Hand()
    assert probe(hand, [""]).check(60) == Healthy()
    assert hand.now == 0


def test_interval_and_delay() -> None:
    """The first try comes after ``start_delay``, the next ones after ``interval``."""
    hand = Hand()
    assert probe(hand, ["no", "no", ""], start_delay=5.0, interval=2.0).check(60) == Healthy()
    assert hand.slept == [5, 2, 2]


def test_successes_in_a_row() -> None:
    """A failure in between starts the count again."""
    results = ["", "", "no", "", "", ""]
    assert probe(Hand(), results, successes=3).check(60) == Healthy()
    assert results == []
    found = probe(Hand(), ["", "no"] * 50, successes=2, interval=1.0).check(20)
    assert isinstance(found, Unhealthy)


def test_last_reason() -> None:
    """The last reason before the deadline is told."""
    found = probe(Hand(), ["first", "second", "third"], interval=4.0).check(10)
    assert found == Unhealthy("third")


@pytest.mark.parametrize(("given", "configured", "tries"), [(3.5, 60.0, 4), (60.0, 3.5, 4)])
def test_lesser_deadline(given: float, configured: float, tries: int) -> None:
    """The caller's and the configured deadline: the lesser one holds."""
    results = ["no"] * 100
    found = probe(Hand(), results, deadline=configured).check(given)
    assert isinstance(found, Unhealthy)
    assert len(results) == 100 - tries


def test_late_success() -> None:
    """A success that came after the deadline does not count."""
    hand = Hand()
    found = probe(hand, ["", ""], cost=3.0, timeout=100.0, successes=2, interval=0.0).check(3)
    assert isinstance(found, Unhealthy)
    assert "1 of 2" in found.reason


def test_no_time_for_a_try() -> None:
    """A start delay past the deadline is told as such, at once."""
    hand = Hand()
    found = probe(hand, [""], start_delay=10.0).check(5)
    assert found == Unhealthy("no try fitted before the deadline")
    assert hand.now == 0


def test_reason_is_bounded_and_printable() -> None:
    """Reasons end up in signed reports: one line, no control characters, 300 at most."""
    found = probe(Hand(), ["a\n\x1b[31mb\u202e\x00" + "x" * 5000] * 9).check(2)
    assert isinstance(found, Unhealthy)
    assert len(found.reason) <= 300
    assert found.reason.isprintable()


# -- command -------------------------------------------------------------------------------------
def check(seconds: float = 1.5, **options: Any) -> Healthy | Unhealthy:
    words = {"interval": 0.05, "timeout": 1.0, **options}
    return health.create(words).check(seconds)


def test_command_healthy(tmp_path: Path) -> None:
    """A program that fails twice and then succeeds is healthy."""
    count = tmp_path / "count"
    script = f"echo x >> {count}; test $(wc -l < {count}) -ge 3"
    assert check(5, kind="command", argv=["/bin/sh", "-c", script]) == Healthy()
    assert count.read_text() == "x\n" * 3


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["/bin/sh", "-c", "echo the pump is dry >&2; exit 3"], "exit status 3: the pump is dry"),
        (["/bin/sh", "-c", "echo on stdout; exit 1"], "on stdout"),
        (["/nonexistent"], "can not start /nonexistent"),
        (["/bin/sh", "-c", "kill -9 $$"], "exit status -9"),
        (["/usr/bin/yes"], "bytes of output"),
    ],
)
def test_command_unhealthy(argv: list[str], words: str) -> None:
    """Failing, missing or flooding programs are unhealthy, with the reason."""
    found = check(3.0, kind="command", argv=argv, timeout=20.0, interval=5.0)
    assert isinstance(found, Unhealthy)
    assert words in found.reason


@pytest.mark.parametrize(
    "argv", [["/bin/sleep", "300"], ["/bin/sh", "-c", "trap '' TERM; sleep 300"]]
)
def test_command_that_hangs(argv: list[str]) -> None:
    """It is ended at its time limit, whatever it does with signals, and is unhealthy."""
    started = time.monotonic()
    found = check(0.6, kind="command", argv=argv, timeout=0.4)
    assert isinstance(found, Unhealthy)
    assert "time limit" in found.reason
    assert time.monotonic() - started < 60


def test_command_that_leaves_a_child() -> None:
    """A child that keeps the pipes open does not hold the probe up."""
    started = time.monotonic()
    assert check(5, kind="command", argv=["/bin/sh", "-c", "sleep 30 & exit 0"], timeout=4.0) == (
        Healthy()
    )
    assert time.monotonic() - started < 3


# -- tcp and http --------------------------------------------------------------------------------
@contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A loopback server that treats each connection as ``talk`` does; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        talk(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def says(text: bytes) -> Callable[[socket.socket], None]:
    """Read a request, send ``text``, close."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text)

    return talk


def page(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""])
    return head.encode() + body


def test_tcp() -> None:
    """An open port is healthy, a closed one is not."""
    with server(lambda _: None) as port:
        assert check(kind="tcp", host="127.0.0.1", port=port) == Healthy()
    found = check(0.3, kind="tcp", host="127.0.0.1", port=port)
    assert isinstance(found, Unhealthy)
    assert f"port {port}" in found.reason


@pytest.mark.parametrize("host", ["no such host", "a" * 70 + ".invalid", "\u2028"])
def test_tcp_bad_name(host: str) -> None:
    """A name that can not be resolved is a reason, never a traceback."""
    assert isinstance(check(0.3, kind="tcp", host=host, port=1), Unhealthy)


@pytest.mark.parametrize(
    ("answer", "contains"),
    [
        (page("200 OK", b"all is well"), "is well"),
        (page("204 No Content"), ""),
        (page("299 Fine", b"x"), ""),
        (page("200 OK", b"\xff\xfe ready \x00"), "ready"),
    ],
)
def test_http_healthy(answer: bytes, contains: str) -> None:
    """Status 200 to 299, and the text if one is asked for."""
    with server(says(answer)) as port:
        url = f"http://127.0.0.1:{port}/health?full=1"
        assert check(kind="http", url=url, contains=contains) == Healthy()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (page("500 Oops"), "status 500"),
        (page("404 No"), "status 404"),
        (page("301 Moved", b"", "Location: http://127.0.0.1:1/"), "status 301"),
        (page("302 Found", b"", "Location: /ok"), "status 302"),
        (page("200 OK", b"all is lost"), "does not contain"),
        (page("200 OK", b"x" * 70_000 + b"well"), "does not contain"),
        (b"", "RemoteDisconnected"),
        (b"not http at all\r\n\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nwe", "does not contain"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500, "HTTPException"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "LineTooLong"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "IncompleteRead"),
    ],
)
def test_http_unhealthy(answer: bytes, words: str) -> None:
    """Wrong status, redirects, wrong text and broken answers are unhealthy, with the reason."""
    with server(says(answer)) as port:
        found = check(0.3, kind="http", url=f"http://127.0.0.1:{port}/", contains="well")
    assert isinstance(found, Unhealthy)
    assert words in found.reason


def drip_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(200):
        connection.sendall(f"X-{number}: y\r\n".encode())
        time.sleep(0.05)


def drip_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(200):
        connection.sendall(b"x")
        time.sleep(0.05)


def silent(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.recv(65536)


@pytest.mark.parametrize("talk", [drip_head, drip_body, silent])
def test_http_drip(talk: Callable[[socket.socket], None]) -> None:
    """A server that drips or stays silent ends the try at its time limit, not the agent."""
    with server(talk) as port:
        started = time.monotonic()
        url = f"http://127.0.0.1:{port}/"
        found = check(0.6, kind="http", url=url, contains="never", timeout=0.4)
        assert time.monotonic() - started < 2
    assert isinstance(found, Unhealthy)


def test_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not used: the component itself is asked."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with server(says(page("200 OK"))) as port:
        assert check(kind="http", url=f"http://127.0.0.1:{port}/") == Healthy()


def test_https_needs_a_trusted_certificate() -> None:
    """Over https a server without a trusted certificate is unhealthy."""
    with server(says(page("200 OK"))) as port:
        found = check(0.4, kind="http", url=f"https://127.0.0.1:{port}/")
    assert isinstance(found, Unhealthy)
    assert "SSL" in found.reason


def test_none() -> None:
    """Going without a probe must be said by name."""
    assert health.create({"kind": "none"}).check(0) == Healthy()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "kind"),
        ({"kind": "ping"}, "ping"),
        ({"kind": "none", "argv": ["x"]}, "argv"),
        ({"kind": "command"}, "argv"),
        ({"kind": "command", "argv": "true"}, "argv"),
        ({"kind": "command", "argv": []}, "argv"),
        ({"kind": "command", "argv": ["x"], "url": "http://127.0.0.1/"}, "url"),
        ({"kind": "command", "argv": ["x"], "timeout": 0}, "timeout"),
        ({"kind": "command", "argv": ["x"], "interval": -1}, "interval"),
        ({"kind": "command", "argv": ["x"], "interval": "1s"}, "interval"),
        ({"kind": "command", "argv": ["x"], "successes": 0}, "successes"),
        ({"kind": "command", "argv": ["x"], "deadline": float("inf")}, "deadline"),
        ({"kind": "command", "argv": ["x"], "deadline": float("nan")}, "deadline"),
        ({"kind": "tcp", "host": "x"}, "port"),
        ({"kind": "tcp", "host": "x", "port": 0}, "port"),
        ({"kind": "tcp", "host": "x", "port": 65536}, "port"),
        ({"kind": "tcp", "host": "", "port": 1}, "host"),
        ({"kind": "http"}, "url"),
        ({"kind": "http", "url": "http://example.com/"}, "url"),
        ({"kind": "http", "url": "http://127.0.0.1.example.com/"}, "url"),
        ({"kind": "http", "url": "http://10.0.0.1/"}, "url"),
        ({"kind": "http", "url": "file:///etc/passwd"}, "url"),
        ({"kind": "http", "url": "http://127.0.0.1:99999/"}, "url"),
        ({"kind": "http", "url": "https:///nohost"}, "url"),
        ({"kind": "http", "url": "https://user:secret@example.com/"}, "url"),
        ({"kind": "http", "url": "http://127.0.0.1/a\r\nHost: x"}, "url"),
        ({"kind": "http", "url": "http://[::1/"}, "url"),
        ({"kind": "http", "url": "not a url"}, "url"),
    ],
)
def test_bad_options(options: dict[str, Any], key: str) -> None:
    """A wrong option is an error that names the key, at start and not after an update."""
    with pytest.raises(Malformed) as caught:
        health.create(options)
    assert "health" in str(caught.value)
    assert key in str(caught.value)


def test_loopback_names() -> None:
    """Every loopback spelling is accepted over plain http."""
    for host in ("127.0.0.1", "127.9.9.9", "[::1]", "localhost"):
        health.create({"kind": "http", "url": f"http://{host}:8080/"})


def test_restart_may_leave_a_daemon(tmp_path: Path) -> None:
    """A restart command's daemon outlives it, although it inherited its pipes."""
    pid = tmp_path / "pid"
    script = f"import time,pathlib,os; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); "
    script += "time.sleep(20)"
    started = time.monotonic()
    shell = f'"{sys.executable}" -c "$0" & while ! test -s {pid}; do sleep 0.02; done'
    ran = command.run(["/bin/sh", "-c", shell, script], timeout=10, keep_children=True)
    assert ran.succeeded
    assert time.monotonic() - started < 5
    daemon = int(pid.read_text())
    state = Path(f"/proc/{daemon}/stat").read_text().rpartition(")")[2].split()[0]
    assert state in "SR"
    os.kill(daemon, signal.SIGKILL)
