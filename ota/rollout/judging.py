"""Judging devices for a plan: planned as a row of small integers, or left out with one reason.

``origin`` of each row is what the device runs now, if the catalogue lists it and the device's
floor still admits it: the only way back (rule 7); -1 when it is unknown, unmanaged, no longer
listed or below the floor. Reasons read ``category: detail``; the category groups them.

>>> judge.plan("app-2-x7k2m9", device)     # None: look at judge.excluded[-1].reason
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ota.fleet import selectors
from ota.ports import Device
from ota.rollout.dealing import Planned
from ota.rollout.spec import Spec
from signing import strict
from signing.layout import PLAYBOOKS
from signing.plan import DeviceRow, Excluded
from signing.release import Release
from signing.report import ComponentState


class _Verdict(NamedTuple):
    """A reason to leave the device out, or the image it gets and the release to go back to."""

    reason: str
    image: int = -1
    origin: Release | None = None


@dataclass
class Judge:
    """Tables that grow as devices are planned, and the reasons of those that are not."""

    component: str
    images: tuple[Release, ...]
    by_hardware: Mapping[str, int]
    listed: Mapping[str, tuple[Release, ...]]
    selector: selectors.Selector
    seen_after: datetime | None
    busy: Mapping[str, Container[str]]
    group_by: str
    labels_needed: bool
    origins: list[Release] = field(default_factory=list)
    couriers: list[str] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    _verdicts: dict[tuple[Any, ...], _Verdict] = field(default_factory=dict)
    _origin_index: dict[str, int] = field(default_factory=dict)
    _courier_index: dict[str, int] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        spec: Spec,
        images: tuple[Release, ...],
        releases: Mapping[str, Release],
        now: datetime,
        open_rollouts: Mapping[str, Container[str]],
    ) -> Judge:
        """Everything that is the same for each device; without images it is for a playbook."""
        component = images[0].component if images else PLAYBOOKS
        listed: dict[str, tuple[Release, ...]] = {}
        for path in sorted(releases):
            if releases[path].component == component:
                sha256 = releases[path].sha256
                listed[sha256] = (*listed.get(sha256, ()), releases[path])
        within = spec.seen_within
        return cls(
            component=component,
            images=images,
            by_hardware={h: n for n, image in enumerate(images) for h in image.hardware_ids},
            listed=listed,
            selector=selectors.parse(spec.select),
            seen_after=now - timedelta(seconds=within) if within is not None else None,
            busy={r: d for r, d in open_rollouts.items() if r not in spec.supersedes},
            group_by=spec.limits.group_by,
            labels_needed=any(wave.select for wave in spec.waves),
        )

    def plan(self, rollout: str, device: Device) -> Planned | None:
        """The device's row, or None when it is left out (with its reason) or not selected."""
        labels = device.labels
        if not self.selector.matches_device(device.id, device.state, device.courier, labels):
            return None
        verdict = self._verdict(device.components.get(self.component))
        reason = _STATES[device.state] or verdict.reason or self._circumstances(device)
        if reason:
            self.excluded.append(Excluded(device.id, reason))
            return None
        salt = hashlib.sha256(f"{rollout}|{device.id}".encode()).digest()
        courier = self._courier(device.courier)
        row = DeviceRow(device.id, verdict.image, self._origin(verdict), courier)
        kept = labels if self.labels_needed else _NO_LABELS
        return Planned(row, salt, labels.get(self.group_by, ""), device.courier, kept)

    def _verdict(self, state: ComponentState | None) -> _Verdict:
        """What the state alone decides; a fleet has few different ones, so each is kept."""
        key: tuple[Any, ...] = ()
        if state is not None:
            slot = state.current
            running = (slot.sha256, slot.path) if slot is not None else ()
            key = (state.hardware_id, state.floor, *running)
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts[key] = self._decide(state)
        return found

    def _decide(self, state: ComponentState | None) -> _Verdict:
        """``category: detail`` of the first reason that applies, or image and origin."""
        if not self.images:
            return _Verdict("", 0)
        if state is None:
            return _Verdict(f"no component: {self.component}")
        image = self.by_hardware.get(state.hardware_id)
        if image is None:
            return _Verdict(f"no image for its hardware: {state.hardware_id}")
        release = self.images[image]
        if state.current is not None and state.current.sha256 == release.sha256:
            return _Verdict(f"already runs it: {release.path}")
        if release.release_counter < state.floor:
            return _Verdict(f"below its floor: {release.release_counter} < {state.floor}")
        return _Verdict("", image, self._listed(state))

    def _listed(self, state: ComponentState) -> Release | None:
        """The listed release that runs now and that the floor admits; its own path first."""
        slot = state.current
        if slot is None:
            return None
        usable = [
            release
            for release in self.listed.get(slot.sha256, ())
            if release.release_counter >= state.floor and state.hardware_id in release.hardware_ids
        ]
        return next((r for r in usable if r.path == slot.path), usable[0] if usable else None)

    def _circumstances(self, device: Device) -> str:
        """Reasons that lie not in the release but in how the device can be reached and kept."""
        if not device.courier:
            return "no courier"
        if self.group_by and not device.labels.get(self.group_by):
            return f"no label for group_by: {self.group_by}"
        for rollout, taken in self.busy.items():
            if device.id in taken:
                return f"in open rollout: {rollout}"
        return self._silence(device.last_seen)

    def _silence(self, last_seen: datetime | None) -> str:
        if self.seen_after is None or (last_seen is not None and last_seen >= self.seen_after):
            return ""
        return f"silent: last report {strict.stamp(last_seen)}" if last_seen else "never reported"

    def _origin(self, verdict: _Verdict) -> int:
        """The origin's row in the plan's table, entered when its first device is planned."""
        release = verdict.origin
        if release is None:
            return -1
        index = self._origin_index.get(release.path)
        if index is None:
            index = self._origin_index[release.path] = len(self.origins)
            self.origins.append(release)
        return index

    def _courier(self, name: str) -> int:
        index = self._courier_index.get(name)
        if index is None:
            index = self._courier_index[name] = len(self.couriers)
            self.couriers.append(name)
        return index


_NO_LABELS: Mapping[str, str] = {}
_STATES = {
    "active": "",
    "retired": "retired",
    "restored": "restored: a new incarnation waits to be accepted",
}
