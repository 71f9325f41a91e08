"""MQTT 5 by AWS's common runtime, with the key on a PKCS#11 token. Implements ``wire.Wire``.

Python's ssl reads keys from files only, so this needs the extra ``crt``. The token's library
signs the handshake; the key never leaves it. TPMs come with such a library, too (tpm2-pkcs11).
The runtime says of a handshake that failed only that it failed, so several troubles share
``feed-tls`` here that ``wire_paho.py`` can tell apart.

The key is named as ``hsm:OBJECT?label=TOKEN&module=PATH``: ``OBJECT`` is the label of the private
key on the token (the runtime looks for labels, not ids); without it the token's only key.
"""

from __future__ import annotations

import concurrent.futures
import functools
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qs, unquote

from ota.agent import secret
from ota.agent.feeds import iot_tls, iot_trouble
from ota.agent.feeds.iot_messages import LIMIT
from ota.agent.feeds.options import ON_TOKEN, IotJobsOptions
from ota.agent.feeds.wire import Address, OnEnd, OnMessage
from signing.errors import Malformed, Misuse, NotFound, OtaError, Outage

if TYPE_CHECKING:
    from awscrt import io, mqtt5

_PACKET: Final = LIMIT + 4096
_NAMES: Final = {
    "USER_REQUESTED_STOP": ("feed-offline", "not connected"),
    "OFFLINE_QUEUE_POLICY": ("feed-offline", "not connected"),
    "SHARED_LIBRARY": ("feed-certificate", "the module is no library"),
    "PKCS11": ("feed-certificate", "the token says no"),
    "TLS_ERROR_CERT": ("feed-tls", "TLS failed"),
    "TLS": ("feed-tls", "TLS failed"),
    "HTTP_CONNECTION_CLOSED": ("feed-closed", "closed without a word"),
    "HTTP": ("feed-message", "no HTTP"),
    "CONNECTION_REFUSED": ("feed-unreachable", "nobody listens"),
    "DNS": ("feed-unreachable", "the name is not known"),
    "SOCKET_CLOSED": ("feed-closed", "closed without a word"),
    "SOCKET": ("feed-unreachable", "nobody answers"),
}
"""Part of an error's name in the runtime -> code and words; the first that fits."""
Found = TypeVar("Found")


def parse(uri: str) -> tuple[str, str, str]:
    """``hsm:OBJECT?label=TOKEN&module=PATH`` -> object, token and module; ``Malformed``."""
    path, _, query = uri.removeprefix(ON_TOKEN).partition("?")
    try:
        words = parse_qs(query, strict_parsing=bool(query), max_num_fields=2)
    except ValueError:
        words = {"": []}
    module = words.get("module", [""])[0]
    if set(words) <= {"label", "module"} and module.startswith("/"):
        return unquote(path), words.get("label", [""])[0], module
    raise Malformed(
        "feed.key: not hsm:OBJECT?label=TOKEN&module=/PATH; a PIN never stands in it",
        subject="feed.key",
        remedy="correct agent.toml",
    )


