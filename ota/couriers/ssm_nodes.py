"""Which managed node is which device's, and which of them Systems Manager hears.

AWS refuses a whole call for one wrong id in it. So what a label says is held to the form of an id and
to one device, and a node that is not heard is left out before anything is sent.

>>> named(["press-07", "press-08"], {"press-07": "mi-0123456789abcdef0"})
({'press-07': 'mi-0123456789abcdef0'}, {'press-08': Outage('press-08 has no managed node')})
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from ota.aws.api import Api
from ota.aws.errors import shown
from ota.errors import OtaError, Outage

_NODE: Final = re.compile(r"i-(\w{8}|\w{17})|mi-\w{17}", re.ASCII)
"""Ids of managed nodes (Systems Manager API reference, InstanceIds)."""
_PAGE: Final = 50


def named(
    devices: Sequence[str], known: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, OtaError]]:
    """Device -> node; and who has none, or another's: AWS refuses a whole call for one wrong id."""
    nodes: dict[str, str] = {}
    missed: dict[str, OtaError] = {}
    taken: dict[str, str] = {}
    for device in devices:
        node = known.get(device, "")
        if node and node in taken:
            why = f"{node} is also the node of {taken[node]}"
        elif not _NODE.fullmatch(node):
            why = f"{device} has no managed node{f': {node!r:.60} is none' if node else ''}"
        else:
            nodes[device], taken[node] = node, device
            continue
        remedy = f"ota fleet sync ssm, or: ota fleet label {device} ssm-node=mi-..."
        missed[device] = Outage(why, code="ssm-no-node", subject=device, remedy=remedy)
    return nodes, missed


def not_heard(node: str, device: str, why: str) -> Outage:
    """A node that can not be sent to now."""
    return Outage(
        f"{node} is {shown(why, 60)}",
        code="ssm-offline",
        subject=device,
        remedy="look at the machine: is amazon-ssm-agent running, can it reach AWS?",
    )


def offline(api: Api, batch: Mapping[str, str]) -> dict[str, OtaError]:
    """Of these nodes (node -> device), those that Systems Manager does not know, or does not hear."""
    rows = api.get(
        "InstanceInformationList",
        "DescribeInstanceInformation",
        "*",
        Filters=[{"Key": "InstanceIds", "Values": list(batch)}],
        MaxResults=_PAGE,
    )
    status = {str(row.get("InstanceId")): str(row.get("PingStatus", "")) for row in rows}
    return {
        node: not_heard(node, device, status.get(node, "") or "not managed in this region")
        for node, device in batch.items()
        if status.get(node) != "Online"
    }
