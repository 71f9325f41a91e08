"""Every hint that is one gets a signed answer, once a cycle has worked.

Mostly the answer is what happens anyway: the order's own reports. What is left are hints of orders
of which nothing was told since; a courier that lost a report, or a job that came after the timer
had done its work, would otherwise wait for ever:

1. its update is running: how far it is; a playbook the same, or how it ended;
2. it is assigned and has ended here: how it ended, again, in a new report;
3. it is assigned and what it wants is what runs: committed;
4. it is assigned and is not followed yet: in progress, and why was told before;
5. it is not assigned to this device: that.

>>> answer(cycle, agent.known().committed, state, reporter)
"""

from __future__ import annotations

from collections.abc import Mapping

from ota.agent.report import Reporter
from ota.agent.state import State
from ota.agent.verdict import Cycle
from signing.playbooks.run import PlaybookRun

MOST = 32
"""Hints that are kept for an answer; older ones get none."""


def asked(reporter: Reporter, order: str) -> None:
    """Remember that a hint named this order."""
    reporter.asked.pop(order, None)
    reporter.asked[order] = None
    while len(reporter.asked) > MOST:
        reporter.asked.pop(next(iter(reporter.asked)))


def answer(cycle: Cycle, committed: Mapping[str, str], state: State, reporter: Reporter) -> None:
    """Queue the answers; ``committed`` is component -> SHA-256 of what runs for good."""
    orders, reporter.asked = list(reporter.asked), {}
    for order in orders:
        running = [u for u in state.updates() if u.assignment.order == order]
        assigned = [a for a in cycle.assigned.values() if a.order == order]
        with state.transaction():
            for update in running:
                reporter.still(update)  # (1)
            for assignment in assigned:
                if isinstance(assignment, PlaybookRun):
                    reporter.run_again(assignment, cycle.targets_version)
                    continue
                if assignment.component in {u.component for u in running}:
                    continue
                runs = committed.get(assignment.component) == assignment.sha256
                # (2), (3), (4)
                reporter.again(
                    assignment, cycle.targets_version, "committed" if runs else "in_progress"
                )
            if not running and not assigned:
                reporter.not_assigned(order)  # (5)