class CrtWire:
    """See the module."""

    def __init__(
        self, options: IotJobsOptions, address: Address, on_message: OnMessage, on_end: OnEnd
    ) -> None:
        self._options = options
        self._address = address
        self._on_message = on_message
        self._on_end = on_end
        self._connected: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._lock = threading.Lock()
        self._open = False
        self._client: mqtt5.Client | None = None

    # -- Wire ----------------------------------------------------------------------------------
    def open(self) -> None:
        """Connect; returns when the broker has taken the connection."""
        try:
            self._client = _client(self, self._options, self._address)
        except Outage:
            raise
        except OtaError as e:
            raise iot_trouble.outage("feed-certificate", f"{self._address}: {e}") from e
        self._client.start()
        try:
            self._result(self._connected, str(self._address))
        except Outage:
            self.close()
            raise
        self._open = True

    def subscribe(self, filters: Iterable[str]) -> None:
        """Listen to all of these at QoS 1; returns when the broker has granted them."""
        from awscrt import mqtt5  # noqa: PLC0415 - an optional install

        wanted = list(filters)
        listed = [mqtt5.Subscription(f, mqtt5.QoS.AT_LEAST_ONCE) for f in wanted]
        future = self._started.subscribe(mqtt5.SubscribePacket(subscriptions=listed))
        answer = self._result(future, "subscribe")
        for topic, code in zip(wanted, answer.reason_codes, strict=False):
            self._judge(code, topic, f"iot:Subscribe on topicfilter/{topic}")

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1; returns when the broker has taken it, and only then."""
        from awscrt import mqtt5  # noqa: PLC0415 - an optional install

        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE)
        answer = self._result(self._started.publish(packet), topic)
        self._judge(answer.puback.reason_code, topic, f"iot:Publish on topic/{topic}")

    def close(self) -> None:
        """Say goodbye and end; may be called twice."""
        from awscrt import mqtt5  # noqa: PLC0415 - an optional install

        with self._lock:
            self._open, client, self._client = False, self._client, None
        if client is not None:
            client.stop(mqtt5.DisconnectPacket())

    # -- waiting -------------------------------------------------------------------------------
    @property
    def _started(self) -> mqtt5.Client:
        client = self._client
        if client is None or not self._open:
            raise iot_trouble.outage("feed-offline", f"{self._address}: not connected")
        return client

    def _result(self, future: concurrent.futures.Future[Found], what: str) -> Found:
        from awscrt.exceptions import AwsCrtError  # noqa: PLC0415 - an optional install

        try:
            return future.result(self._options.timeout)
        except concurrent.futures.TimeoutError as e:
            slow = iot_trouble.outage("feed-slow", f"{what}: no answer in time")
            self.ended(slow)
            raise slow from e
        except AwsCrtError as e:
            raise translated(e, what) from e

    def _judge(self, code: Any, what: str, right: str) -> None:
        if code.value >= iot_trouble.FAILS:
            raise iot_trouble.reason(code.value, code.name, what, right)

    # -- from the runtime's threads --------------------------------------------------------------
    def received(self, data: mqtt5.PublishReceivedData) -> None:
        """A message."""
        packet = data.publish_packet
        self._on_message(packet.topic, bytes(packet.payload or b""))

    def succeeded(self, _data: mqtt5.LifecycleConnectSuccessData) -> None:
        """The broker took the connection."""
        if not self._connected.done():
            self._connected.set_result(None)

    def failed(self, data: mqtt5.LifecycleConnectFailureData) -> None:
        """It did not; the runtime would try again, and is stopped."""
        where, packet = str(self._address), data.connack_packet
        if packet is not None:
            code, right = packet.reason_code, f"iot:Connect on client/{self._options.client_id}"
            why = iot_trouble.reason(code.value, code.name, where, right)
        else:
            why = translated(data.exception, where)
        if self._connected.done():
            self.ended(why)
        else:
            self._connected.set_exception(why)

    def disconnected(self, data: mqtt5.LifecycleDisconnectData) -> None:
        """The connection ended."""
        where, packet = str(self._address), data.disconnect_packet
        if packet is not None:
            code = packet.reason_code
            self.ended(iot_trouble.reason(code.value, code.name, where, "what it did last"))
        else:
            self.ended(translated(data.exception, where))

    def ended(self, why: Outage) -> None:
        """Tell whoever opened the wire, once."""
        with self._lock:
            was_open = self._open
        self.close()
        if was_open:
            self._on_end(why)


def translated(error: BaseException, what: str) -> Outage:
    """An error of the runtime."""
    text = str(getattr(error, "name", error))
    named = re.search(r"AWS_[A-Z0-9_]{1,80}", text)
    name = named[0] if named else type(error).__name__
    found = next((v for k, v in _NAMES.items() if k in name), ("feed-rejected", "it failed"))
    return iot_trouble.outage(found[0], f"{what}: {found[1]} ({name})", subject=what)


def _client(wire: CrtWire, options: IotJobsOptions, address: Address) -> mqtt5.Client:
    """A client that is not started yet."""
    from awscrt import mqtt5  # noqa: PLC0415 - an optional install

    return mqtt5.Client(
        mqtt5.ClientOptions(
            host_name=address.host,
            port=address.port,
            tls_ctx=tls_context(options, address.alpn),
            connect_options=mqtt5.ConnectPacket(
                client_id=options.client_id,
                keep_alive_interval_sec=options.keepalive,
                maximum_packet_size=_PACKET,
            ),
            session_behavior=mqtt5.ClientSessionBehaviorType.CLEAN,
            offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
            connack_timeout_ms=int(options.timeout * 1000),
            ack_timeout_sec=max(1, int(options.timeout)),
            disable_metrics=True,
            on_publish_callback_fn=wire.received,
            on_lifecycle_event_connection_success_fn=wire.succeeded,
            on_lifecycle_event_connection_failure_fn=wire.failed,
            on_lifecycle_event_disconnection_fn=wire.disconnected,
        )
    )


def tls_context(options: IotJobsOptions, alpn: str) -> io.ClientTlsContext:
    """TLS with the key on the token; ``Outage`` names what is wrong with it."""
    name, token, module = parse(options.key)
    pin = secret.read(options.pin, "feed.pin").decode("utf-8", "replace")
    try:
        from awscrt import io  # noqa: PLC0415 - an optional install
        from awscrt.exceptions import AwsCrtError  # noqa: PLC0415 - the same
    except ImportError as e:
        raise Misuse(
            "feed.key: hsm: keys need awscrt",
            code="missing-library",
            remedy="pip install 'ota-orchestrator[crt]'",
        ) from e
    certificate = iot_tls.checked("certificate", options.certificate)
    authority = iot_tls.checked("ca", options.ca)
    try:
        made = io.TlsContextOptions.create_client_with_mtls_pkcs11(
            pkcs11_lib=_library(module),
            user_pin=pin,
            token_label=token or None,
            private_key_label=name or None,
            cert_file_path=certificate,
        )
        if authority:
            made.override_default_trust_store_from_path(None, authority)
        if alpn:
            made.alpn_list = [alpn]
        return io.ClientTlsContext(made)
    except (AwsCrtError, RuntimeError) as e:  # its C half raises the latter
        raise translated(e, f"[feed] key: token {token!r}") from e


@functools.cache
def _library(module: str) -> io.Pkcs11Lib:
    """One handle in a process; the runtime wants it so."""
    from awscrt import io  # noqa: PLC0415 - an optional install

    if not Path(module).is_file():
        raise NotFound(f"feed.key: there is no module {module}", subject=module)
    return io.Pkcs11Lib(file=module)
