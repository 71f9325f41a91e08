"""What approves a plan (DESIGN rule 15).

An approval binds the plan's digest, the workspace, the scope and an expiry. :func:`authorise` turns
plan and approvals into an :class:`Authorisation`, the only thing for which the director signs an
assignment.

>>> approval = approve(plan, workspace, expires, signer)
>>> authorise(plan, [approval], approvers, workspace, now).plan.rollout
'app-2-x7k2m9'
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
from securesystemslib.signer import Key, Signer

from signing import statement, strict
from signing.enrolment import key_from_dict
from signing.errors import Malformed, NeedsHuman, NotPermitted, Refusal
from signing.plan import Plan, Workspace, read_plan

Scope = Literal["rollout"]


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of an approval: what exactly is approved, where, and until when."""

    schema: Literal[1]
    plan: str
    workspace: Workspace
    scope: Scope
    expires: str


class Approvers(msgspec.Struct, frozen=True, kw_only=True):
    """Who may author and approve: the content of the image target ``workspace/approvers.json``."""

    schema: Literal[1]
    threshold: int
    authors: tuple[dict[str, Any], ...]
    approvers: tuple[dict[str, Any], ...]

    def author_keys(self) -> list[Key]:
        """Keys that may sign plans."""
        return [key_from_dict(k) for k in self.authors]

    def approver_keys(self) -> list[Key]:
        """Keys whose approvals count."""
        return [key_from_dict(k) for k in self.approvers]


APPROVERS_PATH = "workspace/approvers.json"


@dataclass(frozen=True)
class Authorisation:
    """Proof that a plan is approved. Built by :func:`authorise` only."""

    plan: Plan
    digest: str
    author: str
    approvers: tuple[str, ...]
    expires: datetime


def approve(plan: bytes, workspace: Workspace, expires: datetime, signer: Signer) -> bytes:
    """Sign an approval of exactly these plan bytes."""
    body = Approval(
        schema=1,
        plan=statement.peek("plan", plan).digest,
        workspace=workspace,
        scope="rollout",
        expires=strict.stamp(expires),
    )
    return statement.sign("approval", msgspec.to_builtins(body), signer)


def authorise(
    plan: bytes,
    approvals: Iterable[bytes],
    approvers: Approvers,
    workspace: Workspace,
    now: datetime,
) -> Authorisation:
    """Verify a plan and its approvals, in this order (rule 15).

    1. The plan is signed by a listed author, and is for this workspace.
    2. Each approval binds this plan's digest, this workspace and this scope, unexpired.
    3. Distinct approvers, none of them the author, reach the threshold.

    Raises ``Refusal`` (``statement-*``, ``workspace-mismatch``, ``approval-mismatch``,
    ``approval-expired``), ``NotPermitted`` for an unlisted author, or ``NeedsHuman`` while
    approvals are missing.
    """
    # (1)
    seen = statement.peek("plan", plan)
    try:
        signed = statement.verify("plan", plan, approvers.author_keys())
    except Refusal as e:
        listed = {key.keyid for key in approvers.author_keys()}
        if e.code != "statement-signature" or listed & _claimed("plan", plan):
            raise  # a listed author's name over other bytes is evidence, not a missing permission
        raise NotPermitted("plan: not signed by a listed author", code="author-unlisted") from e
    body = read_plan(signed)
    if body.workspace != workspace:
        raise Refusal("workspace-mismatch", "plan: made for another workspace")
    # (2), (3)
    author = signed.signers[0]
    authors = {author} | _claimed("plan", plan)
    keys = [k for k in approvers.approver_keys() if k.keyid not in authors]
    counted: set[str] = set()
    expires = strict.instant(body.expires)
    for data in approvals:
        if authors & _claimed("approval", data):
            continue
        approval = statement.verify("approval", data, keys)
        expires = min(expires, _check_approval(approval, seen.digest, workspace))
        counted.update(approval.signers)
    if now >= expires:
        raise Refusal("approval-expired", f"plan or approval expired at {strict.stamp(expires)}")
    if len(counted) < max(1, approvers.threshold):
        raise NeedsHuman(
            f"{len(counted)} of {approvers.threshold} approvals",
            code="unapproved",
            subject=body.rollout,
            remedy="ota rollout approve PLAN --key KEY",
        )
    return Authorisation(body, seen.digest, author, tuple(sorted(counted)), expires)


def _claimed(kind: statement.Kind, data: bytes) -> set[str]:
    """Key ids by which an envelope claims to be signed."""
    outer = strict.loads(data, limit=2 * statement.LIMITS[kind], what=kind)
    rows = outer.get("signatures", []) if isinstance(outer, dict) else []
    return {str(row.get("keyid", "")) for row in rows if isinstance(row, dict)}


def _check_approval(found: statement.Statement, plan: str, workspace: Workspace) -> datetime:
    try:
        body = msgspec.convert(found.body, Approval, strict=True)
        expires = strict.instant(body.expires)
    except (msgspec.ValidationError, Malformed) as e:
        raise Refusal("statement-malformed", f"approval: {e}") from e
    if body.workspace != workspace:
        raise Refusal("workspace-mismatch", "approval: made for another workspace")
    if body.plan != plan or body.scope != "rollout":
        raise Refusal("approval-mismatch", "approval: for another plan or scope")
    return expires
