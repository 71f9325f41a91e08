"""The agent: one cycle, and the loop around it.

A cycle:

1. hand over reports that wait;
2. finish what may have touched the running slot, and go on with a playbook that has begun,
   before anything else is believed or fetched;
3. ask the trust room what this device shall run (``ota/agent/trust.py``);
4. end updates that the director withdrew; tell what is held, denied or refused;
5. run the playbook that is ordered (``ota/agent/runs/runner.py``), then apply what is wanted, one
   component after the other (``ota/agent/apply.py``);
6. after its soak, let a security fix drop a lower previous and raise the floor (rule 5);
7. tell what is installed, if that changed; answer hints (``ota/agent/answers.py``); hand over
   reports.

Only ``Refusal``, ``Stale`` and ``Outage`` come out of a cycle, after they were reported; the
loop goes on. A hint causes one cycle, whatever it says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from ota.agent import answers, floors, hints, parts, states
from ota.agent.allowance import Allowance
from ota.agent.apply import Applier
from ota.agent.endings import Result
from ota.agent.patience import Patience
from ota.agent.runs import asking, updating
from ota.agent.runs.runner import WIPED, Runner
from ota.agent.state import Ended
from ota.agent.trust import TrustRoom
from ota.agent.verdict import Cycle, Known, Wanted
from ota.agent.waiting import FIRST_RETRY, Waiting
from ota.ports_device import Feed, Hint
from signing.assignment import Assignment
from signing.errors import OtaError, Outage, Refusal
from signing.layout import PLAYBOOKS

AT_ONCE: Final = 32
"""Most hints that are looked at for one cycle."""


@dataclass
class Agent:
    """Built by ``ota/agent/build.py``; see the module."""

    device: str
    applier: Applier
    trust: TrustRoom
    feed: Feed
    clock: Callable[[], datetime]
    security_soak: timedelta
    runner: Runner
    gone: bool = False
    _asked: list[hints.Body] = field(default_factory=list)
    _deaf: bool = False

    def __post_init__(self) -> None:
        self.state = self.applier.state
        self.reporter = self.applier.reporter
        self.components = self.applier.components
        self.machine = self.applier.machine
        self._allowance = Allowance(self.machine.monotonic)
        self._patience = Patience(self.machine.monotonic)

    # -- one cycle -----------------------------------------------------------------------------
    def cycle(self) -> list[Result]:
        """Do one cycle; returns what came of each update that moved.

        Raises ``Refusal``, ``Stale`` or ``Outage``, already reported.
        """
        try:
            # (1), (2)
            self.flush()
            results = self._finish()
            if self._busy(results):
                return results
            # (3), (4)
            cycle = self._ask()
            # (5)
            if cycle.run is not None:
                results.append(self.runner.start(cycle.run))
                if self._busy(results):
                    return results
                cycle = self._ask()
            results += self._apply(cycle)
            # (6), (7)
            floors.settle(self.state, self.components, self.machine, self.security_soak)
            self._tidy(cycle)
            self.reporter.inventory()
            answers.answer(cycle, self.known().committed, self.state, self.reporter)
        except OtaError as e:
            self._trouble(e)
            raise
        self.flush()
        return results

    def playbook(self, asked: hints.Body) -> Result:
        """Run the playbook that is ordered here, if it is the one ``asked`` for; nothing else.

        Raises ``Refusal`` (``hint-playbook``) otherwise, and as :meth:`cycle` does.
        """
        try:
            self.flush()
            results = self._finish()
            if self._busy(results):
                return results[-1]
            self.reporter.hint = asked.order
            cycle = self._ask()
            run = asking.ordered(asked, cycle)
            ended = self.state.runs.ended(run.order)
            if ended is not None:
                return Result(PLAYBOOKS, run.order, ended.outcome, ended.code or "done-before")
            held = [h.error for h in cycle.held if h.assignment == run]
            if cycle.run is None:
                raise held[0] if held else Outage(f"{run.path} is not ready", subject=run.path)
            result = self.runner.start(cycle.run)
        except OtaError as e:
            self._trouble(e)
            raise
        finally:
            self.reporter.hint = ""
        self._busy([result])
        return result

    def one_cycle(self, component: str) -> Result | None:
        """One verified cycle for one component, for the step ``update`` of a playbook."""
        cycle = self.trust.cycle(self.known(), self.clock())
        self.state.raise_clock_floor(cycle.clock_floor)
        chosen = updating.choose(cycle, component, self.state.is_closed)
        return self.applier.apply(chosen) if isinstance(chosen, Wanted) else chosen

    def _ask(self) -> Cycle:
        cycle = self.trust.cycle(self.known(), self.clock())
        self.reporter.well()
        self.state.raise_clock_floor(cycle.clock_floor)
        self._tell(cycle)
        for asked in self._asked:
            try:
                asking.ordered(asked, cycle)
            except Refusal as e:
                self.reporter.refused_hint(e)
        self._asked.clear()
        return cycle

    def _busy(self, results: Sequence[Result]) -> bool:
        """Whether something must end before anything else is begun; hands over reports."""
        if results and results[-1].code == WIPED:
            self.gone = True
            return True
        self.flush()
        return bool(self._unfinished()) or self.state.runs.open() is not None

    def known(self) -> Known:
        """What the trust room needs to know of this device."""
        return Known(
            committed=parts.committed(self.components),
            floors=self.state.floors(),
            denied=self.state.denials(),
            clock_floor=self.state.clock_floor,
            finished=self.state.runs.finished(),
        )

    def flush(self) -> bool:
        """Hand over reports that wait; whether none is left."""
        return self.reporter.flush(self.feed)

    def _trouble(self, error: OtaError) -> None:
        """Report it; where even that fails, the first error is the one to know."""
        with suppress(OtaError):
            running = next(iter(self.state.updates()), None)
            self.reporter.trouble(error, running)
            self.state.put("cycle_code", error.code)
            self.flush()

    def _unfinished(self) -> list[str]:
        """Configured components whose slot may be active without being committed."""
        found = self.state.updates()
        return [
            u.component for u in found if u.state in states.AFTER and u.component in self.components
        ]

    def _finish(self) -> list[Result]:
        results = []
        for component in self._unfinished():
            update = self.state.update(component)
            if update is not None:
                results.append(self.applier.resume(update))
        if not self._unfinished():
            resumed = self.runner.resume()
            results += [resumed] if resumed is not None else []
        return results

    def _tell(self, cycle: Cycle) -> None:
        for update in self.state.updates():
            withdrawn = cycle.assigned.get(update.component) != update.assignment
            if withdrawn and update.state in states.BEFORE:
                self.applier.fail(update, "withdrawn", "the director assigns it no more")
        for held in cycle.held:
            self.reporter.held(held.assignment, held.error, held.targets_version)
        for assignment in cycle.denied:
            self._tell_denied(assignment, cycle.targets_version)

    def _tell_denied(self, assignment: Assignment, version: int) -> None:
        if self.state.is_closed(assignment):
            return
        with self.state.transaction():
            self.state.close_order(assignment, "denied")
            ended = Ended(assignment.order, "failed", "IDLE", "denied")
            self.state.remember_ending(assignment.component, ended)
            self.reporter.denied(assignment, version)

    def _apply(self, cycle: Cycle) -> list[Result]:
        results: list[Result] = []
        for wanted in cycle.wanted:
            order = wanted.assignment.order
            waits = not self.reporter.hint and self._patience.too_soon(order)  # no hint waits
            if waits or self.state.is_closed(wanted.assignment):
                continue
            results.append(self.applier.apply(wanted))
            self._patience.remember(order, results[-1].outcome)
            self.flush()
            if self._unfinished():
                break
        return results

    def _tidy(self, cycle: Cycle) -> None:
        self.state.forget_orders({a.order for a in cycle.assigned.values()})
        run = cycle.assigned.get(PLAYBOOKS)
        self.state.runs.forget(run.order if run is not None else "", self.reporter.now())
        if not self.state.updates():
            self.applier.downloader.sweep()
        for name, part in self.components.items():
            if self.state.get(f"needs_human {name}"):
                slots = part.installer.inspect()
                image = self.state.image(name, slots.current)
                if image and not slots.trial and part.installer.verify_active(slots.current):
                    self.state.put(f"needs_human {name}", "")

    # -- the loop ------------------------------------------------------------------------------
    def look(self, hint: Hint | None = None) -> list[Result]:
        """One cycle, by the timer or because of hints: ``hint`` and those that wait behind it."""
        try:
            self._take(hint)
            return self.cycle()
        finally:
            self.reporter.hint = ""

    def _take(self, hint: Hint | None) -> None:
        """Judge hints and be done with them. A feed that fails stops no cycle.

        A hint that the feed can not be done with would come again at once: that feed is not
        listened to until the next look.
        """
        self._deaf = False
        for _ in range(AT_ONCE):
            if hint is None:
                return
            self._allowance.take()
            self.reporter.hint = self._judge(hint)
            self._deaf = True
            with suppress(Outage):
                self.feed.done(hint)
                self._deaf = False
                hint = None if self._allowance.wait() else self.feed.next(0.0)
                continue
            return

    def _judge(self, hint: Hint) -> str:
        """The order that a hint names; a foreign or malformed hint is reported, each time."""
        try:
            body = hints.read(hint.data, self.device)
        except Refusal as e:
            self.reporter.hint = e.subject
            self.reporter.refused_hint(e)
            return e.subject
        self._asked += [body] if body.playbook else []
        answers.asked(self.reporter, body.order)
        return body.order

    def run(
        self,
        interval: float,
        jitter: float,
        stopped: Callable[[], bool],
        log: Callable[[Iterable[Result] | OtaError], None],
    ) -> None:
        """Look at every hint and at every turn of the timer until ``stopped``; errors go on.

        ``interval`` in seconds, stretched by a random share of up to ``jitter``; after trouble
        the next look comes sooner, and later again the longer the trouble lasts.
        """
        self.applier.stopping = self.runner.stopping = stopped
        waiting = Waiting(self.feed, self.state, self.machine, self.flush, log)
        hint: Hint | None = None
        failures = 0
        while not stopped():
            try:
                log(self.look(hint))
                failures = 0
            except OtaError as e:
                log(e)
                failures += 1
            if self.gone:
                break
            pause = delay(interval, failures) * (1 + jitter * random.random())  # noqa: S311 - spreads load
            quiet = pause if self._deaf else self._allowance.wait()
            hint = waiting.hint(pause, stopped, quiet=quiet)


def delay(interval: float, failures: int) -> float:
    """Seconds to the next look after so many failures in a row; never more than ``interval``."""
    if failures == 0:
        return interval
    return float(min(interval, FIRST_RETRY * 2 ** min(failures - 1, 16)))
