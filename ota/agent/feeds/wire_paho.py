"""MQTT 5 by paho-mqtt, with the key in a file. Implements ``wire.Wire``.

paho's own reconnecting is switched off: a wire lives once. Three things are added at its socket,
through the standard library's own hook (``SSLContext.sslsocket_class``): the reason for which
TLS ended, which paho only logs; a limit on a packet's length, which paho does not have; and one
limit for opening, from the first address to the broker's word, where paho has one for each step.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, TypeVar

from paho.mqtt import MQTTException
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ota.agent.feeds import in_time, iot_tls, iot_trouble
from ota.agent.feeds.iot_messages import LIMIT
from ota.agent.feeds.options import IotJobsOptions
from ota.agent.feeds.wire import Address, OnEnd, OnMessage
from signing.errors import Outage

_PACKET: Final = LIMIT + 4096
"""Largest packet in bytes: a message, its topic and its properties."""
_UNASKED: Final = 16
"""Most answers to packets that are kept for whoever waits; one waits at a time."""
_GOODBYE: Final = 1.0
"""Seconds for what is still to be sent when a wire is closed."""
Found = TypeVar("Found")


class PahoWire:
    """See the module."""

    def __init__(
        self, options: IotJobsOptions, address: Address, on_message: OnMessage, on_end: OnEnd
    ) -> None:
        self._options = options
        self._address = address
        self._on_end = on_end
        self._changed = threading.Condition()
        self._answers: dict[int, list[ReasonCode]] = {}
        self._connected: ReasonCode | None = None
        self._ended: Outage | None = None
        self._open = False
        self._faults: list[OSError] = []
        self._until = 0.0
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
        )
        client.ended = lambda words: self._end(
            iot_trouble.outage("feed-message", f"{address}: {words}")
        )
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = lambda _c, _u, mid, codes, _p: self._answered(mid, codes)
        client.on_publish = lambda _c, _u, mid, code, _p: self._answered(mid, [code])
        client.on_message = lambda _c, _u, message: on_message(
            message.topic, bytes(message.payload)
        )
        self._client = client

    # -- Wire ----------------------------------------------------------------------------------
    def open(self) -> None:
        """Connect; returns when the broker has taken the connection."""
        where = str(self._address)
        context = iot_tls.context(self._options, self._address.alpn)
        self._client.until = self._until = time.monotonic() + self._options.timeout
        own = {"faults": self._faults, "until": self._until}
        context.sslsocket_class = type("Socket", (_Socket,), own)
        self._client.tls_set_context(context)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's
        properties.MaximumPacketSize = _PACKET
        try:
            self._client.connect(
                self._address.host,
                self._address.port,
                self._options.keepalive,
                clean_start=True,
                properties=properties,
            )
        except OSError as e:
            raise iot_trouble.connection(e, where) from e
        self._client.loop_start()
        try:
            code = self._wait(lambda: self._connected, where, self._until)
            if code.is_failure:
                raise iot_trouble.reason(
                    code.value, str(code), where, f"iot:Connect on client/{self._options.client_id}"
                )
        except Outage:
            self.close()
            raise
        self._open = True

    def subscribe(self, filters: Iterable[str]) -> None:
        """Listen to all of these at QoS 1; returns when the broker has granted them."""
        wanted = list(filters)
        result, mid = self._client.subscribe([(f, SubscribeOptions(qos=1)) for f in wanted])
        codes = self._sent(result, mid, "subscribe")
        for topic, code in zip(wanted, codes, strict=False):
            if code.is_failure:
                right = f"iot:Subscribe on topicfilter/{topic}"
                raise iot_trouble.reason(code.value, str(code), topic, right)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1; returns when the broker has taken it, and only then."""
        info = self._client.publish(topic, payload, qos=1)
        (code,) = self._sent(info.rc, info.mid, topic)
        if code.is_failure:
            right = f"iot:Publish on topic/{topic}"
            raise iot_trouble.reason(code.value, str(code), topic, right)

    def close(self) -> None:
        """Say goodbye and end; may be called twice."""
        with self._changed:
            self._open = False
            self._ended = self._ended or self._offline()
            self._changed.notify_all()
        self._client.disconnect()
        cut = threading.Timer(_GOODBYE, self._cut)  # a broker that reads nothing hears nothing
        cut.daemon = True
        cut.start()
        self._client.loop_stop()
        cut.cancel()

    def _cut(self) -> None:
        """End the connection under paho's thread, which ends with it."""
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not TLS's: another thread reads

    # -- waiting -------------------------------------------------------------------------------
    def _sent(self, result: int, mid: int | None, what: str) -> list[ReasonCode]:
        """The broker's answer to a packet."""
        if result != mqtt.MQTT_ERR_SUCCESS or mid is None:
            raise self._ended or self._offline()
        try:
            return self._wait(lambda: self._answers.pop(mid, None), what)
        except Outage as e:
            if e.code == "feed-slow":  # a broker that does not answer is no broker any more
                self._end(e)
                self._cut()
            raise

    def _wait(
        self, found: Callable[[], Found | None], what: str, until: float | None = None
    ) -> Found:
        """What the wire's own thread finds within the time limit; ``Outage`` when it ends first."""
        until = time.monotonic() + self._options.timeout if until is None else until
        with self._changed:
            while (value := found()) is None:
                if self._ended is not None:
                    raise self._ended
                left = until - time.monotonic()
                if left <= 0:
                    raise iot_trouble.outage("feed-slow", f"{what}: no answer in time")
                self._changed.wait(left)
            return value

    def _offline(self) -> Outage:
        return iot_trouble.outage("feed-offline", f"{self._address}: not connected")

    # -- from paho's thread --------------------------------------------------------------------
    def _on_connect(
        self, _client: object, _user: object, _flags: object, code: ReasonCode, _p: object
    ) -> None:
        with self._changed:
            self._connected = code
            self._changed.notify_all()

    def _answered(self, mid: int, codes: list[ReasonCode]) -> None:
        with self._changed:
            self._answers[mid] = codes
            while len(self._answers) > _UNASKED:
                self._answers.pop(next(iter(self._answers)))
            self._changed.notify_all()

    def _on_disconnect(
        self,
        _client: object,
        _user: object,
        flags: mqtt.DisconnectFlags,
        code: ReasonCode,
        _p: object,
    ) -> None:
        where = str(self._address)
        if flags.is_disconnect_packet_from_server:
            self._end(iot_trouble.reason(code.value, str(code), where, "what it did last"))
        elif self._faults:
            self._end(iot_trouble.connection(self._faults[0], where))
        else:
            self._end(iot_trouble.outage("feed-closed", f"{where}: closed without a word"))

    def _end(self, why: Outage) -> None:
        """The first reason stands; whoever waits gets it, and who opened the wire is told."""
        with self._changed:
            first, was_open = self._ended is None, self._open
            self._ended = self._ended or why
            self._open = False
            self._changed.notify_all()
        if first and was_open:
            self._on_end(why)


