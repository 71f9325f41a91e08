"""The Jobs service over HTTPS, where MQTT is blocked. Implements ``iot_channel.Channel``.

AWS IoT's data endpoint takes a client certificate on port 8443, and on 443 with its own ALPN
name. Paths and bodies are those of the developer guide, "Jobs device HTTP API" and "HTTPS":

    PUT  /things/THING/jobs/$next                 start-next
    GET  /things/THING/jobs/JOB                   describe
    POST /things/THING/jobs/JOB                   update
    POST /topics/ota%2FTHING%2Freport?qos=1       a report

Nobody calls a device over HTTPS, so it has to ask. Each request has a connection of its own and
a deadline for the whole of it; an answer is read to its limit and no further. Who makes the
connection is an :data:`Exchange`: ``https_file.py`` with the key in a file, ``wire_crt_https.py``
with the key on a token.
"""

from __future__ import annotations

import http
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from ota.agent.feeds import iot_messages, iot_trouble
from ota.agent.feeds.iot_messages import Answer, Execution, ExecutionState, Rejected, State
from ota.agent.feeds.iot_topics import Topics
from ota.agent.feeds.wire import Address
from signing.errors import Malformed

Exchange = Callable[[str, str, bytes], tuple[int, str, bytes]]
"""(method, path, body) -> status, kind of error, and body; raises ``Outage`` within the time limit.

A body that is longer than ``iot_messages.LIMIT`` is cut one byte behind it.
"""
_WORDS: Final = {
    "TerminalState": "TerminalStateReached",
    "Throttling": iot_messages.THROTTLED,
    "ServiceUnavailable": "InternalError",
    "InternalFailure": "InternalError",
}
"""The HTTP API's names of errors, without "Exception" -> those of the MQTT API."""
_BY_STATUS: Final = {
    400: "InvalidRequest",
    404: "ResourceNotFound",
    409: "InvalidStateTransition",
    410: "TerminalStateReached",
    429: iot_messages.THROTTLED,
}


class HttpsChannel:
    """See the module."""

    pushes = False

    def __init__(self, exchange: Exchange, address: Address, topics: Topics) -> None:
        self._exchange = exchange
        self._address = address
        self._topics = topics

    def open(self) -> None:
        """One question that changes nothing, to see that there is a way and a right."""
        self._ask("GET", self._job("$next"))

    # -- Channel -------------------------------------------------------------------------------
    def start_next(self) -> Execution | None:
        """The next execution, IN_PROGRESS from now on; None when there is none."""
        return self._ask("PUT", self._job("$next"), iot_messages.start_next("")).execution

    def describe(self, job: str) -> ExecutionState | None:
        """How an execution stands; None for one that is gone or has ended."""
        path = f"{self._job(job)}?includeJobDocument=false"
        return iot_messages.standing(lambda: self._ask("GET", path))

    def update(
        self, execution: Execution, state: State, details: Mapping[str, str]
    ) -> ExecutionState | None:
        """Say how an execution stands; ``Rejected`` when the service knows better."""
        body = iot_messages.update("", execution, state, details)
        return self._ask("POST", self._job(execution.job), body).state

    def report(self, data: bytes) -> None:
        """Hand over one signed report; returns when the broker has taken it."""
        self._ask("POST", f"/topics/{quote(self._topics.report, safe='')}?qos=1", data)

    def close(self) -> None:
        """Nothing stays open."""

    # -- HTTP ----------------------------------------------------------------------------------
    def _job(self, job: str) -> str:
        return f"/things/{self._topics.thing}/jobs/{job}"

    def _ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        where = f"{self._address}{path}"
        status, kind, data = self._exchange(method, path, body)
        if status == http.HTTPStatus.FORBIDDEN:
            raise iot_trouble.outage("feed-not-authorised", f"{where}: {status}", subject=path)
        try:
            answer = iot_messages.read(data or b"{}")
        except Malformed as e:
            if status == http.HTTPStatus.OK:
                raise iot_trouble.outage("feed-message", f"{where}: {e}", subject=path) from e
            answer = Answer()
        if status == http.HTTPStatus.OK:
            return answer
        raise Rejected(where, answer, reason=_reason(status, kind))


def _reason(status: int, kind: str) -> str:
    """The MQTT API's word for an HTTP error; the header may carry a URL behind a colon."""
    word = kind.partition(":")[0].removesuffix("Exception")
    if not word:
        word = "InternalError" if status >= 500 else _BY_STATUS.get(status, str(status))
    return _WORDS.get(word, word)
