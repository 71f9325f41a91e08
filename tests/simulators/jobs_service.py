"""The Jobs service on a real broker: answers on AWS's reserved topics, and keeps the reports.

It can be nasty: say a notification or an answer twice, hold answers back, lose them, or say
something else altogether.

>>> with serving(broker) as service:
...     service.jobs.create("ota-app-1-aaaaaa-u1-w0-b0", {...}, "press-07")
...     service.wait(lambda: service.reports)
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from simulators.broker import SERVICE, Broker
from simulators.jobs_model import Jobs, encoded

T = TypeVar("T")


@dataclass
class Nastiness:
    """What goes wrong on the way to the device."""

    times: int = 1
    lose: int = 0
    instead: bytes = b""


class JobsService:
    """See the module."""

    def __init__(self, broker: Broker) -> None:
        self.jobs = Jobs()
        self.jobs.changed = self.notify
        self.nasty = Nastiness()
        self.reports: list[tuple[str, bytes]] = []
        self._changed = threading.Condition()
        certificate = broker.authority.issue(SERVICE)
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=SERVICE, protocol=mqtt.MQTTv5)
        client.tls_set(str(broker.authority.ca), str(certificate.certificate), str(certificate.key))
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._message
        self._client = client
        self._ready = threading.Event()
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        assert self._ready.wait(20)

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def again(self) -> None:
        """Wait until it is back on a broker that was away."""
        self._ready.clear()
        until = time.monotonic() + 20
        while not self._ready.wait(0.05) and time.monotonic() < until:
            with contextlib.suppress(OSError):
                self._client.reconnect()
        assert self._ready.is_set()

    def wait(self, found: Callable[[], T], seconds: float = 20.0) -> T:
        """What ``found`` returns as soon as it is true."""
        with self._changed:
            value = self._changed.wait_for(found, seconds)
        assert value, "it does not come"
        return value

    def notify(self, thing: str) -> None:
        """Tell a thing what its next execution is, as many times as the test says."""
        execution = self.jobs.next(thing)
        shown: dict[str, Any] = {"timestamp": 1}
        if execution is not None:
            shown["execution"] = {
                "jobId": execution.job,
                "status": execution.status,
                "versionNumber": execution.version,
                "executionNumber": execution.number,
                "jobDocument": execution.document,
            }
        for _ in range(self.nasty.times):
            self.say(f"$aws/things/{thing}/jobs/notify-next", encoded(shown))
        self._tick()

    def say(self, topic: str, payload: bytes) -> None:
        """Publish anything."""
        self._client.publish(topic, payload, qos=1)

    # -- from the broker -----------------------------------------------------------------------
    def _connected(self, client: mqtt.Client, *_rest: object) -> None:
        client.subscribe(
            [
                ("$aws/things/+/jobs/start-next", 1),
                ("$aws/things/+/jobs/+/get", 1),
                ("$aws/things/+/jobs/+/update", 1),
                ("ota/+/report", 1),
            ]
        )

    def _subscribed(self, *_rest: object) -> None:
        self._ready.set()

    def _message(self, _client: object, _user: object, message: mqtt.MQTTMessage) -> None:
        levels = message.topic.split("/")
        if levels[0] == "ota":
            self.reports.append((levels[1], bytes(message.payload)))
        else:
            job = levels[4] if len(levels) == 6 else ""
            self._request(message.topic, levels[-1], levels[2], job, bytes(message.payload))
        self._tick()

    def _request(self, topic: str, verb: str, thing: str, job: str, payload: bytes) -> None:
        try:
            body = json.loads(payload)
        except ValueError:
            body = None
        accepted, answer = self.jobs.handle(verb, thing, job, body)
        if self.nasty.lose:
            self.nasty.lose -= 1
            return
        word = "accepted" if accepted else "rejected"
        for _ in range(self.nasty.times):
            self.say(f"{topic}/{word}", self.nasty.instead or encoded(answer))

    def _tick(self) -> None:
        with self._changed:
            self._changed.notify_all()


@contextlib.contextmanager
def serving(broker: Broker) -> Iterator[JobsService]:
    """The service on this broker for as long as the block lasts."""
    service = JobsService(broker)
    try:
        yield service
    finally:
        service.close()
