"""Every AWS operation of the courier ``iot-jobs``: its permission, its pace, and what it is for.

The README's table of permissions is written from this one. The rates are calls a second and lie
below AWS's default quotas; ``[couriers.iot-jobs.rates]`` of ``ota.toml`` sets others.
"""

from __future__ import annotations

from typing import Final

from ota.aws.api import Row

ROLE: Final = "rollout"
"""Whose policy must allow all of it."""

_JOBS: Final = 8.0
_REGISTRY: Final = 40.0
_QUEUE: Final = 100.0

CALLS: Final[dict[str, Row]] = {
    "CreateJob": Row(
        "iot",
        "create_job",
        _JOBS,
        "job/ota-*, thing/*, thinggroup/GROUP*, package/COMPONENT/version/*",
        "one for each order; the things are its targets; packages only with `packages = true`",
    ),
    "DescribeJob": Row(
        "iot", "describe_job", _JOBS, "job/ota-*", "counters of an order, looked up seldom"
    ),
    "GetJobDocument": Row("iot", "get_job_document", _JOBS, "job/ota-*", "compare, after a crash"),
    "ListJobExecutionsForJob": Row(
        "iot",
        "list_job_executions_for_job",
        _JOBS,
        "job/ota-*",
        "find what was lost, 250 things a call",
    ),
    "CancelJob": Row("iot", "cancel_job", _JOBS, "job/ota-*", "withdraw or close an order"),
    "CancelJobExecution": Row(
        "iot",
        "cancel_job_execution",
        _JOBS,
        "job/ota-*, thing/*",
        "withdraw some things of an order",
    ),
    "DeleteJob": Row("iot", "delete_job", _JOBS, "job/ota-*", "`ota rollout tidy`"),
    "DescribeThing": Row(
        "iot", "describe_thing", _REGISTRY, "thing/*", "find which thing is missing"
    ),
    "DescribeThingGroup": Row(
        "iot",
        "describe_thing_group",
        _REGISTRY,
        "thinggroup/GROUP*",
        "orders of more than 100 devices: is it there already",
    ),
    "CreateThingGroup": Row(
        "iot", "create_thing_group", _REGISTRY, "thinggroup/GROUP*", "the same: make it"
    ),
    "AddThingToThingGroup": Row(
        "iot",
        "add_thing_to_thing_group",
        _REGISTRY,
        "thinggroup/GROUP*, thing/*",
        "the same: fill it, one call a device",
    ),
    "ListThingsInThingGroup": Row(
        "iot",
        "list_things_in_thing_group",
        _REGISTRY,
        "thinggroup/GROUP*",
        "the same: go on filling after a crash",
    ),
    "DeleteThingGroup": Row(
        "iot", "delete_thing_group", _REGISTRY, "thinggroup/GROUP*", "the same: when it is over"
    ),
    "CreatePackage": Row(
        "iot",
        "create_package",
        _JOBS,
        "package/COMPONENT",
        "only with `packages = true`; AWS asks for iot:GetIndexingConfiguration too",
    ),
    "CreatePackageVersion": Row(
        "iot",
        "create_package_version",
        _JOBS,
        "package/COMPONENT, package/COMPONENT/version/*",
        "the same",
    ),
    "UpdatePackageVersion": Row(
        "iot",
        "update_package_version",
        _JOBS,
        "package/COMPONENT, package/COMPONENT/version/*",
        "the same: publish it",
    ),
    "ReceiveMessage": Row(
        "sqs", "receive_message", _QUEUE, "the report queue", "reports, up to ten a call"
    ),
    "DeleteMessageBatch": Row(
        "sqs",
        "delete_message_batch",
        _QUEUE,
        "the report queue",
        "reports that are stored, ten a call",
        "sqs:DeleteMessage",
    ),
    "SendMessage": Row(
        "sqs",
        "send_message",
        _QUEUE,
        "the queue of what was refused",
        "only with `refused`: keep what was no honest report",
    ),
    "GetCallerIdentity": Row(
        "sts",
        "get_caller_identity",
        _JOBS,
        "",
        "the account's number, where `account` is not set; needs no permission",
    ),
}
