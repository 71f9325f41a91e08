"""Signed reports out of an SQS queue, where an IoT rule has put them.

A device publishes the bytes of its report on ``ota/<thing>/report``, QoS 1. The rule
``SELECT encode(*, 'base64') AS report, topic(2) AS thing FROM 'ota/+/report'`` makes a message of
it, so that the bytes come through as they are. The queue keeps it until we say that it is stored.

* Long-polled, up to ten messages a call; a poll of an empty queue is one call, however many devices
  there are.
* Deleted only in ``acknowledge``. Killed before that, SQS offers it again after ``VISIBILITY``
  seconds, and the registry knows a duplicate when it sees one: SQS may deliver twice anyway.
* What is no such message is set aside here and never offered; ``thing`` is only told to people,
  because a report says for itself, signed, whose it is.
* Who may publish can fill the queue. A sweep ends all the same, and garbage is deleted ten a call.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from ota.aws.api import Api
from ota.aws.errors import shown
from ota.errors import Malformed, Outage
from ota.ports import Delivery
from signing import strict

MAX_REPORT: Final = 128 * 1024
"""Bytes of a report; AWS IoT takes no longer message either."""
VISIBILITY: Final = 300
"""Seconds in which a batch must be stored, before SQS offers it again."""
_BODY: Final = 1024 * 1024
_BATCH: Final = 10
_SPARE: Final = 20
"""Calls beyond what the reports need, however much garbage there is."""


class Keeper(Protocol):
    """Where what was refused is kept: a folder (``aside``), or another queue."""

    def keep(self, data: bytes, reason: str) -> None:
        """Keep it for a person, durable on return."""


class Receipt(NamedTuple):
    """SQS's handle of a message, and when it ends (monotonic)."""

    message: str
    handle: str
    until: float


class _Message(msgspec.Struct, frozen=True):
    """What the rule writes; it may write more."""

    report: str
    thing: str = ""


