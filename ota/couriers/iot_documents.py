"""What an order looks like as a job of AWS IoT, and whether a job is that order. Pure.

The document is a hint (``ota/agent/hints.py``, schema 2): which order, of which rollout, nothing
else, no secret, no URL. The job paces its own start, gives each execution the wave's deadline once
it is in progress, and tries again only what has timed out there: a device that refuses or fails
says so in a signed report, and the engine decides. AWS's own abort is off, because the statuses
that it counts are signed by nobody.

>>> document(order)
'{"order":"ota-app-2-x7k2p9-u1-w0-b0","rollout":"app-2-x7k2p9","schema":2}'
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ota.errors import Malformed
from ota.ports import Order
from ota.ports_aws import ESCAPES
from signing import strict

MOST_MINUTES: Final = 10_080
"""Seven days: the longest that AWS lets an execution be in progress."""
_LIMIT: Final = 32_768
_LONGEST_VERSION: Final = 64


@dataclass(frozen=True)
class Options:
    """What ``[couriers.iot-jobs]`` of ``ota.toml`` says; see the README's reference."""

    queue: str
    refused: str = ""
    region: str = ""
    account: str = ""
    group_prefix: str = "ota-"
    order_size: int = 100
    per_minute: int = 1000
    retries: int = 1
    wait: int = 2
    packages: bool = False
    unsafe_abort_percent: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)


def document(order: Order) -> str:
    """The hint that every device of the order gets."""
    hint = {"schema": 2, "order": order.id, "rollout": order.rollout}
    return json.dumps(hint, sort_keys=True, separators=(",", ":"))


def request(
    order: Order, targets: Sequence[str], options: Options, packages: Sequence[str] = ()
) -> dict[str, Any]:
    """The words of ``CreateJob``; ``targets`` and ``packages`` are ARNs."""
    words: dict[str, Any] = {
        "jobId": order.id,
        "targets": list(targets),
        "document": document(order),
        "description": f"rollout {order.rollout}",
        "targetSelection": "SNAPSHOT",
        "jobExecutionsRolloutConfig": {"maximumPerMinute": options.per_minute},
        "timeoutConfig": {"inProgressTimeoutInMinutes": _minutes(order.deadline)},
    }
    if options.retries:
        again = {"failureType": "TIMED_OUT", "numberOfRetries": options.retries}
        words["jobExecutionsRetryConfig"] = {"criteriaList": [again]}
    if options.unsafe_abort_percent:
        words["abortConfig"] = {"criteriaList": [_abort(options.unsafe_abort_percent)]}
    if packages:
        words["destinationPackageVersions"] = list(packages)
    return words


def differences(
    order: Order, found: str, targets: Collection[str], allowed: Collection[str]
) -> list[str]:
    """Why a job that exists under the order's id is not this order; empty when it is.

    ``allowed`` are the ARNs of all devices that the order was ever recorded for, and its group: a
    job may have fewer targets (things that were not there when it was made), never others.
    """
    reasons = []
    try:
        data = found.encode("utf-8", "replace")
        same = strict.loads(data, limit=_LIMIT, what="job") == json.loads(document(order))
    except Malformed:
        same = False
    if not same:
        reasons.append("its document is another")
    if foreign := sorted(set(targets).difference(allowed)):
        reasons.append(f"it has {len(foreign)} other targets, such as {foreign[0]:.200}")
    return reasons


def package_version(version: str) -> str:
    """A version's name in the catalogue: ``[a-zA-Z0-9-_.]``, at most 64; never the same for two.

    ``_`` escapes: ``__`` is itself, ``_p`` ``+``, ``_t`` ``~``, ``_c`` ``:``. What grows too long
    is cut and ends in ``_h`` and 16 hex digits of its SHA-256.

    >>> package_version("2.0.0+build~7")
    '2.0.0_pbuild_t7'
    """
    mapped = "".join(ESCAPES.get(c, c) for c in version)
    if len(mapped) <= _LONGEST_VERSION:
        return mapped
    return f"{mapped[: _LONGEST_VERSION - 18]}_h{hashlib.sha256(version.encode()).hexdigest()[:16]}"


def _minutes(deadline: int) -> int:
    """The wave's deadline in whole minutes, within what AWS takes; the most where there is none."""
    return min(-(-deadline // 60), MOST_MINUTES) if deadline > 0 else MOST_MINUTES


def _abort(percent: int) -> dict[str, Any]:
    return {
        "failureType": "ALL",
        "action": "CANCEL",
        "thresholdPercentage": float(percent),
        "minNumberOfExecutedThings": 10,
    }
