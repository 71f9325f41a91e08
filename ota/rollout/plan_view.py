"""A plan in plain data, for printing before somebody signs it.

The way back is counted for each plan: ``open`` devices can return to what they run now;
``closed`` ones can not once the new release is committed, because it is a security fix with a
higher counter (rule 5); ``unknown`` ones run something that no listed release explains (rule 7).

>>> describe(plan)["waves"][0]
{'wave': 1, 'name': 'canary', 'devices': 2, ...}
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from signing.plan import DeviceRow, Plan

_EXAMPLES = 3


def describe(plan: Plan) -> dict[str, Any]:
    """Everything an approver should see, as numbers, texts, lists and dicts."""
    rows = [row for wave in plan.waves for row in wave.devices]
    return {
        "rollout": plan.rollout,
        "component": plan.component,
        "created": plan.created,
        "expires": plan.expires,
        "tail_until": plan.tail_until,
        "on_failure": plan.on_failure,
        "supersedes": list(plan.supersedes),
        "clear_denials": plan.clear_denials,
        "devices": len(rows),
        "images": _images(plan, rows),
        "playbook": _playbook(plan),
        "waves": _waves(plan),
        "way_back": _way_back(plan, rows),
        "excluded": _excluded(plan),
        "limits": {name: getattr(plan.limits, name) for name in plan.limits.__struct_fields__},
        "warnings": warnings(plan),
    }


def warnings(plan: Plan) -> list[str]:
    """What is allowed and yet deserves a second look."""
    rows = [row for wave in plan.waves for row in wave.devices]
    back = _way_back(plan, rows)
    found = [
        f"{back[name]} of {len(rows)} devices have no way back: {why}"
        for name, why in (("closed", "a security fix"), ("unknown", "what they run is not listed"))
        if back[name]
    ]
    if plan.playbook is not None:
        found.append("running a playbook has no way back: a wave that fails is held for a person")
    found += [f"wave {wave.name!r} has no device" for wave in plan.waves if not wave.devices]
    return found + _loose_groups(plan)


def _loose_groups(plan: Plan) -> list[str]:
    """Groups of several devices that may all be down at once within the budget."""
    allowed = plan.limits.max_unavailable
    loose = [
        f"{group} ({size})"
        for group, size in sorted(Counter(plan.groups.values()).items())
        if 1 < size <= allowed
    ]
    if not loose:
        return []
    shown = ", ".join(loose[:_EXAMPLES])
    return [f"max_unavailable {allowed} lets a whole group be down at once: {shown}"]


def _playbook(plan: Plan) -> dict[str, Any]:
    """What is run, and with which values."""
    if plan.playbook is None:
        return {}
    target = plan.playbook.target
    said = {"playbook": target.short, "summary": target.summary, "sha256": target.sha256}
    return said | {"parameters": dict(plan.playbook.parameters)}


def _images(plan: Plan, rows: list[DeviceRow]) -> list[dict[str, Any]]:
    counts = Counter(row.image for row in rows)
    return [
        {
            "path": image.path,
            "version": image.version,
            "release_counter": image.release_counter,
            "security_fix": image.security_fix,
            "devices": counts[number],
        }
        for number, image in enumerate(plan.images)
    ]


def _waves(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "wave": number,
            "name": wave.name,
            "devices": len(wave.devices),
            "couriers": sorted({plan.couriers[row.courier] for row in wave.devices}),
            "soak": wave.soak,
            "deadline": wave.deadline,
            "gate": {name: getattr(wave.gate, name) for name in wave.gate.__struct_fields__},
        }
        for number, wave in enumerate(plan.waves, 1)
    ]


def _way_back(plan: Plan, rows: list[DeviceRow]) -> dict[str, int]:
    counts = Counter(_return(plan, row) for row in rows)
    return {name: counts[name] for name in ("open", "closed", "unknown")}


def _return(plan: Plan, row: DeviceRow) -> str:
    origin = plan.origin(row)
    if origin is None:
        return "unknown" if plan.playbook is None else "none"
    image = plan.image(row)
    closing = image.security_fix and image.release_counter > origin.release_counter
    return "closed" if closing else "open"


def _excluded(plan: Plan) -> list[dict[str, Any]]:
    """One row a category of reason, the largest first, with a few devices of each."""
    groups: dict[str, list[str]] = {}
    for item in plan.excluded:
        groups.setdefault(item.reason.partition(":")[0], []).append(item.device)
    return [
        {"reason": reason, "devices": len(ids), "examples": ids[:_EXAMPLES]}
        for reason, ids in sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    ]