class ReportQueue:
    """Implements the inward half of ``ports.Courier``; ``url`` is the queue's."""

    def __init__(self, api: Api, url: str, aside: Keeper, wait: int) -> None:
        self._api = api
        self._url = url
        self._aside = aside
        self._wait = wait
        self._held: dict[str, Delivery] = {}
        self._refused: list[Receipt] = []
        self._drained = False

    def collect(self, limit: int) -> Sequence[Delivery]:
        """Up to ``limit`` reports that were not acknowledged; those held already come first."""
        now = time.monotonic()
        self._dispose()
        self._held = {m: d for m, d in self._held.items() if d.receipt.until > now}
        found = list(self._held.values())[:limit]
        if self._drained and not found:  # the queue was found empty a moment ago
            self._drained = False
            return []
        for _ in range(_SPARE + 2 * limit // _BATCH):
            if len(found) >= limit:
                break
            deliveries, empty = self._receive(min(_BATCH, limit - len(found)))
            found += deliveries
            if empty:
                self._drained = bool(found)
                break
        self._dispose()  # this process may end here
        return found

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Delete what is stored. ``Outage`` where SQS could not; it comes again then."""
        self._dispose()
        receipts = [d.receipt for d in deliveries]
        failed: list[str] = []
        for start in range(0, len(receipts), _BATCH):
            failed += self._delete(receipts[start : start + _BATCH])
        if failed:
            raise Outage(
                f"{self._url}: {len(failed)} reports were not deleted: {failed[0]}",
                code="aws",
                subject=self._url,
                remedy="nothing is lost: they come again, and are known",
            )

    def quarantine(self, delivery: Delivery, reason: str) -> None:
        """Keep it where such things are kept, then delete it: ten a call, at the latest before the next."""
        self._aside.keep(delivery.data, f"{delivery.source}: {reason}")
        self._held.pop(delivery.receipt.message, None)
        self._refuse(delivery.receipt)

    def _refuse(self, receipt: Receipt) -> None:
        """Something that is kept elsewhere, and is to be deleted."""
        self._refused.append(receipt)
        if len(self._refused) == _BATCH:
            self._dispose()

    def _dispose(self) -> None:
        """Delete what was refused; what can not be deleted comes again, and is kept again."""
        refused, self._refused = self._refused, []
        self._delete(refused)

    def _receive(self, most: int) -> tuple[list[Delivery], bool]:
        """What one call brings, and whether it brought nothing at all."""
        until = time.monotonic() + VISIBILITY
        answer = self._api.call(
            "ReceiveMessage",
            queue_arn(self._api, self._url),
            QueueUrl=self._url,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=self._wait,
            VisibilityTimeout=VISIBILITY,
        )
        messages = answer.get("Messages", [])
        taken = [self._take(message, until) for message in messages]
        return [d for d in taken if d is not None], not messages

    def _take(self, message: Mapping[str, Any], until: float) -> Delivery | None:
        body = str(message.get("Body", "")).encode("utf-8", "replace")
        handle = str(message.get("ReceiptHandle", ""))
        receipt = Receipt(str(message.get("MessageId", handle)), handle, until)
        try:
            thing, data = _read(body)
        except Malformed as e:
            self._aside.keep(body, f"sqs:{receipt.message}: {e}")
            self._refuse(receipt)
            return None
        delivery = Delivery(data, f"sqs:{shown(thing, 128) or '?'}/{receipt.message}", receipt)
        self._held[receipt.message] = delivery
        return delivery

    def _delete(self, receipts: Sequence[Receipt]) -> list[str]:
        """Delete at most ten; returns why some were not. A handle that has ended is no fault."""
        if not receipts:
            return []
        entries = [
            {"Id": str(number), "ReceiptHandle": receipt.handle}
            for number, receipt in enumerate(receipts)
        ]
        answer = self._api.call(
            "DeleteMessageBatch",
            queue_arn(self._api, self._url),
            QueueUrl=self._url,
            Entries=entries,
        )
        for receipt in receipts:
            self._held.pop(receipt.message, None)
        return [
            f"{shown(item.get('Code', ''), 60)}: {shown(item.get('Message', ''))}"
            for item in answer.get("Failed", [])
            if "ReceiptHandle" not in str(item.get("Code", ""))
        ]


class RefusedQueue:
    """What was refused, as messages of a second queue: base64 of the bytes, and the reason."""

    def __init__(self, api: Api, url: str) -> None:
        self._api = api
        self._url = url

    def keep(self, data: bytes, reason: str) -> None:
        """Send it there; of garbage that is longer than a report, the beginning."""
        body = {
            "bytes": len(data),
            "data": base64.b64encode(data[:MAX_REPORT]).decode(),
            "reason": shown(reason, 4000),
        }
        self._api.call(
            "SendMessage",
            queue_arn(self._api, self._url),
            QueueUrl=self._url,
            MessageBody=json.dumps(body),
        )


def queue_arn(api: Api, url: str) -> str:
    """A queue as a policy names it: its ARN, where its URL says whose it is."""
    *_, account, name = url.split("/")
    if not account.isdecimal():
        return url
    meta = api.client("sqs").meta
    return f"arn:{meta.partition}:sqs:{meta.region_name}:{account}:{name}"


def _read(body: bytes) -> tuple[str, bytes]:
    """(thing, report) of a message; ``Malformed`` for any other."""
    try:
        found = msgspec.convert(
            strict.loads(body, limit=_BODY, what="message"), _Message, strict=True
        )
        data = base64.b64decode(found.report, validate=True)
    except (msgspec.ValidationError, binascii.Error, ValueError) as e:
        raise Malformed(f"message: not one of the rule: {shown(e)}") from e
    if len(data) > MAX_REPORT:
        raise Malformed(f"message: a report of {len(data)} bytes, the limit is {MAX_REPORT}")
    return found.thing, data
