"""The ways to the broker, and every trouble on them: each has its own code and a next step."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from simulators import jobs_https, softhsm
from simulators.broker import Broker, free_port
from simulators.feed_sides import (
    HttpsSide,
    MqttSide,
    TokenHttpsSide,
    closing,
    hasten,
    heard,
    hint,
    silent,
    trouble,
    until,
)
from simulators.firewall import firewall
from simulators.identities import Identity, update
from simulators.jobs_model import Jobs
from simulators.jobs_service import JobsService
from simulators.pki import DAY, Authority

from ota.agent import feeds
from ota.agent.feeds import iot_line, iot_ways
from ota.agent.feeds.iot_line import LONGEST, pause
from ota.agent.feeds.iot_tls import HTTPS_ALPN, MQTT_ALPN
from ota.agent.feeds.iot_trouble import TROUBLES
from ota.agent.feeds.options import IotJobsOptions
from ota.ports_device import Feed
from signing.errors import Outage

ORDER = "ota-app-1-aaaaaa-u1-w0-b0"


@pytest.fixture(autouse=True)
def hastened(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


@pytest.fixture
def side(broker: Broker, service: JobsService) -> Iterator[MqttSide]:
    with closing(MqttSide(broker, service)) as made:
        assert isinstance(made, MqttSide)
        yield made


@contextlib.contextmanager
def opened(options: IotJobsOptions, device: str) -> Iterator[Feed]:
    """A feed for as long as the block lasts."""
    with contextlib.closing(feeds.create(options, device)) as feed:
        yield feed


# -- ways ------------------------------------------------------------------------------------------
def test_port_443_is_tried_where_8883_is_blocked(
    side: MqttSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With AWS's ALPN name, without which nobody would let it through; jobs come by themselves."""
    with firewall(side.broker.port, MQTT_ALPN) as wall:
        monkeypatch.setattr(iot_ways, "WELL_KNOWN", wall.port)
        words = {"port": free_port(), "fallback": ("mqtt-443",)}
        with opened(side.broker.options(side.thing, **words), side.device) as feed:
            assert silent(feed)
            side.give(ORDER, hint(ORDER))
            assert heard(feed).receipt == ORDER
            feed.send(1, b"over 443")
        assert wall.passed == 1
    assert until(lambda: side.reports() == [b"over 443"])


