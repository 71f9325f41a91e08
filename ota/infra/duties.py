"""Who may do what by the policies as rendered, and whether that is what was promised.

The promise is ``playbooks/aws/duties.toml`` (:mod:`ota.infra.promise`). Every claim of it is judged
by :mod:`ota.infra.evaluate`, so a template that was edited keeps the promise or is named.

>>> broken(promise, policies, values)         # claims that do not hold: none as shipped
[]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ota.errors import Malformed
from ota.infra.evaluate import Decision, Request, decide
from ota.infra.promise import PEOPLE, Claim, Promise, claims
from ota.infra.stacks import Policy
from ota.infra.statements import Statement
from ota.infra.values import Values

NOBODY: Final = Decision(allowed=False, by=None)


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
        "s3:prefix": f"{values.folder}image/",
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


def broken(
    promise: Promise, policies: Sequence[Policy], values: Values
) -> list[tuple[Claim, Decision]]:
    """Claims that the policies do not keep, with the statement that decided."""
    found = []
    for claim in claims(promise, values):
        decision = ask(policies, values, claim.who, Request(claim.action, claim.resource))
        if decision.allowed != claim.may:
            found.append((claim, decision))
    return found
