"""Who must be able to do what, and who must not: the least-privilege promise as a table.

The table is ``playbooks/aws/duties.toml``. Every row is judged by :mod:`ota.infra.evaluate` on the
policies as rendered, so a template that was edited keeps the promise or is named. Two made-up
things, A and B, stand for the fleet.

>>> broken(data, policies, values)            # rows that do not hold: none as shipped
[]
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from ota.errors import Malformed
from ota.infra.evaluate import Decision, Request, decide
from ota.infra.stacks import Policy
from ota.infra.statements import Statement
from ota.infra.values import Values

FILE: Final = "duties.toml"
PEOPLE: Final = ("publisher", "rollout", "refresh", "enrol")
"""Roles that people and timers take."""
NOBODY: Final = Decision(allowed=False, by=None)


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    who: tuple[str, ...]
    may: bool
    action: tuple[str, ...]
    on: tuple[str, ...]
    why: str = ""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    duty: tuple[_Row, ...]


@dataclass(frozen=True)
class Duty:
    """``who`` is a role, or ``device:THING`` by ``mqtt``, ``https`` or ``s3``."""

    who: str
    action: str
    resource: str
    may: bool
    why: str = ""


def ask(policies: Sequence[Policy], values: Values, who: str, request: Request) -> Decision:
    """Decide one request of one identity; ``Malformed`` for an identity that is none."""
    kind, _, rest = who.partition(":")
    if kind == "device":
        thing, _, way = rest.partition("/")
        return _device(policies, values, thing, way or "mqtt", request)
    if who not in PEOPLE:
        names = ", ".join(PEOPLE)
        raise Malformed(
            f"{who!r:.80} is none of {names}, device:THING",
            remedy="ota infra can device:press-07 iot:Publish topic/ota/press-07/report",
        )
    return _role(policies, values, who, request, {})


def _role(
    policies: Sequence[Policy], values: Values, role: str, request: Request, own: Mapping[str, str]
) -> Decision:
    """Identity policies of the role, and the policy of the resource asked for."""
    name = f"{values.name}-{role}"
    arn = f"arn:{values.partition}:iam::{values.account}:role/{name}"
    service = request.action.partition(":")[0]
    through = "sqs" if "ReportsKey" in request.resource else "s3"
    context = {
        "aws:SecureTransport": "true",
        "s3:TlsVersion": "1.3",
        "aws:PrincipalArn": arn,
        "aws:PrincipalAccount": values.account,
        "aws:MultiFactorAuthPresent": "true",
        "kms:ViaService": f"{through}.{values.region}.{values.cloud}",
        "kms:MessageType": "DIGEST",
        "kms:SigningAlgorithm": "ECDSA_SHA_256",
        f"ssm:resourceTag/{values.name}": "managed",
        "iam:PassedToService": "ssm.amazonaws.com",
        "aws:SourceVpce": "vpce-bucket",
        **own,
        **request.context,
    }
    full = Request(request.action, request.resource, context, arn)
    mine = [s for p in policies if p.kind == "identity" and p.owner == name for s in p.statements]
    if service == "kms":
        return _key(policies, mine, full)
    return decide([*_resource(policies, service), *mine], full)


def _key(policies: Sequence[Policy], mine: Sequence[Statement], request: Request) -> Decision:
    """A key's policy must allow, and neither may deny.

    The shipped key policies do not delegate to IAM: no statement names the whole account, so
    what a key's policy does not allow, no identity's policy can. Asked for more, the identity's
    policy must allow it too.
    """
    key = request.resource.rpartition("/")[2]
    policy = [s for p in policies if p.kind == "key" and p.owner == key for s in p.statements]
    found = decide(policy, request)
    denied = decide(mine, request)
    if denied.by is not None and not denied.by.allows:
        return denied
    return found if denied.allowed or not found.allowed else NOBODY


def _resource(policies: Sequence[Policy], service: str) -> list[Statement]:
    return [
        s
        for p in policies
        if p.kind == "resource"
        for s in p.statements
        if any(a.startswith(f"{service}:") for a in s.actions)
    ]


def _device(
    policies: Sequence[Policy], values: Values, thing: str, way: str, request: Request
) -> Decision:
    """A device by MQTT, by HTTPS with its certificate, or with its role's credentials."""
    if way == "s3":
        own = {"credentials-iot:ThingName": thing}
        return _role(policies, values, "device", request, own)
    context = {"iot:Certificate.Subject.CommonName": thing, "aws:SourceVpce": "vpce-data"}
    if way == "mqtt":
        context |= {
            "iot:Connection.Thing.ThingName": thing,
            "iot:Connection.Thing.IsAttached": "true",
        }
    statements = [s for p in policies if p.kind == "iot" for s in p.statements]
    full = Request(request.action, request.resource, {**context, **request.context})
    return decide(statements, full)


def arn(values: Values, service: str, rest: str) -> str:
    """The ARN of something of this account and region."""
    return f"arn:{values.partition}:{service}:{values.region}:{values.account}:{rest}"


def full_arn(values: Values, action: str, resource: str) -> str:
    """An ARN as it is, or the end of one: of the action's service, of this account.

    >>> full_arn(values, "s3:GetObject", "image/metadata/timestamp.json")
    'arn:aws:s3:::example-ota-store/plant/image/metadata/timestamp.json'
    """
    if resource == "*" or resource.startswith("arn:"):
        return resource
    service = action.partition(":")[0]
    if service == "s3":
        return f"{values.objects}{resource}"
    if service == "iam":
        return f"arn:{values.partition}:iam::{values.account}:{resource}"
    return arn(values, "iot" if service == "iotjobsdata" else service, resource)


def duties(data: bytes, values: Values) -> Iterator[Duty]:
    """The table's rows for these values; ``Malformed`` when it can not be read."""
    try:
        table = msgspec.convert(tomllib.loads(data.decode()), _Table, strict=True)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise Malformed(f"{FILE}: {e}", subject=FILE) from e
    known = {"a": f"{values.things}A", "b": f"{values.things}B", "name": values.name}
    for row in table.duty:
        for who, action, resource in itertools.product(row.who, row.action, row.on):
            full = full_arn(values, action, resource.format(**known))
            yield Duty(who.format(**known), action, full, row.may, row.why)


def broken(data: bytes, policies: Sequence[Policy], values: Values) -> list[tuple[Duty, Decision]]:
    """Rows of the table that the policies do not keep, with the statement that decided."""
    found = []
    for duty in duties(data, values):
        decision = ask(policies, values, duty.who, Request(duty.action, duty.resource))
        if decision.allowed != duty.may:
            found.append((duty, decision))
    return found
