"""The ways to a broker, in the order in which they are tried.

1. MQTT on ``[feed] port``;
2. ``mqtt-443``: MQTT on port 443, where firewalls let TLS through; AWS tells it from HTTPS by its
   ALPN name;
3. ``https``: questions only, where somebody looks into what is said on 443.

What a way needs is imported when it is first tried: a device loads what it uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ota.agent.feeds.iot_channel import Channel, MqttChannel
from ota.agent.feeds.iot_line import Way
from ota.agent.feeds.iot_tls import HTTPS_ALPN, MQTT_ALPN
from ota.agent.feeds.iot_topics import Topics
from ota.agent.feeds.options import IotJobsOptions
from ota.agent.feeds.wire import Address, OnEnd, OnMessage, Wire

if TYPE_CHECKING:
    from ota.agent.feeds.iot_https import Exchange

WELL_KNOWN: Final = 443


def ways(options: IotJobsOptions, topics: Topics, notified: Callable[[], None]) -> list[Way]:
    """Every way that the options allow; ``notified`` is told of news where somebody tells it."""
    found = [_mqtt(options, options.port, topics, notified)]
    for kind in options.fallback:
        if kind == "mqtt-443":
            found.append(_mqtt(options, WELL_KNOWN, topics, notified))
        else:
            found.append(_https(options, topics))
    return found


def _mqtt(options: IotJobsOptions, port: int, topics: Topics, notified: Callable[[], None]) -> Way:
    address = Address(options.endpoint, port, MQTT_ALPN if port == WELL_KNOWN else "")

    def open_channel(ended: OnEnd) -> Channel:
        channel = MqttChannel(
            lambda on_message, on_end: _wire(options, address, on_message, on_end),
            topics,
            options.timeout,
            notified,
            ended,
        )
        channel.open()
        return channel

    return open_channel


def _wire(options: IotJobsOptions, address: Address, on_message: OnMessage, on_end: OnEnd) -> Wire:
    if options.on_token:
        from ota.agent.feeds.wire_crt import CrtWire  # noqa: PLC0415 - an optional install

        return CrtWire(options, address, on_message, on_end)
    from ota.agent.feeds.wire_paho import PahoWire  # noqa: PLC0415 - see the module

    return PahoWire(options, address, on_message, on_end)


def _exchange(options: IotJobsOptions, address: Address) -> Exchange:
    if options.on_token:
        from ota.agent.feeds import wire_crt_https  # noqa: PLC0415 - an optional install

        return wire_crt_https.exchange(options, address)
    from ota.agent.feeds import https_file  # noqa: PLC0415 - see the module

    return https_file.exchange(options, address)


def _https(options: IotJobsOptions, topics: Topics) -> Way:
    port = options.https_port
    address = Address(options.endpoint, port, HTTPS_ALPN if port == WELL_KNOWN else "")

    def open_channel(ended: OnEnd) -> Channel:
        del ended  # it has no end of its own
        from ota.agent.feeds.iot_https import HttpsChannel  # noqa: PLC0415 - see the module

        channel = HttpsChannel(_exchange(options, address), address, topics)
        channel.open()
        return channel

    return open_channel
