"""The tables ``[couriers.*]`` of ``ota.toml``: their keys, defaults and limits."""

from __future__ import annotations

from typing import Annotated

import msgspec


class SpoolSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[couriers.spool]``."""

    path: str = "spool"


class SshSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[couriers.ssh]``."""

    inventory: str = "ssh.toml"


class IotJobsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[couriers.iot-jobs]``; see the README's reference."""

    queue: Annotated[str, msgspec.Meta(pattern="^https?://[!-~]+$")]
    refused: Annotated[str, msgspec.Meta(pattern="^(https?://[!-~]+)?$")] = ""
    account: Annotated[str, msgspec.Meta(pattern="^([0-9]{12})?$")] = ""
    thing_label: str = ""
    group_prefix: Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9:_-]{1,60}$")] = "ota-"
    per_minute: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 1
    wait: Annotated[int, msgspec.Meta(ge=0, le=20)] = 2
    quarantine: Annotated[str, msgspec.Meta(min_length=1)] = "state/quarantine/iot-jobs"
    packages: bool = False
    unsafe_abort_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    rates: dict[str, Annotated[float, msgspec.Meta(gt=0, le=10_000)]] = {}


class Couriers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[couriers]``: a table for each courier that is used."""

    spool: SpoolSettings | None = None
    ssh: SshSettings | None = None
    iot_jobs: IotJobsSettings | None = msgspec.field(default=None, name="iot-jobs")
