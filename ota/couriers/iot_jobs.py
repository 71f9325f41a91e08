"""The courier ``iot-jobs``: an order becomes one job of AWS IoT; reports come through a queue.

Out: ``CreateJob`` with the order's id as job id, a hint as document, and things as targets, or a
group of them (``iot_targets``). In: signed reports from SQS (``sqs_reports``). Beside that AWS keeps books,
which are looked up and closed but never believed (``iot_books``).

Dispatching is idempotent, whatever died in the middle:

1. Things are found, a group is filled where there are more than 100 of them.
2. ``CreateJob``. AWS takes a job id once.
3. The id is taken: by this very order, then it is done; by a job with another document or
   foreign targets, then somebody else made it, and that is an error of its own
   (``Refusal("job-differs")``).
4. A target is missing: it is found out which, and the others go.

Nobody who can read or write jobs gains anything by it: a document says "look now", what a device
installs stands in its director metadata, and what it reports is signed with its own key.

>>> IotJobs(Options(queue="https://sqs.eu-west-1.amazonaws.com/1/ota-reports"), folder).dispatch(order)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ota.aws.api import Api, Said
from ota.couriers import iot_documents as documents
from ota.couriers.aside import Aside
from ota.couriers.iot_books import Books
from ota.couriers.iot_calls import CALLS, ROLE
from ota.couriers.iot_documents import Options
from ota.couriers.iot_packages import Packages
from ota.couriers.iot_targets import Chosen, Naming, Targets
from ota.couriers.orders import checked
from ota.couriers.sqs_reports import RefusedQueue, ReportQueue
from ota.errors import Misuse, Outage, Refusal
from ota.ports import Clock, Delivery, Followed, Order

_TAKEN: Final = "ResourceAlreadyExistsException"
_ABSENT: Final = "ResourceNotFoundException"
_ROUNDS: Final = 3
_QUEUE: Final = re.compile(r"https://sqs\.([a-z0-9-]+)\.(amazonaws\.com|api\.aws)(\.cn)?/.*")


class IotJobs:
    """Implements ``ports.Courier``, ``Follower`` and ``Sized`` over AWS IoT Jobs and SQS."""

    def __init__(
        self,
        options: Options,
        quarantine: Path,
        naming: Naming | None = None,
        *,
        clock: Clock | None = None,
        api: Api | None = None,
    ) -> None:
        self._options = options
        self.order_size = options.order_size
        self._api = api or Api(CALLS, ROLE, region=options.region, rates=options.rates)
        self._targets = Targets(
            self._api, options.account, options.group_prefix, naming or _same_name
        )
        self._books = Books(self._api, self._targets, clock or _now)
        self._packages = Packages(self._api, self._targets)
        refused = options.refused
        keeper = RefusedQueue(self._api, refused) if refused else Aside(quarantine)
        self._queue = ReportQueue(self._api, options.queue, keeper, options.wait)
        self._checked = False

    # -- out -------------------------------------------------------------------------------------
    def dispatch(self, order: Order) -> Mapping[str, str]:
        """Make the order's job; returns device -> reason for those without a thing.

        Raises ``Refusal("job-differs")``, ``NotFound("iot-things")`` when no thing exists at all,
        and what :mod:`ota.aws.errors` lists.
        """
        checked(order)
        chosen = self._targets.choose(order)
        for _ in range(_ROUNDS):
            if not chosen.things:
                return chosen.unreachable
            try:
                self._create(order, chosen)  # (2)
            except Said as e:
                if e.code == _TAKEN:
                    return self._existing(order, chosen)  # (3)
                missing = self._targets.missing(chosen)  # (4)
                if not missing:
                    break
                chosen = self._targets.without(chosen, missing)
                continue
            return chosen.unreachable
        raise Outage(
            f"{order.id}: AWS misses a target that is there",
            code="aws-lag",
            subject=order.id,
            remedy="it is tried again",
        )

    def cancel(self, order: Order) -> None:
        """End the executions of these devices, those in progress too; idempotent."""
        checked(order)
        self._books.cancel(order)

    def _create(self, order: Order, chosen: Chosen) -> None:
        packages = self._packages.destination(order) if self._options.packages else []
        words = documents.request(order, chosen.targets, self._options, packages)
        arn = self._targets.job_arn(order.id)
        self._api.get("jobId", "CreateJob", arn, expects={_TAKEN, _ABSENT}, **words)

    def _existing(self, order: Order, chosen: Chosen) -> Mapping[str, str]:
        """The job is there already; who of the order's devices it does not reach."""
        job = self._books.job(order)
        if job is None:
            raise Outage(
                f"{order.id}: AWS has such a job, and has none: it is being deleted",
                code="aws-lag",
                subject=order.id,
                remedy="it is tried again",
            )
        targets = set(job.get("targets", []))
        group = self._targets.group_arn(order)
        issued, _ = self._targets.named(order.issued or order.devices)
        allowed = {group, *map(self._targets.thing_arn, issued.values())}
        wrong = documents.differences(order, self._books.document(order), targets, allowed)
        if wrong:
            raise Refusal(
                "job-differs",
                f"job {order.id} is not our order: {'; '.join(wrong)}",
                subject=order.id,
            )
        members = self._targets.members(order) if group in targets else set()
        left = {
            device: f"iot-jobs: there was no thing {thing} when the job was made"
            for device, thing in chosen.things.items()
            if self._targets.thing_arn(thing) not in targets and thing not in members
        }
        return {**chosen.unreachable, **left}

    # -- in --------------------------------------------------------------------------------------
    def collect(self, limit: int) -> Sequence[Delivery]:
        """Reports from the queue; see ``sqs_reports``."""
        self._check_queue()
        return self._queue.collect(limit)

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Delete what is stored here."""
        self._queue.acknowledge(deliveries)

    def quarantine(self, delivery: Delivery, reason: str) -> None:
        """Keep it in the quarantine folder, or in the queue of what was refused."""
        self._queue.quarantine(delivery, reason)

    # -- books -----------------------------------------------------------------------------------
    def follow(self, order: Order, waiting: Sequence[str], *, close: bool) -> Followed:
        """What AWS's books say of the order; see ``iot_books``."""
        checked(order)
        return self._books.follow(order, waiting, close=close)

    def tidy(self, order: Order) -> bool:
        """Remove the order's job and group."""
        checked(order)
        return self._books.tidy(order)

    def _check_queue(self) -> None:
        """A queue's URL says its region; another one than the client's can not work."""
        if self._checked:
            return
        region = self._api.region("sqs")
        for url in (self._options.queue, self._options.refused):
            named = _QUEUE.fullmatch(url)
            if named and named[1] != region:
                raise Misuse(
                    f"queue {url} is in {named[1]}, but the region is {region}",
                    code="aws-region",
                    subject=url,
                    remedy="set region under [aws] in ota.toml, or AWS_DEFAULT_REGION",
                )
        self._checked = True


def _now() -> datetime:
    return datetime.now(UTC)


def _same_name(devices: Sequence[str]) -> Mapping[str, str]:
    return {device: device for device in devices}
