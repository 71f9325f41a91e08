"""Calling AWS: each operation a row of a table, paced, patient, and with its permission at hand.

An adapter keeps a table of the operations that it uses. From it come the permission that an error
names, the pace, and the table in the README, so that none of the three can lag behind the others.

What botocore retries by itself (``AWS_RETRY_MODE``, ``AWS_MAX_ATTEMPTS``) comes first; a call that
is throttled even so slows its bucket down and is tried again for about half a minute, then it is an
``Outage`` with the code ``aws-throttled``. Then, and where nobody answers at all, the same is not
tried again for another half minute (:class:`ota.aws.pacing.Rest`). An answer that the caller can go on after is named in
``expects`` and comes back as :class:`Said`.

>>> api = Api({"CreateJob": Row("iot", "create_job", 10, "job/ID", "one for each order")}, "rollout")
>>> api.call("CreateJob", "job/x", jobId="x", ...)
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from ota.aws.client import client
from ota.aws.errors import Call, asking, code_of, is_throttle, shown, stranger
from ota.aws.pacing import Bucket, Rest
from ota.errors import Malformed, Outage

_PAUSES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
CONNECTIONS: Final = 16


class Row(NamedTuple):
    """One operation: boto3's service and method, calls a second, what the permission is on, and why.

    ``action`` is the permission where it is not named as the operation is.
    """

    service: str
    method: str
    rate: float
    resource: str
    use: str
    action: str = ""


class Said(Exception):
    """AWS answered with a code that the caller had named."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Api:
    """The operations of one table, called with one role in one region. Shared by threads."""

    def __init__(
        self,
        rows: Mapping[str, Row],
        role: str,
        *,
        region: str = "",
        rates: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.calls: Counter[str] = Counter()
        self._rows, self._role, self._wanted_region = rows, role, region
        self._sleep = sleep
        if unknown := sorted(set(rates or {}) - set(rows)):
            raise Malformed(
                f"rates: {unknown[0]!r:.60} is not an operation that is used",
                subject="rates",
                remedy=f"one of {', '.join(rows)}",
            )
        pace = {name: row.rate for name, row in rows.items()} | dict(rates or {})
        self._buckets = {name: Bucket(rate, clock, sleep) for name, rate in pace.items()}
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._rest = Rest(clock)

    def client(self, service: str) -> Any:
        """The client of a service, made when it is first asked for."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = client(
                    service, region=self._wanted_region, connections=CONNECTIONS
                )
            return self._clients[service]

    def region(self, service: str) -> str:
        """The region that a service's client works in."""
        return str(self.client(service).meta.region_name)

    def call(
        self, operation: str, resource: str, *, expects: Collection[str] = (), **words: Any
    ) -> dict[str, Any]:
        """Call it on ``resource``; ``Said`` for a code in ``expects``, else the error tree."""
        row = self._rows[operation]
        call = self._described(operation, resource)
        self._rest.check(operation, row.service)
        made = self.client(row.service)
        method = getattr(made, row.method)
        try:
            with asking(call, str(made.meta.region_name)):
                return self._patiently(operation, method, expects, words)
        except Outage as e:
            name = {"aws-throttled": operation, "aws-unreachable": row.service}.get(e.code)
            if name is not None:
                self._rest.begin(name, e)
            raise

    def get(self, key: str, operation: str, resource: str, **words: Any) -> Any:
        """What the answer says under ``key``, and all else as ``call`` has it.

        An answer without it is none of AWS, whatever its status says: ``Outage``.
        """
        answer = self.call(operation, resource, **words)
        if key not in answer:
            raise self.strange(operation, resource, f"it has no {key}")
        return answer[key]

    def strange(self, operation: str, resource: str, why: str) -> Outage:
        """The error for an answer of this operation that is none of AWS."""
        return stranger(self._described(operation, resource), why)

    def _described(self, operation: str, resource: str) -> Call:
        row = self._rows[operation]
        return Call(row.action or f"{row.service}:{operation}", resource, self._role)

    def _patiently(
        self,
        operation: str,
        method: Callable[..., dict[str, Any]],
        expects: Collection[str],
        words: Mapping[str, Any],
    ) -> dict[str, Any]:
        from botocore.exceptions import ClientError  # noqa: PLC0415 - an optional install

        bucket = self._buckets[operation]
        for pause in (*_PAUSES, 0.0):
            bucket.take()
            self.calls[operation] += 1
            try:
                answer = method(**words)
            except ClientError as e:
                code = code_of(e)
                if code in expects:
                    message = shown(e.response.get("Error", {}).get("Message", ""))
                    raise Said(code, message) from e
                if not is_throttle(e) or not pause:
                    raise
                bucket.slow()
                self._sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads load
            else:
                bucket.easy()
                return answer
        raise AssertionError  # the last turn returns or raises
