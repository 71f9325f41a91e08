"""What both directions share: permission for orders, handing them over, holding, taking back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ota.errors import NeedsHuman, NotPermitted, Outage, Refusal, Stale
from ota.ports import Catalogue
from ota.rollout import batches
from ota.rollout.authority import Authority
from ota.rollout.case import Case
from ota.rollout.dispatch import Dispatcher, Handed
from ota.rollout.orders import OrderKind
from ota.rollout.states import State
from signing.approval import Authorisation
from signing.plan import DeviceRow
from signing.playbooks.target import PlaybookTarget
from signing.release import Release


@dataclass
class Step:
    """What one step saw and did. ``problems`` are retried by the next step.

    ``refusal``: why it could not be stepped at all, where others were.
    """

    rollout: str
    state: State
    decision: str = "WAIT"
    reasons: tuple[str, ...] = ()
    orders: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Leave:
    """Permission for the next orders, as of this step."""

    authorisation: Authorisation
    snapshot: int
    listed: Mapping[str, Release]
    playbooks: Mapping[str, PlaybookTarget]

    def lists(self, target: Release | PlaybookTarget) -> bool:
        """Whether the image repository still lists this as the plan froze it."""
        if isinstance(target, PlaybookTarget):
            return self.playbooks.get(target.path) == target
        found = self.listed.get(target.path)
        return found is not None and (found.sha256, found.release_counter) == (
            target.sha256,
            target.release_counter,
        )


class Mover:
    """Acts on a case; every action is an event first."""

    def __init__(self, authority: Authority, catalogue: Catalogue, dispatcher: Dispatcher) -> None:
        self._authority = authority
        self._catalogue = catalogue
        self._dispatcher = dispatcher

    def hold(
        self, case: Case, reasons: Iterable[str], step: Step, *, by_gate: bool = False
    ) -> None:
        """A human must look: recorded, then every assignment not activated is withdrawn."""
        step.reasons = tuple(reasons)
        step.decision = "HOLD"
        body = {"reasons": list(step.reasons), "gate": by_gate, "bad": case.ended_badly()}
        case.add("held", body)
        self.settle(case, step)

    def settle(self, case: Case, step: Step) -> None:
        """Withdraw what the running state says must not stand (rule 10)."""
        wanted = case.to_withdraw()
        if wanted:
            step.problems += self._dispatcher.withdraw(case.log, wanted, case.now)
            case.refresh()

    def leave(self, case: Case, step: Step) -> Leave | None:
        """Verify plan and approvals again; hold when they do not stand (rule 15)."""
        try:
            return Leave(
                self._authority.authorise(case.view, case.now),
                self._catalogue.snapshot_version(),
                self._catalogue.releases(),
                self._catalogue.playbooks(),
            )
        except (Outage, Stale) as e:
            step.problems.append(f"catalogue: {e}")
        except (Refusal, NeedsHuman, NotPermitted) as e:
            self.hold(case, [f"{e.code}: {e}"], step)
        return None

    def issue(
        self, case: Case, leave: Leave, kind: OrderKind, rows: list[DeviceRow], step: Step
    ) -> None:
        """Record orders for these devices, split by wave and courier, then hand them over."""
        if not rows:
            return
        plan = batches.split(case.plan, rows, self._dispatcher.sizes)
        step.orders += self._dispatcher.intend(
            case.log,
            leave.authorisation,
            kind,
            plan,
            snapshot=leave.snapshot,
            now=case.now,
        )
        case.refresh()
        self.carry_out(case, leave, kind, step)

    def carry_out(self, case: Case, leave: Leave, kind: OrderKind, step: Step) -> bool:
        """Hand over; a refusal by the director's desk holds the rollout. True: go on."""
        before = case.view.version
        handed: Handed = self._dispatcher.carry_out(case.log, leave.authorisation, kind, case.now)
        step.problems += handed.problems
        if case.view.version != before:
            case.refresh()
        if handed.refused:
            self.hold(case, [f"{d}: {why}" for d, why in handed.refused.items()], step)
        return not handed.refused


def unfinished(case: Case, kind: OrderKind) -> bool:
    """Whether an order of this kind waits for being handed over."""
    return any(
        order.kind == kind and (order.unassigned or (order.dispatched is None and order.live()))
        for order in case.view.orders.values()
    )
