"""The books that AWS keeps of an order: its job, and an execution of it for each thing.

They are looked at and closed, never believed: what a device did is what it signed. One listing of
all executions takes a call for every 250 things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from ota.aws.api import Api, Said
from ota.aws.errors import shown
from ota.couriers.iot_targets import DIRECT, Targets
from ota.ports import Clock, Followed, Order
from signing import strict

_ABSENT: Final = "ResourceNotFoundException"
_REASON: Final = "OTA_ORDER_ENDED"
_OPEN: Final = frozenset({"QUEUED", "IN_PROGRESS"})
_GRACE: Final = timedelta(minutes=2)
"""A report may still be on its way when its execution has ended, and AWS's lists lag."""
_UNKNOWN: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PAGE: Final = 250
_TRIES: Final = 11
"""Executions of one thing in one job: the first, and AWS's retries."""
_THREADS: Final = 4
_ENDED: Final = (
    "numberOfSucceededThings",
    "numberOfFailedThings",
    "numberOfRejectedThings",
    "numberOfTimedOutThings",
    "numberOfRemovedThings",
    "numberOfCanceledThings",
)


class Execution(NamedTuple):
    """One thing's execution, as AWS has it."""

    status: str
    since: datetime


class Books:
    """Looks orders up at AWS, and closes them there."""

    def __init__(self, api: Api, targets: Targets, clock: Clock) -> None:
        self._api = api
        self._targets = targets
        self._clock = clock

    def job(self, order: Order) -> dict[str, Any] | None:
        """The order's job, or None when there is none."""
        arn = self._targets.job_arn(order.id)
        try:
            found = self._api.get("job", "DescribeJob", arn, expects={_ABSENT}, jobId=order.id)
            return dict(found)
        except Said:
            return None

    def document(self, order: Order) -> str:
        """The document of the order's job; "" when there is none."""
        arn = self._targets.job_arn(order.id)
        try:
            words = {"jobId": order.id, "expects": {_ABSENT}}
            return str(self._api.get("document", "GetJobDocument", arn, **words))
        except Said:
            return ""

    # -- following -------------------------------------------------------------------------------
    def follow(self, order: Order, waiting: Sequence[str], *, close: bool) -> Followed:
        """What they say of devices that did not report; see ``ports.Follower``.

        1. No job: somebody deleted it. Devices find their assignments without it.
        2. Where any execution has ended, all are listed, and those compared that are waited for.
        3. ``close``, or nothing is open: what is open is cancelled, the group is removed.
        """
        job = self.job(order)
        if job is None:  # (1)
            self._forget(order)
            return Followed(note=_deleted(order) if waiting else "", closed=True)
        lost = self._lost(order, job, waiting) if waiting else {}  # (2)
        note = _cancelled(job) if waiting and not close else ""
        if job.get("status") in {"IN_PROGRESS", "SCHEDULED"}:  # (3)
            if not close:
                return Followed(lost, note)
            self._cancel_all(order)
        self._forget(order)
        return Followed(lost, note, closed=True)

    def _lost(self, order: Order, job: Mapping[str, Any], waiting: Sequence[str]) -> dict[str, str]:
        counters = job.get("jobProcessDetails", {})
        if not any(counters.get(name) for name in _ENDED):
            return {}
        things, _ = self._targets.named(waiting)
        try:
            found = self._executions(order)
        except Said:  # deleted since it was described: the next look says so
            return {}
        rolled_out = (
            not job.get("isConcurrent")
            and job.get("status") != "SCHEDULED"
            and self._clock() - _moment(job.get("createdAt")) >= _GRACE
        )
        lost = {}
        for device, thing in things.items():
            execution = found.get(thing)
            if execution is not None and execution.status not in _OPEN:
                if self._clock() - execution.since >= _GRACE:
                    since = strict.stamp(execution.since)
                    lost[device] = f"AWS says {execution.status} since {since}"
            elif execution is None and rolled_out:
                lost[device] = f"AWS has no execution for {thing}: was it deleted or renamed?"
        return lost

    # -- closing ---------------------------------------------------------------------------------
    def cancel(self, order: Order) -> None:
        """Cancel what is open for ``order.devices``; idempotent; nothing where there is no job.

        One call where nobody else's execution is open, else one for each. Of the order's other devices
        one that is not listed may be open: AWS's lists lag.
        """
        things, _ = self._targets.named(order.devices)
        wanted = set(things.values())
        others = set(self._targets.named(order.issued)[0].values()) - wanted
        try:
            found = self._executions(order)
        except Said:
            return
        ended = {t for t, execution in found.items() if execution.status not in _OPEN}
        others |= found.keys() - wanted
        if others <= ended and self._cancel_all(order):
            return
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda thing: self._cancel_one(order, thing), sorted(wanted - ended)))

    def tidy(self, order: Order) -> bool:
        """Remove job and group; False while AWS says that the job is not over."""
        arn = self._targets.job_arn(order.id)
        self._forget(order)
        try:
            expected = {_ABSENT, "InvalidStateTransitionException"}
            self._api.call("DeleteJob", arn, expects=expected, jobId=order.id)
        except Said as e:
            if e.code != _ABSENT:
                self._cancel_all(order)
                return False
        return True

    def _cancel_all(self, order: Order) -> bool:
        """Cancel all that is open; False when the job is over, or is not there."""
        arn = self._targets.job_arn(order.id)
        words = {"jobId": order.id, "force": True, "reasonCode": _REASON}
        try:
            expected = {_ABSENT, "InvalidRequestException"}
            self._api.call("CancelJob", arn, expects=expected, **words)
        except Said:
            return False
        return True

    def _cancel_one(self, order: Order, thing: str) -> None:
        arn = f"{self._targets.job_arn(order.id)} and {self._targets.thing_arn(thing)}"
        words = {"jobId": order.id, "thingName": thing, "force": True}
        over = {
            _ABSENT,
            "InvalidStateTransitionException",
            "InvalidRequestException",
            "VersionConflictException",
        }
        try:
            self._api.call("CancelJobExecution", arn, expects=over, **words)
        except Said:
            return

    def _forget(self, order: Order) -> None:
        """Remove the group, where there can be one."""
        if len(order.issued or order.devices) > DIRECT:
            self._targets.remove_group(order)

    def _executions(self, order: Order) -> dict[str, Execution]:
        """Thing -> the newest of its executions; ``Said`` when there is no job.

        No more is read than the order can have: somebody may have made another job under its id.
        """
        arn = self._targets.job_arn(order.id)
        words: dict[str, Any] = {"jobId": order.id, "maxResults": _PAGE}
        newest: dict[str, tuple[int, Execution]] = {}
        for _ in range(2 + len(order.issued or order.devices) * _TRIES // _PAGE):
            page = self._api.call("ListJobExecutionsForJob", arn, expects={_ABSENT}, **words)
            for item in page.get("executionSummaries", []):
                thing = str(item.get("thingArn", "")).rpartition("/")[2]
                summary = item.get("jobExecutionSummary", {})
                number = int(summary.get("executionNumber", 1))
                if thing not in newest or number > newest[thing][0]:
                    newest[thing] = (number, _execution(summary))
            if not page.get("nextToken"):
                break
            words["nextToken"] = page["nextToken"]
        return {thing: execution for thing, (_, execution) in newest.items()}


def _execution(summary: Mapping[str, Any]) -> Execution:
    since = _moment(summary.get("lastUpdatedAt"))
    return Execution(shown(summary.get("status", "nothing"), 20), since)


def _moment(at: object) -> datetime:
    """A time that AWS told; long ago where it told none."""
    return at if isinstance(at, datetime) else _UNKNOWN


def _deleted(order: Order) -> str:
    return (
        f"job {order.id} is gone: deleted by hand? Its devices find their assignments by "
        "themselves at their next look; ota rollout pause, then resume, sends new hints"
    )


def _cancelled(job: Mapping[str, Any]) -> str:
    """Whether somebody else ended the job while devices are still waited for."""
    if job.get("status") != "CANCELED" or job.get("reasonCode") == _REASON:
        return ""
    why = shown(job.get("comment", ""), 80)
    return f"its job was cancelled by somebody else{': ' + why if why else ''}"
