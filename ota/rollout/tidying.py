"""Removing what ended rollouts have left at couriers that keep books: open entries, old jobs.

1. What an ended rollout still has open there is closed at once.
2. What has been closed is removed once the rollout has been over for long enough; until then it
   stays for people to look at. The journal keeps its own record for ever.

Bounded: at most ``limit`` orders in one call; run it again, from a timer. Safe to repeat after a
crash: removing is idempotent, and only what is known to be gone is recorded as gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ota.errors import OtaError, Outage, Refusal, told
from ota.rollout.case import Case
from ota.rollout.engine import Engine, Step
from ota.rollout.orders import OrderView
from ota.rollout.states import CLOSED


@dataclass
class Tidied:
    """One ended rollout: orders that were removed at their couriers, and what went wrong."""

    rollout: str
    state: str
    removed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def tidy(
    engine: Engine, now: datetime, older_than: timedelta, limit: int, *, write: bool = True
) -> list[Tidied]:
    """Close and remove; returns the ended rollouts for which anything was done or went wrong.

    Without ``write`` no courier is asked: ``removed`` is what a run would try to remove.
    """
    found = []
    for name in engine.records.rollouts():
        if limit <= 0:
            break
        done = _one(engine, name, now, older_than, limit, write=write)
        if done is None:
            continue
        row, used = done
        limit -= used
        if row.removed or row.problems:
            found.append(row)
    return found


def _one(
    engine: Engine, name: str, now: datetime, older_than: timedelta, limit: int, *, write: bool
) -> tuple[Tidied, int] | None:
    """What was done for one rollout, and how much of the limit it took."""
    try:
        case = engine.case(name, now)
    except Refusal as e:  # its journal or plan is damaged: the others still count
        return Tidied(name, "", problems=[told(e)]), 0
    if case.view.state not in CLOSED:
        return None
    step = Step(name, case.view.state)
    before = case.view.version
    if write:
        engine.following.run(case, step, limit)
    row = Tidied(name, case.view.state, problems=step.problems)
    used = case.view.version - before + len(step.problems)
    ended = case.view.changed
    if ended is not None and ended + older_than <= now:
        due = _due(engine, case)[: limit - used]
        used += len(due)
        if write:
            _remove(engine, case, row, due)
        else:
            row.removed += [order.id for order in due]
    return row, used


def _due(engine: Engine, case: Case) -> list[OrderView]:
    """Orders at couriers that keep books, which are not yet known to be gone."""
    followers = engine.following.followers
    return [o for o in case.view.orders.values() if not o.tidied and o.courier in followers]


def _remove(engine: Engine, case: Case, row: Tidied, due: list[OrderView]) -> None:
    """Remove these; after an outage the others would not fare better now."""
    for order in due:
        courier = engine.following.followers[order.courier]
        try:
            gone = courier.tidy(order.outgoing(case.view.rollout, order.devices))
        except OtaError as e:
            row.problems.append(f"{order.courier}: {order.id}: {told(e)}")
            if isinstance(e, Outage):
                break
            continue
        if gone:
            case.add("tidied", {"id": order.id})
            row.removed.append(order.id)
