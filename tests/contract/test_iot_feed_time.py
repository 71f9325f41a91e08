"""Brokers that talk and never finish: every step of the feed has one limit for all of it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from simulators.broker import Broker
from simulators.dripping import Kind, dripping
from simulators.feed_sides import (
    HttpsSide,
    MqttSide,
    Side,
    TokenHttpsSide,
    TokenSide,
    closing,
)
from simulators.jobs_service import JobsService

from ota.agent.feeds import https_file, in_time, wire_crt_https
from ota.agent.feeds.options import IotJobsOptions
from ota.agent.feeds.wire import Address, Wire
from ota.agent.feeds.wire_crt import CrtWire
from ota.agent.feeds.wire_paho import PahoWire
from signing.errors import Outage

LIMIT = 0.6
"""Seconds; a drip every 0.02 s would last for ever."""
PATIENCE = 20.0
"""Far more than the limit, for a busy machine; a wait without end is what fails."""


@pytest.fixture(params=[MqttSide, TokenSide], ids=["paho", "token"])
def side(
    request: pytest.FixtureRequest, broker: Broker, service: JobsService
) -> Iterator[MqttSide]:
    with closing(request.param(broker, service)) as made:
        assert isinstance(made, MqttSide)
        yield made


def wire(options: IotJobsOptions, ends: list[Outage] | None = None) -> Wire:
    make = CrtWire if options.on_token else PahoWire
    found: list[Outage] = [] if ends is None else ends
    return make(options, Address("127.0.0.1", options.port), lambda _t, _p: None, found.append)


def replaced(side: Side, **changes: object) -> IotJobsOptions:
    import msgspec  # noqa: PLC0415 - one use

    options = msgspec.structs.replace(side.options, **changes)
    assert isinstance(options, IotJobsOptions)
    return options


@pytest.mark.parametrize("kind", ["silence", "handshake", "packets"])
def test_opening_ends_in_time(side: MqttSide, kind: Kind) -> None:
    """Silent, a handshake that drips, an answer that drips: an outage, and no thread is left."""
    authority = side.broker.authority if kind == "packets" else None
    before = set(threading.enumerate())
    with dripping(kind, authority) as port:
        began = time.monotonic()
        with pytest.raises(Outage) as caught:
            wire(replaced(side, port=port, timeout=LIMIT)).open()
        assert time.monotonic() - began < PATIENCE
        no_tls = kind != "packets" and not side.options.on_token
        assert caught.value.code == ("feed-unreachable" if no_tls else "feed-slow")
        left = [t for t in set(threading.enumerate()) - before if "paho" in t.name]
        assert left == []


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a small device, where a report is longer than the kernel's buffer."""
    connect = in_time.connect

    def made(host: str, port: int, until: float) -> socket.socket:
        sock = connect(host, port, until)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return sock

    monkeypatch.setattr(in_time, "connect", made)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("limit", [LIMIT, 60.0], ids=["its limit comes", "it is closed"])
def test_a_deaf_broker_holds_nobody(side: MqttSide, limit: float) -> None:
    """It reads nothing more: a report is given up in time, and saying goodbye ends as well."""
    with dripping("deaf", side.broker.authority) as port:
        made = wire(replaced(side, port=port, timeout=limit, keepalive=1200))
        made.open()
        made.subscribe([f"$aws/things/{side.device}/jobs/notify-next"])
        began, said = time.monotonic(), list[str]()

        def publish() -> None:
            with pytest.raises(Outage) as caught:
                made.publish(f"ota/{side.device}/report", b"x" * 128_000)
            said.append(caught.value.code)

        sender = threading.Thread(target=publish)
        sender.start()
        sender.join(None if limit == LIMIT else 0.2)
        made.close()
        sender.join(PATIENCE)
        assert said == ["feed-slow" if limit == LIMIT else "feed-offline"]
        assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("kind", ["silence", "handshake"])
@pytest.mark.parametrize("make", [HttpsSide, TokenHttpsSide], ids=["file", "token"])
def test_https_ends_in_time(broker: Broker, make: type[HttpsSide], kind: Kind) -> None:
    """The same over HTTPS, whoever has the key."""
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(closing(make(broker.authority, stack)))
        assert isinstance(made, HttpsSide)
        options = made.broker_options(timeout=LIMIT)
        ask = (wire_crt_https if options.on_token else https_file).exchange
        with dripping(kind) as port:
            began = time.monotonic()
            with pytest.raises(Outage) as caught:
                ask(options, Address("127.0.0.1", port))("GET", "/things/x/jobs/$next", b"")
            assert time.monotonic() - began < PATIENCE
            assert caught.value.code == "feed-slow"


def test_addresses_that_swallow_packets_share_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many a name has."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        stuck = [socket.socket() for _ in range(4)]
        for sock in stuck:  # its queue is full: whoever comes now waits
            sock.setblocking(False)
            sock.connect_ex(address)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address)] * 50
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: found)
        began = time.monotonic()
        with pytest.raises(OSError, match="tim"):
            in_time.connect("many", 1, time.monotonic() + LIMIT)
        assert time.monotonic() - began < PATIENCE
        for sock in stuck:
            sock.close()


def test_paho_still_asks_where_we_answer() -> None:
    """The one private method of paho that is replaced is the one that it calls."""
    import inspect  # noqa: PLC0415 - one use

    from paho.mqtt import client  # noqa: PLC0415 - the claim

    assert "self._create_socket_connection()" in inspect.getsource(client.Client._create_socket)
