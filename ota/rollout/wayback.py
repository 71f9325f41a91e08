"""The way back, planned before anything moves (rules 6 and 7). Pure.

Back means the release that the plan froze as ``from`` for that device: still listed with the same
hash and counter, for the device's hardware, and at or above the floor that the device last
signed. Nothing lowers a floor. Devices are sorted into

* ``eligible``  they took the release, and their ``from`` may run again;
* ``blocked``   they took it, but the floor, a yank or the registry closes the way, with the reason;
* ``unknown``   they took it, but what they ran before was unknown or unmanaged.

Devices that never activated it, or reverted on their own, only have assignments withdrawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ota.errors import NotFound
from ota.ports import Device
from ota.rollout.outcomes import Outcomes
from signing.plan import DeviceRow, Plan
from signing.release import Release


@dataclass(frozen=True)
class WayBack:
    """Who can go back, and who can not and why."""

    eligible: tuple[DeviceRow, ...]
    blocked: Mapping[str, str]
    unknown: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether every device that took the release can go back."""
        return not self.blocked and not self.unknown


def find(
    plan: Plan,
    outcomes: Outcomes,
    device: Callable[[str], Device],
    listed: Mapping[str, Release],
) -> WayBack:
    """Sort the devices that took the release. ``device`` may raise ``NotFound``."""
    eligible: list[DeviceRow] = []
    blocked: dict[str, str] = {}
    unknown: dict[str, str] = {}
    for name, result in outcomes.results.items():
        if not result.took:
            continue
        row = plan.rows[name][1]
        origin = plan.origin(row)
        if origin is None:
            unknown[name] = "what it ran before is unknown or unmanaged"
            continue
        reason = _closed(plan.component, origin, name, device, listed)
        if reason:
            blocked[name] = reason
        else:
            eligible.append(row)
    return WayBack(tuple(eligible), blocked, unknown)


def _closed(
    component: str,
    origin: Release,
    name: str,
    device: Callable[[str], Device],
    listed: Mapping[str, Release],
) -> str:
    """Why this device can not go back to its ``from``, or ""."""
    now_listed = listed.get(origin.path)
    if now_listed is None or (now_listed.sha256, now_listed.release_counter) != (
        origin.sha256,
        origin.release_counter,
    ):
        return f"{origin.path} is no longer listed"
    try:
        found = device(name)
    except NotFound:
        return "no longer registered"
    if found.state != "active":
        return f"the device is {found.state}"
    state = found.components.get(component)
    if state is None or state.hardware_id not in origin.hardware_ids:
        return f"{origin.path} is not for its hardware"
    if origin.release_counter < state.floor:
        return f"release counter {origin.release_counter} is below its floor {state.floor}"
    return ""
