"""A rollout as plain data, for tables and JSON. Times are RFC 3339 UTC, ages whole seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime
from typing import Any

import msgspec

from ota.errors import Refusal
from ota.ports import Event
from ota.rollout import following
from ota.rollout.case import Case
from ota.rollout.gate import Tally
from ota.rollout.states import next_command
from signing import strict

COUNTS = tuple(f.name for f in fields(Tally) if f.name != "size")


def describe(case: Case, stepped: datetime | None) -> dict[str, Any]:
    """Everything that ``ota rollout status`` shows about one rollout."""
    view, plan = case.view, case.plan
    return {
        "rollout": view.rollout,
        "state": view.state,
        "reasons": list(view.reasons),
        "by_gate": view.by_gate,
        "next": next_command(
            view.state,
            view.rollout,
            playbook=plan.playbook is not None,
            back=bool(view.back),
        ),
        "way_back": "" if plan.playbook is None else "none: what was run was run",
        "component": plan.component,
        "releases": sorted({target.short for target in plan.sends}),
        "wave": view.wave,
        "waves": waves(case),
        "devices": len(plan.rows),
        "excluded": len(plan.excluded),
        "created": strict.stamp(view.created) if view.created else "",
        "changed": strict.stamp(view.changed) if view.changed else "",
        "last_step": strict.stamp(stepped) if stepped else "",
        "last_step_age": age(stepped, case.now),
        "tail_until": plan.tail_until,
        "in_flight": sum(1 for _ in case.outcomes.of("pending", "in_progress", "returning")),
        "exposed": {d: strict.stamp(t) for d, t in sorted(case.exposed().items())},
        "left_out": dict(sorted(view.left_out.items())),
        "accepted": sorted(view.accepted),
        "stragglers": _stragglers(case),
        "bad": _bad(case),
        "held_on": dict(sorted(view.bad.items())) if view.state == "HELD" else {},
        "lost": dict(sorted(following.lost(case).items())),
        "courier_notes": following.notes(case),
        "mismatched": dict(sorted(case.outcomes.mismatched.items())),
        "approvals": len(view.approvals),
        "events": view.version,
    }


def summary(case: Case, stepped: datetime | None) -> dict[str, Any]:
    """One line of ``ota rollout list``."""
    outcomes = case.outcomes
    return {
        "rollout": case.view.rollout,
        "state": case.view.state,
        "component": case.plan.component,
        "releases": sorted({target.short for target in case.plan.sends}),
        "wave": f"{min(case.view.wave + 1, len(case.plan.waves))}/{len(case.plan.waves)}",
        "devices": len(case.plan.rows),
        "committed": sum(1 for _ in outcomes.of("committed")),
        "last_step_age": age(stepped, case.now),
    }


def broken(rollout: str, why: Refusal) -> dict[str, Any]:
    """The same line of one whose journal or plan does not verify."""
    nothing = dict.fromkeys(("component", "wave", "devices", "committed"), "")
    return {
        "rollout": rollout,
        "state": "BROKEN",
        **nothing,
        "releases": [],
        "last_step_age": None,
        "problem": str(why),
        "code": why.code,
    }


def waves(case: Case) -> list[dict[str, Any]]:
    """Each wave with its counts; ``state`` is done, running or waiting."""
    found = []
    for index, wave in enumerate(case.plan.waves):
        tally = case.outcomes.tally(case.plan, case.view, index)
        begun = case.view.started.get(index)
        settled = case.view.settled.get(index)
        found.append(
            {
                "name": wave.name,
                "state": _wave_state(case, index),
                "size": tally.size,
                **{name: getattr(tally, name) for name in COUNTS},
                "started": strict.stamp(begun[1]) if begun else "",
                "settled": strict.stamp(settled[0]) if settled else "",
                "deadline": wave.deadline,
                "soak": wave.soak,
            }
        )
    return found


def runs(case: Case) -> list[dict[str, Any]]:
    """One row for each device: outcome, and each step as the device signed it."""
    found = []
    for device, result in case.outcomes.results.items():
        report = case.reports.get(device)
        counts = report is not None and device not in case.outcomes.mismatched
        steps = [msgspec.to_builtins(s) for s in report.steps] if report and counts else []
        found.append(
            {
                "device": device,
                "outcome": result.outcome,
                "code": result.code,
                "detail": report.detail if report and counts else "",
                "steps": steps,
                "verified": "by the device",
            }
        )
    return found


def history(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Every event as a row; the body as it stands in the journal."""
    return [
        {
            "version": e.version,
            "time": strict.stamp(e.time),
            "kind": e.kind,
            "body": dict(e.body),
        }
        for e in events
    ]


def age(stepped: datetime | None, now: datetime) -> int | None:
    """Whole seconds since the last step; None before the first."""
    return None if stepped is None else max(0, int((now - stepped).total_seconds()))


def _wave_state(case: Case, index: int) -> str:
    if case.view.state in {"DRAFT", "APPROVED"} or index > case.view.wave:
        return "waiting"
    done = index < case.view.wave or case.view.state == "COMPLETED"
    return "done" if done else "running"


def _stragglers(case: Case) -> list[str]:
    begun = {r.device for w in case.plan.waves[: case.view.wave] for r in w.devices}
    late = case.outcomes.of("silent", "unreachable", "stale", "refused", "withdrawn")
    return [d for d in late if d in begun or case.view.tail_closed]


def _bad(case: Case) -> dict[str, dict[str, str]]:
    """Devices that ended badly: outcome, code and phase, as they signed it."""
    wanted = ("failed", "reverted", "refused", "stale", "unreachable", "silent", "stranded")
    return {
        d: {"outcome": r.outcome, "code": r.code, "phase": r.phase}
        for d, r in case.outcomes.results.items()
        if r.outcome in wanted
    }
