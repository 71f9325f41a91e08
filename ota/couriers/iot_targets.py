"""Devices as targets of a job: named one by one, or through a static group of things.

``CreateJob`` takes 100 targets. More devices than that are put into a group first, one call for
each, in parallel and paced; the first 99 are named beside the group and cost no call. A group is
named after its order and lives as long as it: a thing can be in few groups at once.

Going on after a crash anywhere: a group that is there already is listed, and only who is missing is
put in. A device that has no thing (never registered in this account and region, deleted, or made
anew under another name) is unreachable, with the reason; nothing else is lost by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from ota.aws.api import Api, Said
from ota.errors import NotFound, Outage
from ota.ports import Order
from signing import strict

DIRECT: Final = 100
"""Targets of one ``CreateJob``."""
_ABSENT: Final = "ResourceNotFoundException"
_PAGE: Final = 250
_THREADS: Final = 8

Naming = Callable[[Sequence[str]], Mapping[str, str]]
"""Devices -> the names of their things; "" or nothing for one that has none."""


@dataclass
class Chosen:
    """ARNs for ``CreateJob``, the devices behind them, and who has no thing.

    ``things`` is device -> thing name, of those that are reached.
    """

    targets: list[str]
    things: dict[str, str]
    unreachable: dict[str, str] = field(default_factory=dict)


class Targets:
    """Finds and prepares the targets of orders."""

    def __init__(self, api: Api, account: str, group_prefix: str, naming: Naming) -> None:
        self._api = api
        self._given = account
        self._prefix = group_prefix
        self._naming = naming
        self._base = ""

    # -- names -----------------------------------------------------------------------------------
    @property
    def base(self) -> str:
        """``arn:aws:iot:REGION:ACCOUNT``, for this partition."""
        if not self._base:
            partition = self._api.client("iot").meta.partition
            account = self._given or self._account()
            self._base = f"arn:{partition}:iot:{self._api.region('iot')}:{account}"
        return self._base

    def _account(self) -> str:
        return str(self._api.get("Account", "GetCallerIdentity", ""))

    def thing_arn(self, thing: str) -> str:
        """The ARN of a thing."""
        return f"{self.base}:thing/{thing}"

    def job_arn(self, job: str) -> str:
        """The ARN of a job."""
        return f"{self.base}:job/{job}"

    def group_name(self, order: Order) -> str:
        """The name of an order's group."""
        return f"{self._prefix}{order.id}"

    def group_arn(self, order: Order) -> str:
        """The ARN of an order's group."""
        return f"{self.base}:thinggroup/{self.group_name(order)}"

    def named(self, devices: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
        """(device -> thing, device -> why it has none)."""
        known = self._naming(devices)
        things: dict[str, str] = {}
        none: dict[str, str] = {}
        taken: dict[str, str] = {}
        for device in devices:
            thing = known.get(device, "")
            if not strict.IDENTIFIER.fullmatch(thing):
                none[device] = f"iot-jobs: it has no thing name ({thing!r:.60})"
            elif thing in taken:
                none[device] = f"iot-jobs: thing {thing} is also that of {taken[thing]}"
            else:
                things[device], taken[thing] = thing, device
        return things, none

    # -- choosing --------------------------------------------------------------------------------
    def choose(self, order: Order) -> Chosen:
        """Targets for the order's devices; fills the group where there are too many to name."""
        things, none = self.named(order.devices)
        if len(things) <= DIRECT:
            return Chosen([self.thing_arn(t) for t in things.values()], things, none)
        names = list(things.values())
        direct, rest = names[: DIRECT - 1], names[DIRECT - 1 :]
        missing = self._fill(order, rest)
        chosen = Chosen([*map(self.thing_arn, direct), self.group_arn(order)], things, none)
        return self.without(chosen, missing)

    def missing(self, chosen: Chosen) -> set[str]:
        """Which of the things that are named do not exist, one call for each."""
        named = set(chosen.targets)
        things = [t for t in chosen.things.values() if self.thing_arn(t) in named]
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(self._exists, things))
        return {thing for thing, there in zip(things, found, strict=True) if not there}

    def without(self, chosen: Chosen, missing: set[str]) -> Chosen:
        """The same, without things that do not exist.

        ``NotFound`` when that is all of several: then it is not they that are wrong.
        """
        if not missing:
            return chosen
        region = self._api.region("iot")
        if len(missing) > 1 and missing.issuperset(chosen.things.values()):
            one = min(missing)
            raise NotFound(
                f"none of {len(missing)} things, such as {one}, exists in {self.base}",
                code="iot-things",
                subject=self.base,
                remedy=f"wrong region or account? aws iot describe-thing --thing-name {one}",
            )
        gone = {d: t for d, t in chosen.things.items() if t in missing}
        reasons = {
            d: f"iot-jobs: there is no thing {t} in {region}: deleted, or renamed?"
            for d, t in gone.items()
        }
        arns = {self.thing_arn(t) for t in missing}
        return Chosen(
            [arn for arn in chosen.targets if arn not in arns],
            {d: t for d, t in chosen.things.items() if d not in gone},
            chosen.unreachable | reasons,
        )

    # -- groups ----------------------------------------------------------------------------------
    def members(self, order: Order) -> set[str]:
        """Names of the things in an order's group; none where there is no group."""
        return set(self._members(order))

    def remove_group(self, order: Order) -> None:
        """Remove an order's group; nothing where there is none."""
        words = {"thingGroupName": self.group_name(order)}
        self._api.call("DeleteThingGroup", self.group_arn(order), **words)

    def _fill(self, order: Order, things: Sequence[str]) -> set[str]:
        """Put things into the order's group; returns those that do not exist."""
        name, arn = self.group_name(order), self.group_arn(order)
        try:
            self._api.call("DescribeThingGroup", arn, expects={_ABSENT}, thingGroupName=name)
            there = self.members(order)
        except Said:
            self._api.call("CreateThingGroup", arn, thingGroupName=name)
            there = set()
        waiting = [t for t in things if t not in there]
        with ThreadPoolExecutor(_THREADS) as pool:
            jobs = [pool.submit(self._add, order, thing) for thing in waiting]
            try:
                return {t for t, job in zip(waiting, jobs, strict=True) if not job.result()}
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _add(self, order: Order, thing: str) -> bool:
        """Put one in; False when there is no such thing."""
        arn = self.group_arn(order)
        try:
            self._api.call(
                "AddThingToThingGroup",
                arn,
                expects={_ABSENT},
                thingGroupName=self.group_name(order),
                thingName=thing,
            )
        except Said as e:
            if not self._exists(thing):
                return False
            # It was the group that was not there yet, or not any more.
            raise Outage(
                f"{self.group_name(order)}: the group is not there yet",
                code="aws-lag",
                subject=arn,
                remedy="it is tried again",
            ) from e
        return True

    def _exists(self, thing: str) -> bool:
        arn = self.thing_arn(thing)
        try:
            self._api.call("DescribeThing", arn, expects={_ABSENT}, thingName=thing)
        except Said:
            return False
        return True

    def _members(self, order: Order) -> Iterator[str]:
        words: dict[str, object] = {
            "thingGroupName": self.group_name(order),
            "maxResults": _PAGE,
        }
        for _ in range(2 + len(order.issued or order.devices) // _PAGE):  # it has no others
            try:
                arn = self.group_arn(order)
                page = self._api.call("ListThingsInThingGroup", arn, expects={_ABSENT}, **words)
            except Said:
                return
            yield from page.get("things", [])
            if not page.get("nextToken"):
                return
            words["nextToken"] = page["nextToken"]
