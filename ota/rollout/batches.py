"""Which devices come next, and whether they still are what the plan froze. Pure.

Three caps hold at every moment: devices in flight, devices in one order, and devices of one group
(``group_by``, for example one plant cell) that may be away at once. For a group, everything that
could still go down counts: ordered and unfinished devices, also silent, stale or unreachable
ones, devices stuck half way, and withdrawn ones to which an old assignment can be replayed.

A device that no longer matches its row when its order is due is left out with a reason (rule 7).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ota.ports import Device
from ota.rollout.outcomes import Outcomes
from signing.plan import DeviceRow, Plan
from signing.release import Release

_FLYING: Final = frozenset({"pending", "in_progress", "returning"})
_AWAY: Final = _FLYING | {"silent", "stale", "unreachable", "refused", "stranded"}


def choose(
    plan: Plan, candidates: Iterable[DeviceRow], outcomes: Outcomes, exposed: Iterable[str]
) -> list[DeviceRow]:
    """As many candidates as the caps allow now, in the plan's order."""
    limits = plan.limits
    flying = sum(r.outcome in _FLYING for r in outcomes.results.values())
    away = _away(plan, outcomes, exposed)
    chosen: list[DeviceRow] = []
    for row in candidates:
        if flying + len(chosen) >= limits.in_flight:
            break
        group = away.setdefault(_group(plan, row.device), set())
        if limits.group_by and len(group - {row.device}) >= limits.max_unavailable:
            continue
        group.add(row.device)
        chosen.append(row)
    return chosen


def split(
    plan: Plan, rows: Iterable[DeviceRow], sizes: Mapping[str, int]
) -> list[tuple[int, str, list[str]]]:
    """Orders of at most ``limits.batch`` devices, each of one wave and one courier.

    ``sizes``: courier -> devices of one order at most, for couriers that say so.
    """
    piles: dict[tuple[int, str], list[str]] = {}
    for row in rows:
        wave = plan.rows[row.device][0]
        piles.setdefault((wave, plan.couriers[row.courier]), []).append(row.device)
    most = plan.limits.batch
    return [
        (wave, courier, pile[start : start + size])
        for (wave, courier), pile in piles.items()
        for size in [min(most, sizes.get(courier, most))]
        for start in range(0, len(pile), size)
    ]


def differs(plan: Plan, row: DeviceRow, device: Device) -> str:
    """Why the device no longer matches its row of the plan, or "" (rule 7)."""
    if device.state != "active":
        return f"the device is {device.state}"
    if plan.playbook is not None:
        return ""
    state = device.components.get(plan.component)
    if state is None:
        return f"it has no component {plan.component}"
    image = plan.image(row)
    if state.hardware_id not in image.hardware_ids:
        return f"its hardware is now {state.hardware_id}"
    if image.release_counter < state.floor:
        return f"release counter {image.release_counter} is below its floor {state.floor}"
    return _moved(image, plan.origin(row), "" if state.current is None else state.current.sha256)


def _moved(image: Release, origin: Release | None, running: str) -> str:
    if running == image.sha256:
        return "it already runs the release"
    if origin is not None and running != origin.sha256:
        return f"it runs {running[:12] or 'nothing'}, the plan froze {origin.sha256[:12]}"
    return ""


def _away(plan: Plan, outcomes: Outcomes, exposed: Iterable[str]) -> dict[str, set[str]]:
    away: dict[str, set[str]] = {}
    if not plan.limits.group_by:
        return away
    names = {d for d, r in outcomes.results.items() if r.outcome in _AWAY or _stuck(r.phase)}
    for name in names.union(exposed):
        away.setdefault(_group(plan, name), set()).add(name)
    return away


def _stuck(phase: str) -> bool:
    return phase == "NEEDS_HUMAN"


def _group(plan: Plan, device: str) -> str:
    """A device without a group is a group of its own."""
    groups: Mapping[str, str] = plan.groups
    return groups.get(device, f"device {device}") if plan.limits.group_by else ""