class _Client(mqtt.Client):
    """Says when its thread ends, whatever ended it: a packet that paho can not read, for one.

    ``until`` (monotonic) is when a connection must be there.
    """

    ended: Callable[[str], None]
    until: float

    def _create_socket_connection(self) -> socket.socket:
        """As paho's without a proxy, within one limit for every address of the name."""
        return in_time.connect(self._host, self._port, self.until)

    def loop_forever(
        self, timeout: float = 1.0, retry_first_connection: bool = False
    ) -> MQTTErrorCode:
        """As paho's."""
        words = "the broker's packets can not be read"
        try:
            code = super().loop_forever(timeout, retry_first_connection)
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as e:
            words = f"{words}: {type(e).__name__}"
            code = MQTTErrorCode.MQTT_ERR_PROTOCOL
        except (struct.error, MQTTException) as e:
            words = f"{words}: {type(e).__name__}"
            code = MQTTErrorCode.MQTT_ERR_PROTOCOL
        finally:
            self.ended(words)
        return code


class _Socket(ssl.SSLSocket):
    """Keeps why TLS ended, the broker's word first, and reads no packet beyond the limit."""

    faults: ClassVar[list[OSError]]
    until: ClassVar[float]

    def do_handshake(self, block: bool = False) -> None:  # noqa: ARG002 - its signature
        """As the standard library's, whose limit is for all of it, however many reads it takes."""
        try:
            self.settimeout(max(0.001, self.until - time.monotonic()))
            super().do_handshake()
        except OSError:
            self.close()  # the error's trace would keep it open
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As the standard library's; paho asks for what a packet says it still has."""
        try:
            if buflen > _PACKET:
                raise OSError(errno.EMSGSIZE, f"a packet of {buflen} bytes")
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as e:
            self.faults.append(e)
            raise

    def send(self, data: Any, flags: int = 0) -> int:
        """As the standard library's; who hangs up may have said why before."""
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as e:
            with contextlib.suppress(OSError):
                self.recv(1)
            self.faults.append(e)
            raise