def test_port_443_alone(side: MqttSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first way it has the ALPN name, too; any other port has none."""
    with firewall(side.broker.port, MQTT_ALPN) as wall:
        options = side.broker.options(side.thing, port=wall.port)
        with opened(options, side.device) as feed:
            assert trouble(feed) == "feed-closed"
        monkeypatch.setattr(iot_ways, "WELL_KNOWN", wall.port)
        with opened(options, side.device) as feed:
            assert silent(feed)


def test_https_is_tried_last(broker: Broker) -> None:
    """Where no MQTT passes the agent asks; the document is a string there, and AWS hears the end."""
    with contextlib.ExitStack() as stack:
        side = stack.enter_context(closing(HttpsSide(broker.authority, stack)))
        assert isinstance(side, HttpsSide)
        side.give(ORDER, hint(ORDER))
        feed = side.feed()
        found = heard(feed)
        assert found.data == hint(ORDER)
        feed.done(found)
        identity = Identity(side.device)
        report = identity.report(1, event="outcome", update=update(order=ORDER))
        feed.send(1, report)
        assert side.jobs.execution(ORDER, side.device).status == "SUCCEEDED"
        assert side.reports() == [report]


def test_https_on_443_has_its_own_alpn_name(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS tells MQTT from HTTPS by it."""
    thing = broker.authority.issue("press-443")
    with jobs_https.serving(broker.authority, Jobs(), [HTTPS_ALPN]) as endpoint:
        monkeypatch.setattr(iot_ways, "WELL_KNOWN", endpoint.port)
        words = {"port": free_port(), "https_port": endpoint.port, "fallback": ("https",)}
        with opened(broker.options(thing, **words), thing.name) as feed:
            assert silent(feed)
        assert set(endpoint.alpn) == {HTTPS_ALPN}


def test_https_is_left_when_mqtt_works_again(
    side: MqttSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for now and then; nothing is missed meanwhile, and the asking ends."""
    monkeypatch.setattr(iot_line, "AGAIN", 0.2)
    with (
        jobs_https.serving(side.broker.authority, side.jobs) as endpoint,
        firewall(side.broker.port) as wall,
    ):
        wall.blocked = True
        words = {
            "port": wall.port,
            "https_port": endpoint.port,
            "fallback": ("https",),
            "poll": 0.1,
        }
        with opened(side.broker.options(side.thing, **words), side.device) as feed:
            assert silent(feed)
            feed.send(1, b"over https")
            assert endpoint.reports == [(side.device, b"over https")]
            wall.blocked = False
            assert until(lambda: wall.passed and silent(feed))
            asked = len(endpoint.alpn)
            assert silent(feed, 0.5)
            assert len(endpoint.alpn) == asked
            feed.send(2, b"over mqtt")
        assert until(lambda: side.reports() == [b"over mqtt"])


def test_pauses_grow_and_are_random() -> None:
    """Never at once, never all at the same moment, and never longer than five minutes."""
    assert [pause(n, 1.0) for n in (1, 2, 3, 8, 9, 500)] == [2, 4, 8, 256, LONGEST, LONGEST]
    assert pause(3, 0.0) == 2.0
    assert pause(1, 0.0) == 0.5


# -- troubles --------------------------------------------------------------------------------------
@dataclass
class Case:
    """What a trouble is made of."""

    options: dict[str, Any]
    close: Callable[[], None] = lambda: None


class Listener(threading.Thread):
    """Listens; ``talk`` has the first connections one by one."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        super().__init__(daemon=True)
        self._talk = talk
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.start()

    def run(self) -> None:
        """Until it is closed."""
        with contextlib.suppress(OSError):
            while True:
                with self._socket.accept()[0] as sock, contextlib.suppress(OSError):
                    sock.settimeout(10)
                    self._talk(sock)

    def close(self) -> None:
        """No more."""
        self._socket.close()


def tls(
    authority: Authority, valid: tuple[timedelta, timedelta], name: str = ""
) -> Callable[[socket.socket], None]:
    """A server with a certificate of this validity, for this name alone where one is given."""
    made = authority.issue(name or "127.0.0.1", server=not name, valid=valid)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)

    def talk(sock: socket.socket) -> None:
        context.wrap_socket(sock, server_side=True).close()

    return talk


def listening(talk: Callable[[socket.socket], None]) -> Case:
    """A case where somebody else listens."""
    listener = Listener(talk)
    return Case({"port": listener.port}, listener.close)


def deaf(sock: socket.socket) -> None:
    """Reads and says nothing."""
    while sock.recv(4096):
        pass


def no_tls(sock: socket.socket) -> None:
    sock.recv(10)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def hangs_up(sock: socket.socket) -> None:
    sock.recv(10)


def other_ca(broker: Broker, folder: Path) -> Case:
    return listening(tls(Authority(folder / "other"), (-DAY, DAY)))


def forger(broker: Broker, folder: Path) -> Case:
    """Signed by an authority that only bears the right one's name."""
    made = Authority(folder / "other").issue("press-07")
    return Case({"certificate": str(made.certificate), "key": str(made.key)})


def device_of(broker: Broker, **words: Any) -> Case:
    made = broker.authority.issue("press-07", **words)
    return Case({"certificate": str(made.certificate), "key": str(made.key)})


def stranger(broker: Broker, folder: Path) -> Case:
    made = Authority(folder / "other", "another authority").issue("press-07")
    return Case({"certificate": str(made.certificate), "key": str(made.key)})


def own_key(broker: Broker, folder: Path, mode: int, password: bytes = b"") -> Case:
    """The device's own key again, in a file of another kind."""
    made = broker.authority.issue("press-07")
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        hidden = serialization.BestAvailableEncryption(password)
    path = folder / "other.key"
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    )
    path.chmod(mode)
    return Case({"certificate": str(made.certificate), "key": str(path)})


def file_of(folder: Path, name: str, data: bytes) -> Case:
    path = folder / "file"
    path.touch(mode=0o600)
    path.write_bytes(data)
    return Case({name: str(path)})


