"""The way back: exactly the devices that took the release, to their frozen ``from``.

Ends ROLLED_BACK when nobody is on the way any more and nobody is left behind; otherwise HELD with
the reasons: blocked or unknown without ``partial``, or devices that did not come back.
"""

from __future__ import annotations

from collections.abc import Iterable

from ota.errors import Outage, Refusal, Stale
from ota.ports import Catalogue, Fleet
from ota.rollout import batches, wayback
from ota.rollout.case import Case
from ota.rollout.moving import Mover, Step, unfinished
from signing.plan import DeviceRow


class Backward:
    """Moves a rollout that is ROLLING_BACK."""

    def __init__(self, mover: Mover, catalogue: Catalogue, fleet: Fleet) -> None:
        self._mover = mover
        self._catalogue = catalogue
        self._fleet = fleet

    def way_back(self, case: Case) -> wayback.WayBack:
        """Who could go back now; raises the catalogue's errors."""
        listed = self._catalogue.releases()
        return wayback.find(case.plan, case.outcomes, self._fleet.device, listed)

    def begin(
        self,
        case: Case,
        reasons: Iterable[str],
        step: Step,
        *,
        automatic: bool,
        partial: bool = False,
    ) -> None:
        """Record the intent to go back, then act on it."""
        body = {
            "reasons": list(reasons),
            "automatic": automatic,
            "gate": automatic,
            "partial": partial,
        }
        case.add("rolling-back", body)
        self.run(case, step)

    def run(self, case: Case, step: Step) -> None:
        """Withdraw, order back whoever took the release, and end when nobody is on the way."""
        self._mover.settle(case, step)
        try:
            way = self.way_back(case)
        except (Outage, Stale) as e:
            step.problems.append(f"catalogue: {e}")
            return
        except Refusal as e:
            self._mover.hold(case, [f"{e.code}: {e}"], step)
            return
        due = [row for row in way.eligible if _due(case, row.device)]
        if (due or unfinished(case, "rollback")) and not self._order(case, due, step):
            return
        if not (_returning(case) or unfinished(case, "rollback") or case.to_withdraw()):
            self._end(case, way, step)

    def _order(self, case: Case, due: list[DeviceRow], step: Step) -> bool:
        """Order back as many as the caps allow; False when nothing could be ordered now."""
        leave = self._mover.leave(case, step)
        if leave is None or not self._mover.carry_out(case, leave, "rollback", step):
            return False
        rows = batches.choose(case.plan, due, case.outcomes, ())
        self._mover.issue(case, leave, "rollback", rows, step)
        return case.view.state == "ROLLING_BACK"

    def _end(self, case: Case, way: wayback.WayBack, step: Step) -> None:
        """Nobody is on the way any more: back, unless somebody is left behind."""
        closed = {**way.blocked, **way.unknown}
        left = [d for d, r in case.outcomes.results.items() if r.took and d not in closed]
        reasons = [f"{name}: {why}" for name, why in list(closed.items())[:20]]
        reasons += [f"{name}: did not come back" for name in left[:20]]
        if left or (closed and not case.view.partial):
            self._mover.hold(case, reasons, step)
            return
        back = sum(1 for _ in case.outcomes.of("returned"))
        told = "nobody had to be sent back"
        if back:
            told = "1 device went back" if back == 1 else f"{back} devices went back"
        reasons = [*case.view.reasons, told, *reasons]
        body = {"reasons": reasons, "gate": case.view.automatic, "closed": closed}
        case.add("rolled-back", body)
        step.reasons = tuple(reasons)


def _due(case: Case, device: str) -> bool:
    """Took the release and has no return order of this attempt yet."""
    order = case.view.last(device, "rollback")
    return order is None or order.attempt < case.view.back


def _returning(case: Case) -> bool:
    """Whether somebody is still on the way, or may still turn out to have taken the release."""
    results = case.outcomes.results.values()
    return any(r.outcome == "returning" or (r.outcome == "withdrawn" and r.phase) for r in results)
