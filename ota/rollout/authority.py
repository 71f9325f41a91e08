"""The plan and its approvals, read again from what was signed before every order (rule 15).

The database is not believed: the plan's bytes must have the SHA-256 that the journal names, and
before each order author and approvers are checked again against what the image repository says
now. A verification that this process has done already is not repeated for the same bytes; expiry
is always checked against the time given.

>>> authority.plan(view)                 # the frozen plan, addressed by content
>>> authority.authorise(view, now)       # proof for the director, or the reason why not
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ota.errors import Malformed, Refusal
from ota.ports import Catalogue
from ota.rollout.records import Records
from ota.rollout.replay import RolloutView
from signing import plan as plans
from signing import statement, strict
from signing.approval import Approval, Approvers, Authorisation, authorise
from signing.plan import Plan, Workspace


@dataclass(frozen=True)
class _Proof:
    key: tuple[str, tuple[str, ...], bytes]
    authorisation: Authorisation


class Authority:
    """Reads plans from the records and proves that they are approved."""

    def __init__(self, records: Records, catalogue: Catalogue, workspace: Workspace) -> None:
        self._records = records
        self._catalogue = catalogue
        self._workspace = workspace
        self._plans: dict[str, Plan] = {}
        self._proofs: dict[str, _Proof] = {}

    def plan(self, view: RolloutView) -> Plan:
        """The plan of a rollout; ``Refusal("journal-broken")`` when its bytes are not those."""
        data = self._records.fetch(view.plan)
        if view.plan not in self._plans:
            seen = statement.peek("plan", data)
            body = plans.read_plan(seen)
            if (body.rollout, seen.digest) != (view.rollout, view.digest):
                raise Refusal(
                    "journal-broken",
                    f"{view.rollout}: the journal names the plan of {body.rollout}, "
                    f"digest {seen.digest[:12]}",
                    subject=view.rollout,
                )
            self._plans[view.plan] = body
        return self._plans[view.plan]

    def authorise(self, view: RolloutView, now: datetime) -> Authorisation:
        """Proof that the stored plan is approved now.

        Raises what :func:`signing.approval.authorise` raises, and the catalogue's errors.
        """
        approvals = [self._records.fetch(digest) for digest in view.approvals]
        return self.check(self._records.fetch(view.plan), approvals, now)

    def check(self, plan: bytes, approvals: Sequence[bytes], now: datetime) -> Authorisation:
        """The same for bytes that are not in the journal yet."""
        approvers = self._catalogue.approvers()
        counting = usable(approvals, approvers, now)
        name = strict.digest(plan)
        key = (name, tuple(map(strict.digest, counting)), msgspec.json.encode(approvers))
        proof = self._proofs.get(name)
        if proof is not None and proof.key == key and now < proof.authorisation.expires:
            return proof.authorisation
        if approvals and not counting:
            raise _uncounted(approvals, approvers)
        found = authorise(plan, counting, approvers, self._workspace, now)
        self._proofs[name] = _Proof(key, found)
        return found


def read(data: bytes) -> Plan:
    """The typed body of a plan's envelope, without trusting its signature yet."""
    return plans.read_plan(statement.peek("plan", data))


def _uncounted(approvals: Iterable[bytes], approvers: Approvers) -> Refusal:
    """Why not one of these approvals counts."""
    known = {key["keyid"] for key in approvers.approvers if "keyid" in key}
    if any(known & signers("approval", data) for data in approvals):
        return Refusal("approval-expired", "every approval has expired")
    return Refusal("statement-signature", "approval: not signed by a listed approver")


def usable(approvals: Iterable[bytes], approvers: Approvers, now: datetime) -> list[bytes]:
    """Drop approvals that claim to be expired, or to be by nobody who may approve.

    Only drops, so an unverified claim can never add a vote; an approval that was renewed after
    its predecessor expired counts again.
    """
    known = {key["keyid"] for key in approvers.approvers if "keyid" in key}
    found = []
    for data in approvals:
        seen = statement.peek("approval", data)
        try:
            expires = strict.instant(msgspec.convert(seen.body, Approval, strict=True).expires)
        except (msgspec.ValidationError, Malformed) as e:
            raise Refusal("statement-malformed", f"approval: {e}") from e
        if now < expires and known.intersection(signers("approval", data)):
            found.append(data)
    return found


def signers(kind: statement.Kind, data: bytes) -> set[str]:
    """Key ids by which an envelope claims to be signed."""
    limit = 2 * statement.LIMITS[kind]
    try:
        outer = strict.loads(data, limit=limit, what=kind)
        return {row["keyid"] for row in outer["signatures"]}
    except (Malformed, KeyError, TypeError) as e:
        raise Refusal("statement-malformed", f"{kind}: its signatures can not be read") from e
