"""How a rollout begins: approvals are collected, everything is checked, then it is set running.

Nothing is written unless it stands: a plan by a listed author for this workspace, approvals that
count, couriers that exist, and devices that no other open rollout has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ota.errors import Misuse, NeedsHuman, NotPermitted, Refusal
from ota.rollout.authority import read, signers
from ota.rollout.engine import Engine
from ota.rollout.observe import open_logs
from ota.rollout.records import Log, Records
from ota.rollout.states import CLOSED
from signing import statement
from signing.plan import Plan


@dataclass(frozen=True)
class Ready:
    """A plan that may start: what :meth:`Opening.check` has verified."""

    plan: Plan
    data: bytes
    approvals: Sequence[bytes]


class Opening:
    """From a signed plan to RUNNING. The caller holds the workspace's lock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._records: Records = engine.records

    def approve(self, plan: bytes, approval: bytes, now: datetime) -> dict[str, Any]:
        """Add an approval; the rollout is drafted by its first one.

        Also renews the approval of an open rollout. Raises ``NotPermitted`` when the author
        signed it, ``Refusal`` (``approval-*``, ``statement-*``) when it does not fit.
        """
        body = self._verified(plan, now)
        self._must_count(plan, approval, now)
        self._draft(plan, body, [approval], now)
        missing = ""
        try:
            self._engine.authority.check(plan, self._stored_approvals(body.rollout), now)
            self._move_to_approved(body.rollout, now)
        except NeedsHuman as e:
            missing = str(e)
        log = Log.open(self._records, body.rollout)
        return {
            "rollout": body.rollout,
            "state": log.view.state,
            "approvals": len(log.view.approvals),
            "missing": missing,
        }

    def check(self, plan: bytes, approvals: Iterable[bytes], now: datetime) -> Ready:
        """Verify everything that a start needs; write nothing.

        Raises what :func:`signing.approval.authorise` raises, ``NotPermitted`` when another open
        rollout has one of the devices, ``Misuse`` when it was started before.
        """
        body = read(plan)
        every = [*self._stored_approvals(body.rollout), *approvals]
        self._engine.authority.check(plan, every, now)
        self._check_couriers(body)
        log = Log.open_or_new(self._records, body.rollout)
        if log.view.state not in {"NEW", "DRAFT", "APPROVED"}:
            log.view.check("started")
        self._check_name(log, plan)
        self._check_free(body)
        return Ready(body, plan, every)

    def start(self, ready: Ready, now: datetime) -> None:
        """Record the plan, its approvals and the start."""
        rollout = ready.plan.rollout
        self._draft(ready.data, ready.plan, ready.approvals, now)
        self._move_to_approved(rollout, now)
        Log.open(self._records, rollout).add("started", {}, now)

    def superseded(self, plan: Plan) -> list[str]:
        """Open rollouts that this plan takes the place of."""
        logs = [Log.open_or_new(self._records, name) for name in plan.supersedes]
        return [g.view.rollout for g in logs if g.view.version and g.view.state not in CLOSED]

    def open_devices(self, component: str) -> Mapping[str, frozenset[str]]:
        """Open rollout -> its devices, for planning one rollout per device and component."""
        found = {}
        for log in open_logs(self._records):
            plan = self._engine.authority.plan(log.view)
            if plan.component == component:
                found[log.view.rollout] = frozenset(plan.rows)
        return found

    def _draft(self, plan: bytes, body: Plan, approvals: Iterable[bytes], now: datetime) -> None:
        log = Log.open_or_new(self._records, body.rollout)
        self._check_name(log, plan)
        digest = self._records.keep("plan", plan)
        if log.view.state == "NEW":
            found = statement.peek("plan", plan).digest
            log.add("drafted", {"plan": digest, "digest": found}, now)
        for data in approvals:
            document = self._records.keep("approval", data)
            if document not in log.view.approvals:
                log.add("approval", {"document": document}, now)

    def _move_to_approved(self, rollout: str, now: datetime) -> None:
        log = Log.open(self._records, rollout)
        if log.view.state == "DRAFT":
            log.add("approved", {}, now)

    def _stored_approvals(self, rollout: str) -> list[bytes]:
        log = Log.open_or_new(self._records, rollout)
        return [self._records.fetch(digest) for digest in log.view.approvals]

    def _verified(self, plan: bytes, now: datetime) -> Plan:
        """Author and workspace hold; approvals are not asked for yet."""
        try:
            return self._engine.authority.check(plan, [], now).plan
        except NeedsHuman:
            return read(plan)

    def _must_count(self, plan: bytes, approval: bytes, now: datetime) -> None:
        """Refuse an approval that would count for nothing."""
        if signers("plan", plan) & signers("approval", approval):
            raise NotPermitted(
                "the author of a plan can not approve it",
                code="self-approval",
                remedy="ota rollout approve PLAN --key ANOTHER-KEY",
            )
        with suppress(NeedsHuman):  # others are still missing
            self._engine.authority.check(plan, [approval], now)

    def _check_couriers(self, plan: Plan) -> None:
        unknown = sorted(set(plan.couriers) - set(self._engine.couriers))
        if unknown:
            raise Misuse(
                f"couriers that are not configured here: {', '.join(unknown)}",
                subject=plan.rollout,
                remedy="add them to ota.toml, or plan again",
            )

    def _check_free(self, plan: Plan) -> None:
        """One open rollout per device and component."""
        for name, devices in self.open_devices(plan.component).items():
            both = devices.intersection(plan.rows)
            if both and name != plan.rollout and name not in plan.supersedes:
                raise NotPermitted(
                    f"{len(both)} devices stand in open rollout {name}: {min(both)} ...",
                    subject=plan.rollout,
                    remedy=f"finish or abort {name}, or plan with 'supersedes: [{name}]'",
                )

    def _check_name(self, log: Log, plan: bytes) -> None:
        """A drafted rollout keeps its plan."""
        if log.view.plan and self._records.fetch(log.view.plan) != plan:
            raise Refusal(
                "approval-mismatch",
                f"{log.view.rollout} stands for another plan already",
                subject=log.view.rollout,
            )
