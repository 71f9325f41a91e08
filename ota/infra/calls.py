"""What the product calls, held against the policies: nothing that is needed is missing or spare.

That each call is allowed to whom it belongs, and to nobody else, is a claim of the promise
(:mod:`ota.infra.duties` judges it). Here are the two other sides: a role may be allowed nothing
that it never calls, and the private endpoints let through what is called, and nothing else.
``tests/unit/test_infra_calls.py`` derives the list of calls from the code.

>>> findings(promise, policies, values)
[]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ota.infra import promise as promises
from ota.infra.evaluate import Request, decide
from ota.infra.narrow import Finding
from ota.infra.promise import PEOPLE, Promise
from ota.infra.stacks import Policy
from ota.infra.values import Values


def findings(promise: Promise, policies: Sequence[Policy], values: Values) -> list[Finding]:
    """Rights that no call needs, and calls that do not get through a private endpoint."""
    return [*_spare(promise, policies, values), *_endpoints(promise, policies, values)]


def _spare(promise: Promise, policies: Sequence[Policy], values: Values) -> Iterator[Finding]:
    for role in PEOPLE:
        called = {call.action for call in promise.call if role in call.asked(values)}
        mine = [p for p in policies if p.kind == "identity" and p.owner == f"{values.name}-{role}"]
        for policy in mine:
            for action in sorted(_allowed(policy) - called):
                yield Finding(policy.where, f"{action}: {role} never calls it")


def _endpoints(promise: Promise, policies: Sequence[Policy], values: Values) -> Iterator[Finding]:
    """Nothing where devices reach AWS over the internet; an endpoint without a policy takes all."""
    ways = [p for p in policies if p.kind == "endpoint"]
    if not ways:
        return
    statements = [s for p in ways for s in p.statements]
    context = {"aws:PrincipalAccount": values.account}
    served = {action.partition(":")[0] for p in ways for action in _allowed(p)}
    for claim in promises.claims(promise, values):
        if claim.may and claim.who in PEOPLE and claim.action.partition(":")[0] in served:
            request = Request(claim.action, claim.resource, context, "*")
            if not decide(statements, request).allowed:
                what = f"{claim.action} on {claim.resource} does not get through"
                yield Finding("network: endpoints", what)
    used = {a for p in policies if p.kind in {"identity", "iot", "key"} for a in _allowed(p)}
    for policy in ways:
        for action in sorted(_allowed(policy) - used):
            yield Finding(policy.where, f"{action}: nobody is allowed it")


def _allowed(policy: Policy) -> set[str]:
    return {action for s in policy.statements if s.allows for action in s.actions}