CASES: dict[str, tuple[str, Callable[[Broker, Path], Case]]] = {
    "nobody": ("feed-unreachable", lambda _b, _f: Case({"port": free_port()})),
    "no such name": ("feed-unreachable", lambda _b, _f: Case({"endpoint": "no-such-host.invalid"})),
    "deaf": ("feed-unreachable", lambda _b, _f: listening(deaf)),
    "hangs up": ("feed-closed", lambda _b, _f: listening(hangs_up)),
    "no tls": ("feed-tls", lambda _b, _f: listening(no_tls)),
    "another authority": ("feed-tls", other_ca),
    "another name": (
        "feed-tls",
        lambda b, _f: listening(tls(b.authority, (-DAY, DAY), "evil.example")),
    ),
    "clock behind": ("feed-clock", lambda b, _f: listening(tls(b.authority, (DAY, 2 * DAY)))),
    "clock ahead": ("feed-clock", lambda b, _f: listening(tls(b.authority, (-2 * DAY, -DAY)))),
    "device expired": (
        "feed-certificate-expired",
        lambda b, _f: device_of(b, valid=(-2 * DAY, -DAY)),
    ),
    "device unknown": ("feed-certificate-refused", stranger),
    "device forged": ("feed-certificate-refused", forger),
    "no certificate": ("feed-certificate", lambda _b, f: Case({"certificate": str(f / "none")})),
    "no key": ("feed-certificate", lambda _b, f: Case({"key": str(f / "none")})),
    "no ca": ("feed-certificate", lambda _b, f: Case({"ca": str(f / "none")})),
    "ca is garbage": ("feed-certificate", lambda _b, f: file_of(f, "ca", b"\xff garbage")),
    "ca is empty": ("feed-certificate", lambda _b, f: file_of(f, "ca", b"")),
    "certificate is garbage": ("feed-certificate", lambda _b, f: file_of(f, "certificate", b"x")),
    "key of another": ("feed-certificate", lambda b, _f: Case({"key": str(b.server.key)})),
    "key for everybody": ("feed-certificate", lambda b, f: own_key(b, f, 0o644)),
    "key is encrypted": ("feed-certificate", lambda b, f: own_key(b, f, 0o600, b"secret")),
    "folder for a key": ("feed-certificate", lambda _b, f: Case({"key": str(f)})),
}


@pytest.mark.parametrize("name", CASES)
def test_every_trouble_has_its_own_code(side: MqttSide, tmp_path: Path, name: str) -> None:
    """With a cause, a subject and the next step; the report stays with the device."""
    code, make = CASES[name]
    case = make(side.broker, tmp_path)
    options = side.broker.options(side.thing, **({"timeout": 1.0} | case.options))
    with opened(options, side.device) as feed:
        with pytest.raises(Outage) as caught:
            feed.next(20.0)
        assert caught.value.code == code
        assert caught.value.remedy == TROUBLES[code].remedy or "chmod" in caught.value.remedy
        with pytest.raises(Outage):
            feed.send(1, b"stays")
    case.close()
    assert side.reports() == []


TOKENS = {
    "wrong pin": ("feed-certificate", {"pin": "9999"}),
    "no such token": ("feed-certificate", {"label": "another"}),
    "no such key": ("feed-certificate", {"object": "another"}),
    "no such module": ("feed-certificate", {"module": "/usr/lib/none.so"}),
    "a module that is none": ("feed-certificate", {"module": "/etc/hostname"}),
}


@pytest.mark.parametrize("name", TOKENS)
def test_token_troubles_are_the_certificates(side: MqttSide, tmp_path: Path, name: str) -> None:
    """A key that can not be used is named; the PIN stands in no message."""
    code, words = TOKENS[name]
    token = softhsm.new_token()
    token.make("ecdsa-p256", 1)
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text(words.get("pin", token.pin))
    label, module = words.get("label", token.label), words.get("module", softhsm.module())
    uri = f"hsm:{words.get('object', 'ecdsa-p256')}?label={label}&module={module}"
    options = side.broker.options(side.thing, key=uri, pin=f"file:{pin}")
    with opened(options, side.device) as feed:
        with pytest.raises(Outage) as caught:
            feed.next(20.0)
        assert caught.value.code == code
        assert token.pin not in str(caught.value)
        assert "9999" not in str(caught.value)


