"""Asking the Jobs service: what can be asked, and asking it over MQTT.

Over MQTT a question is published, and its answer comes on a topic of its own whenever it comes;
each question carries a random ``clientToken`` that its answer repeats. An answer that nobody waits
for (late, doubled, or to another question) is nobody's. One question is open at a time.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from ota.agent.feeds import iot_messages, iot_trouble
from ota.agent.feeds.iot_messages import Answer, Execution, ExecutionState, Rejected, State
from ota.agent.feeds.iot_topics import Topics
from ota.agent.feeds.wire import OnEnd, OnMessage, Wire
from signing.errors import Malformed, Outage


class Channel(Protocol):
    """A way to the broker and its Jobs service that works now; every call raises ``Outage``."""

    pushes: bool
    """Whether it says by itself that there is a new job."""

    def start_next(self) -> Execution | None:
        """The next execution, IN_PROGRESS from now on; None when there is none."""

    def describe(self, job: str) -> ExecutionState | None:
        """How an execution stands; None for one that is gone or has ended."""

    def update(
        self, execution: Execution, state: State, details: Mapping[str, str]
    ) -> ExecutionState | None:
        """Say how an execution stands; ``Rejected`` when the service knows better."""

    def report(self, data: bytes) -> None:
        """Hand over one signed report; returns when the broker has taken it."""

    def close(self) -> None:
        """End."""


class MqttChannel:
    """Implements :class:`Channel` on a wire; ``make`` gets its two callbacks."""

    pushes = True

    def __init__(
        self,
        make: Callable[[OnMessage, OnEnd], Wire],
        topics: Topics,
        timeout: float,
        notified: Callable[[], None],
        ended: OnEnd,
    ) -> None:
        self._topics = topics
        self._timeout = timeout
        self._notified = notified
        self._told_end = ended
        self._changed = threading.Condition()
        self._question = ("", "")  # the topic and the token of the open one
        self._answer: Answer | Outage | None = None
        self._accepted = False
        self._wire = make(self._message, self._ended)

    def open(self) -> None:
        """Connect and listen."""
        self._wire.open()
        try:
            self._wire.subscribe(self._topics.filters)
        except Outage:
            self._wire.close()
            raise

    # -- Channel -------------------------------------------------------------------------------
    def start_next(self) -> Execution | None:
        """The next execution, IN_PROGRESS from now on; None when there is none."""
        return self._ask(self._topics.start_next, iot_messages.start_next).execution

    def describe(self, job: str) -> ExecutionState | None:
        """How an execution stands; None for one that is gone or has ended."""
        topic = self._topics.describe(job)
        return iot_messages.standing(lambda: self._ask(topic, iot_messages.describe))

    def update(
        self, execution: Execution, state: State, details: Mapping[str, str]
    ) -> ExecutionState | None:
        """Say how an execution stands; ``Rejected`` when the service knows better."""

        def body(token: str) -> bytes:
            return iot_messages.update(token, execution, state, details)

        return self._ask(self._topics.update(execution.job), body).state

    def report(self, data: bytes) -> None:
        """Hand over one signed report; returns when the broker has taken it."""
        self._wire.publish(self._topics.report, data)

    def close(self) -> None:
        """End."""
        self._wire.close()

    # -- questions -----------------------------------------------------------------------------
    def _ask(self, topic: str, body: Callable[[str], bytes]) -> Answer:
        token = secrets.token_hex(8)
        with self._changed:
            self._question, self._answer = (topic, token), None
        try:
            self._wire.publish(topic, body(token))
            found = self._wait(topic)
        finally:
            with self._changed:
                self._question = ("", "")
        if isinstance(found, Outage):
            raise found
        if not self._accepted:
            raise Rejected(topic, found)
        return found

    def _wait(self, topic: str) -> Answer | Outage:
        until = time.monotonic() + self._timeout
        with self._changed:
            while self._answer is None:
                left = until - time.monotonic()
                if left <= 0:
                    words = f"{topic}: the Jobs service does not answer"
                    return iot_trouble.outage("feed-slow", words, subject=topic)
                self._changed.wait(left)
            return self._answer

    # -- from the wire's thread ----------------------------------------------------------------
    def _message(self, topic: str, payload: bytes) -> None:
        if topic == self._topics.notify_next:
            self._notified()  # what it says is asked for, and may be out of order
            return
        verdict = self._topics.verdict(topic)
        with self._changed:
            asked, token = self._question
            if verdict is None or not asked or topic.rpartition("/")[0] != asked:
                return
            answer = _read(topic, payload)
            if isinstance(answer, Outage) or answer.token == token:
                self._answer, self._accepted = answer, verdict
                self._changed.notify_all()

    def _ended(self, why: Outage) -> None:
        with self._changed:
            self._answer = self._answer or why
            self._changed.notify_all()
        self._told_end(why)


def _read(topic: str, payload: bytes) -> Answer | Outage:
    try:
        return iot_messages.read(payload)
    except Malformed as e:
        return iot_trouble.outage("feed-message", f"{topic}: {e}", subject=topic)
