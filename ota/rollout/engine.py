"""Driving a rollout: ``step`` observes, decides, records, acts. Safe to repeat after any crash.

1. Observe: reports are verified and stored, then acknowledged (``observe``).
2. Fold the journal, and judge every device from its signed report (``replay``, ``outcomes``).
3. Decide: a pure function of plan, outcomes and time (``gate``).
4. Record the decision, before anything follows from it.
5. Act: do what the journal says is intended and not yet done (``dispatch``). Before each order the
   approvals are verified again, the release must still be listed, and the device must still be
   what the plan froze.
6. Follow: what couriers' own books say of orders, seldom and never as an outcome (``following``).

Every write outside the journal is idempotent and comes after the event that calls for it, so a
kill between any two instructions leaves work that the next step finds and finishes. Two engines
at once meet in the journal's version: one gets ``Busy``.

>>> Engine(records, fleet, catalogue, couriers=..., desk=..., workspace=...).step("app-2-x", now)
Step(rollout='app-2-x7k2p9', state='RUNNING', decision='WAIT', ...)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ota.ports import Catalogue, Courier, Desk, Fleet
from ota.rollout.authority import Authority
from ota.rollout.backward import Backward
from ota.rollout.case import Case
from ota.rollout.dispatch import Dispatcher
from ota.rollout.following import Following
from ota.rollout.forward import Forward
from ota.rollout.moving import Mover, Step
from ota.rollout.observe import Observed, Observer
from ota.rollout.records import Log, Records
from signing.plan import Workspace


class Engine:
    """The use case that moves rollouts; it alone writes their decisions."""

    def __init__(
        self,
        records: Records,
        fleet: Fleet,
        catalogue: Catalogue,
        *,
        couriers: Mapping[str, Courier],
        desk: Desk,
        workspace: Workspace,
    ) -> None:
        self.records = records
        self.authority = Authority(records, catalogue, workspace)
        self.couriers = couriers
        self._fleet = fleet
        self._observer = Observer(records, fleet, couriers)
        self.following = Following(couriers)
        mover = Mover(self.authority, catalogue, Dispatcher(fleet, desk, couriers))
        self.settle = mover.settle
        self.back = Backward(mover, catalogue, fleet)
        self._forward = Forward(mover, self.back, fleet)

    def step(self, rollout: str, now: datetime) -> Step:
        """One step of one rollout; repeat until it is closed.

        Raises ``NotFound``, ``Refusal("journal-broken")``, ``Busy``; anything that may pass by
        itself is a problem in the result.
        """
        observed = self.observe(now)  # (1)
        case = self.case(rollout, now)  # (2)
        step = Step(rollout, case.view.state, problems=observed.problems)
        if case.view.state == "RUNNING":
            self._forward.run(case, step)
        elif case.view.state == "ROLLING_BACK":
            self.back.run(case, step)
        else:
            self.settle(case, step)
        self.following.run(case, step)  # (6)
        step.state = case.view.state
        step.reasons = step.reasons or case.view.reasons
        self.records.touch(rollout, now)
        return step

    def observe(self, now: datetime) -> Observed:
        """Take in what devices sent, for every rollout."""
        return self._observer.observe(now)

    def case(self, rollout: str, now: datetime) -> Case:
        """The rollout as it stands, without observing or moving anything."""
        log = Log.open(self.records, rollout)
        plan = self.authority.plan(log.view)
        return Case(log, plan, self._fleet.latest(rollout), now)


__all__ = ["Engine", "Step"]
