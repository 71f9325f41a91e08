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
    order_size: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 100
    per_minute: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 1
    wait: Annotated[int, msgspec.Meta(ge=0, le=20)] = 2
    quarantine: Annotated[str, msgspec.Meta(min_length=1)] = "state/quarantine/iot-jobs"
    packages: bool = False
    unsafe_abort_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    rates: dict[str, Annotated[float, msgspec.Meta(gt=0, le=10_000)]] = {}


class SsmSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[couriers.ssm]``; see ``ota/couriers/ssm.py`` for what each does."""

    prefix: Annotated[str, msgspec.Meta(pattern=r"\A[a-zA-Z0-9_.-]{1,60}\Z")] = "ota"
    node_label: Annotated[str, msgspec.Meta(min_length=1)] = "ssm-node"
    max_concurrency: Annotated[str, msgspec.Meta(pattern=r"\A[1-9][0-9]{0,6}%?\Z")] = "100%"
    max_errors: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,7}%?\Z")] = "100%"
    delivery: Annotated[int, msgspec.Meta(ge=30, le=2_592_000)] = 600
    patience: Annotated[float, msgspec.Meta(ge=0, le=60)] = 5.0
    wait: Annotated[int, msgspec.Meta(ge=0, le=60)] = 20
    visit: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 10.0
    visit_max: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 300.0
    config: Annotated[str, msgspec.Meta(pattern=r"\A(/[A-Za-z0-9._/-]{1,200})?\Z")] = ""
    look: bool = True
    calendars: tuple[str, ...] = ()
    rates: dict[str, Annotated[float, msgspec.Meta(gt=0, le=10_000)]] = {}


class Couriers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[couriers]``: a table for each courier that is used."""

    spool: SpoolSettings | None = None
    ssh: SshSettings | None = None
    ssm: SsmSettings | None = None
    iot_jobs: IotJobsSettings | None = msgspec.field(default=None, name="iot-jobs")
