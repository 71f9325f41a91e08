"""What people do with Systems Manager by hand: nodes, standing associations, compliance, activation.

* ``nodes``: which managed node is which device. The name that a node was activated with is the
  device's id; it is a courier's word, so a wrong one only misleads a hint.
* ``associate``: State Manager runs the hint document on every tagged node at an interval, so that
  a device whose agent is not running looks by itself and stays at what its director assigns; a
  second association gathers Systems Manager's own inventory.
* ``comply``: what devices *signed* about their components, shown in Systems Manager's compliance as
  ``Custom:OTA``. For people to see; nothing here reads it back.
* ``activate``: a hybrid activation for one machine that is not an EC2 instance.

>>> tools.nodes()
{'press-07': 'mi-0123456789abcdef0'}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from ota.aws.api import Api, Said
from ota.couriers.ssm_document import Pinned
from ota.errors import Malformed, Outage
from signing import strict

TYPE: Final = "Custom:OTA"
INVENTORY: Final = "AWS-GatherSoftwareInventory"
_PAGE: Final = 50
_MOST: Final = 20_000
"""Nodes of one region that are looked at."""
_ITEMS: Final = 1000
"""Compliance items of one node: components of one device."""


@dataclass(frozen=True)
class Standing:
    """One component of one device: ``fits`` when it runs what its director assigns."""

    component: str
    version: str
    fits: bool
    why: str = ""


@dataclass(frozen=True)
class Activation:
    """``code`` is a secret: whoever has it may join one machine under this name."""

    id: str
    code: str
    expires: datetime


class Tools:
    """``document`` is asked for when it is needed; ``prefix`` also names the nodes' tag and role."""

    def __init__(self, api: Api, document: Callable[[], Pinned], prefix: str) -> None:
        self._api, self._document, self._prefix = api, document, prefix

    def nodes(self) -> dict[str, str]:
        """Device id -> node, of nodes whose name can be a device's id; the newest of two wins."""
        found: dict[str, str] = {}
        token: dict[str, str] = {}
        for _ in range(_MOST // _PAGE):
            page = self._api.call("DescribeInstanceInformation", "*", MaxResults=_PAGE, **token)
            for row in page.get("InstanceInformationList", []):
                name, node = str(row.get("Name") or ""), str(row.get("InstanceId") or "")
                if strict.IDENTIFIER.fullmatch(name) and node:
                    found[name] = node
            if not page.get("NextToken"):
                return found
            token = {"NextToken": page["NextToken"]}
        raise Outage(f"more than {_MOST} nodes", code="aws-limit", subject="nodes")

    def associate(self, minutes: int, calendars: Iterable[str]) -> dict[str, str]:
        """Association -> ``made`` or ``there``; ``Malformed`` for an interval AWS does not take."""
        if not 30 <= minutes <= 31 * 24 * 60:
            raise Malformed("--minutes: State Manager takes 30 or more", subject="--minutes")
        document = self._document()
        look = {"Look": ["yes"]}
        return {
            name: self._association(name, words, minutes, tuple(calendars))
            for name, words in (
                (f"{self._prefix}-look", (document.name, document.version, look)),
                (f"{self._prefix}-inventory", (INVENTORY, "$DEFAULT", {})),
            )
        }

    def _association(
        self,
        name: str,
        what: tuple[str, str, Mapping[str, list[str]]],
        minutes: int,
        calendars: tuple[str, ...],
    ) -> str:
        document, version, parameters = what
        listed = self._api.call(
            "ListAssociations",
            "*",
            AssociationFilterList=[{"key": "AssociationName", "value": name}],
        )
        if listed.get("Associations"):
            return "there"
        try:
            self._api.call(
                "CreateAssociation",
                f"document/{document}",
                expects=("AssociationAlreadyExists",),
                Name=document,
                DocumentVersion=version,
                AssociationName=name,
                Parameters=dict(parameters),
                Targets=[{"Key": f"tag:{self._prefix}", "Values": ["managed"]}],
                ScheduleExpression=f"rate({minutes} minutes)",
                ApplyOnlyAtCronInterval=True,
                MaxConcurrency="10%",
                MaxErrors="100%",
                ComplianceSeverity="UNSPECIFIED",
                **({"CalendarNames": list(calendars)} if calendars else {}),
            )
        except Said:
            return "there"
        return "made"

    def comply(self, node: str, standings: Iterable[Standing], now: datetime) -> int:
        """Show one device's components; returns how many."""
        items = [_item(standing) for standing in standings][:_ITEMS]
        self._api.call(
            "PutComplianceItems",
            f"managed-instance/{node}",
            ResourceId=node,
            ResourceType="ManagedInstance",
            ComplianceType=TYPE,
            ExecutionSummary={"ExecutionTime": now},
            Items=items,
            UploadType="COMPLETE",
        )
        return len(items)


def _item(standing: Standing) -> dict[str, Any]:
    return {
        "Id": standing.component[:100],
        "Title": f"{standing.component} {standing.version}"[:500],
        "Severity": "INFORMATIONAL" if standing.fits else "HIGH",
        "Status": "COMPLIANT" if standing.fits else "NON_COMPLIANT",
        "Details": {"why": standing.why[:200]} if standing.why else {},
    }


def activate(api: Api, device: str, prefix: str, lifetime: timedelta, now: datetime) -> Activation:
    """A hybrid activation that one machine can use once; its name is the device's id."""
    expires = now + lifetime
    found = api.call(
        "CreateActivation",
        "*",
        Description=f"ota device {device}",
        DefaultInstanceName=device,
        IamRole=f"{prefix}-node",
        RegistrationLimit=1,
        ExpirationDate=expires,
        Tags=[{"Key": prefix, "Value": "managed"}, {"Key": f"{prefix}-device", "Value": device}],
    )
    try:
        return Activation(str(found["ActivationId"]), str(found["ActivationCode"]), expires)
    except KeyError as e:
        raise api.strange("CreateActivation", "*", f"it has no {e.args[0]}") from e
