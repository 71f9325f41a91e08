"""Settings -> couriers. Each is imported only where it is used."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from ota.errors import NotFound
from ota.ports import Clock, Courier
from ota.settings.couriers import IotJobsSettings, SsmSettings
from ota.settings.settings import Settings

if TYPE_CHECKING:
    from ota.aws.api import Api
    from ota.couriers.iot_jobs import IotJobs
    from ota.couriers.ssm import Ssm
    from ota.fleet.registry import Registry

Opened = Callable[[], "Registry"]
"""The registry, opened when it is first asked for."""


def couriers(settings: Settings, registry: Opened, clock: Clock) -> dict[str, Courier]:
    """The couriers that a workspace uses, by name."""
    found: dict[str, Courier] = {}
    if settings.spool:
        from ota.couriers.spool import Spool  # noqa: PLC0415 - only where it is used

        found["spool"] = Spool(settings.spool)
    if settings.iot_jobs:
        found["iot-jobs"] = _iot_jobs(settings, settings.iot_jobs, registry, clock)
    if settings.ssm:
        found["ssm"] = ssm(settings, settings.ssm, registry, clock)
    return found


def ssm(settings: Settings, told: SsmSettings, registry: Opened, clock: Clock) -> Ssm:
    """The courier ``ssm``; its nodes are what a label of each device says."""
    from ota.couriers.ssm import Options, Ssm  # noqa: PLC0415 - boto3 is slow to import

    words = msgspec.structs.asdict(told)
    options = Options(**{f.name: words[f.name] for f in dataclasses.fields(Options)})
    nodes = _labelled(registry, told.node_label)
    return Ssm(ssm_api(settings, told), nodes, settings.state / "ssm", clock, options)


def ssm_api(settings: Settings, told: SsmSettings) -> Api:
    """Systems Manager, as the role ``rollout`` may use it."""
    from ota.aws.api import Api  # noqa: PLC0415 - boto3 is slow to import
    from ota.couriers import ssm_calls  # noqa: PLC0415 - the same

    return Api(ssm_calls.CALLS, ssm_calls.ROLE, region=settings.aws.region, rates=told.rates)


def _iot_jobs(settings: Settings, told: IotJobsSettings, registry: Opened, clock: Clock) -> IotJobs:
    from ota.couriers.iot_documents import Options  # noqa: PLC0415 - only where it is used
    from ota.couriers.iot_jobs import IotJobs  # noqa: PLC0415 - the same

    words = msgspec.structs.asdict(told)
    words |= {"region": settings.aws.region}
    options = Options(**{f.name: words[f.name] for f in dataclasses.fields(Options)})
    naming = _labelled(registry, told.thing_label) if told.thing_label else None
    return IotJobs(options, settings.path(told.quarantine), naming, clock=clock)


def _labelled(registry: Opened, label: str) -> Callable[[Sequence[str]], dict[str, str]]:
    """Devices -> this label of theirs; nothing for a device that is not registered."""

    def values(devices: Sequence[str]) -> dict[str, str]:
        found = {}
        for device in devices:
            with contextlib.suppress(NotFound):
                found[device] = registry().device(device).labels.get(label, "")
        return found

    return values