# -- https -------------------------------------------------------------------------------------------
@pytest.fixture(params=[HttpsSide, TokenHttpsSide], ids=["file", "token"])
def https(broker: Broker, request: pytest.FixtureRequest) -> Iterator[HttpsSide]:
    with contextlib.ExitStack() as stack:
        made = request.param(broker.authority, stack)
        assert isinstance(made, HttpsSide)
        stack.enter_context(closing(made))
        yield made


@pytest.mark.parametrize(
    "garble",
    [
        b"SSH-2.0-hello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot json!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300,
    ],
)
def test_https_answers_that_nobody_can_read(https: HttpsSide, garble: bytes) -> None:
    """A named outage within the time limit, and no more bytes than the limit."""
    feed = https.feed()
    assert silent(feed)
    https.endpoint.garble = garble
    with pytest.raises(Outage) as caught:
        feed.send(1, b"x")
    endless = garble.startswith(b"HTTP/1.1 200 OK\r\na:") and https.options.on_token
    assert caught.value.code == ("feed-closed" if endless else "feed-message")


def test_https_answer_that_never_ends(https: HttpsSide) -> None:
    """A byte now and then keeps nobody longer than the time limit."""
    https.options = https.broker_options(timeout=0.5)
    feed = https.feed()
    assert silent(feed)
    https.endpoint.drip.set()
    with pytest.raises(Outage) as caught:
        feed.send(1, b"x")
    assert caught.value.code == "feed-slow"


@pytest.mark.parametrize(
    ("refusal", "code"),
    [("RequestThrottled", "feed-throttled"), ("InternalError", "feed-jobs")],
)
def test_https_throttling_waits(https: HttpsSide, refusal: str, code: str) -> None:
    """The same codes as over MQTT, and the job comes later."""
    feed = https.feed()
    assert silent(feed)
    https.give(ORDER, hint(ORDER))
    https.jobs.refuse = [refusal]
    assert trouble(feed) == code
    assert heard(feed).receipt == ORDER


def test_https_version_that_does_not_fit(https: HttpsSide) -> None:
    """The HTTP API does not show the execution, so it is asked for; then the end is told."""
    https.give(ORDER, hint(ORDER))
    feed = https.feed()
    feed.done(heard(feed))
    https.jobs.execution(ORDER, https.device).version += 2
    feed.send(1, Identity(https.device).report(1, event="outcome", update=update(order=ORDER)))
    assert https.jobs.execution(ORDER, https.device).status == "SUCCEEDED"


def test_https_job_that_is_gone(https: HttpsSide) -> None:
    """Deleted by hand: named once, and nothing is lost."""
    https.give(ORDER, hint(ORDER))
    feed = https.feed()
    feed.done(heard(feed))
    https.jobs.delete(ORDER, https.device)
    report = Identity(https.device).report(1, event="outcome", update=update(order=ORDER))
    feed.send(1, report)
    assert trouble(feed) == "feed-job-gone"
    assert https.reports() == [report]


def test_https_confines_a_device_to_itself(https: HttpsSide, broker: Broker) -> None:
    """With A's certificate B's jobs and reports are forbidden, by name."""
    thief = broker.authority.issue("press-thief")
    words = {"certificate": str(thief.certificate), "key": str(thief.key), "thing": https.device}
    https.give(ORDER, hint(ORDER))
    with opened(https.broker_options(**words), https.device) as feed:
        assert trouble(feed) == "feed-not-authorised"
    assert https.jobs.execution(ORDER, https.device).status == "QUEUED"
    assert https.reports() == []


def test_https_revoked_certificate(tmp_path: Path) -> None:
    """The same code as over MQTT."""
    with contextlib.ExitStack() as stack:
        authority = Authority(tmp_path / "pki")
        revoked = authority.issue("press-07")
        authority.revoke(revoked)
        side = HttpsSide(authority, stack)
        words = {"certificate": str(revoked.certificate), "key": str(revoked.key)}
        with opened(side.broker_options(**words), "press-07") as feed:
            assert trouble(feed) == "feed-certificate-revoked"
            assert side.reports() == []
