"""Who may do what, decided as AWS decides: an explicit Deny, then an Allow, else no.

Sources: IAM, policy evaluation logic (one account, no boundaries and no SCPs: those can only
take away); AWS IoT Core policies: topics are matched by IAM's wildcards, and ``+`` and ``#`` in a
topic *filter* that a device subscribes to are plain characters of the resource's name; a policy
variable that has no value in the request makes its statement fit nothing.

>>> decide(policies, Request("s3:GetObject", "arn:aws:s3:::b/image/x", {})).allowed
True
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ota.infra import conditions
from ota.infra.conditions import like
from ota.infra.statements import Statement

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z0-9:._\[\]-]+)\}")
_UNSET: Final = "\0"
"""Fits no name, so that a statement with an unset variable fits nothing."""


@dataclass(frozen=True)
class Request:
    """``principal`` is the ARN of the role, or the name of a service; ``context`` has its keys."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)
    principal: str = ""


@dataclass(frozen=True)
class Decision:
    """``by`` is the statement that decided; None when nothing allowed it."""

    allowed: bool
    by: Statement | None


def decide(statements: Iterable[Statement], request: Request) -> Decision:
    """Judge one request by all statements that could concern it.

    A resource-based policy's statements count where their principal fits; those of an identity
    have none. Both together: in one account an Allow of either is enough, a Deny of either is
    final. (KMS keys are the exception: see ``duties``.)
    """
    concerned = [s for s in statements if _fits(s, request)]
    for statement in concerned:
        if not statement.allows:
            return Decision(allowed=False, by=statement)
    first = next(iter(concerned), None)
    return Decision(allowed=first is not None, by=first)


def _fits(statement: Statement, request: Request) -> bool:
    values = {k.lower(): v for k, v in request.context.items()}

    def fill(text: str) -> str:
        return _VARIABLE.sub(lambda m: values.get(m[1].lower(), _UNSET), text)

    return (
        _principal(statement, request.principal)
        and any(like(a.lower(), request.action.lower()) for a in statement.actions)
        and any(_resource(r, request.resource, fill) for r in statement.resources)
        and conditions.holds(statement.conditions, request.context, fill)
    )


def _principal(statement: Statement, principal: str) -> bool:
    return not statement.principals or bool({"*", principal} & set(statement.principals))


def _resource(pattern: str, resource: str, fill: conditions.Fill) -> bool:
    """Variables are filled after the pattern's own wildcards were marked.

    A star *inside a value* (a thing can not have one in its name, but whoever names things is
    not trusted with this) stays a plain character.
    """
    pieces = re.split(r"(\*|\?)", _VARIABLE.sub(lambda m: f"\1{m[0]}\1", pattern))
    text = "".join((".*" if p == "*" else "." if p == "?" else _quoted(p, fill)) for p in pieces)
    return re.fullmatch(text, resource, re.DOTALL) is not None


def _quoted(piece: str, fill: conditions.Fill) -> str:
    return re.escape(fill(piece.replace("\1", "")))
