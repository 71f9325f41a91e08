"""From a spec and the fleet to a plan: pure, and fast enough for a million devices.

The procedure of :func:`make`; the numbers stand in the code:

1. Resolve the spec's releases in the verified catalogue: one component, and for each hardware id
   exactly one image.
2. Judge each device that the selector matches: planned, or left out with one reason.
3. Order the planned devices by SHA-256 of rollout id and device id, so that the guinea pigs of
   one rollout are not those of the next.
4. Deal them out, wave by wave. Devices that a wave names are kept for that wave. Every other
   wave takes what earlier waves left over: ``count`` the next so many, ``select`` those that
   match, ``rest`` all. ``percent`` is of all planned devices, cumulative and rounded up: with
   ``p`` the sum of the percentages up to and including this wave, the percent waves together
   hold the first ``ceil(N * p / 100)``; so 10 % of 3 devices is 1, and shares that add up to
   100 % are everybody.
5. Refuse what could never work: a wave without devices (unless ``allow_empty``), a minimum
   sample larger than its wave, a plan without devices, an end before its beginning.

>>> plan = make(spec, registry.devices(), catalogue.releases(), workspace, now, {}, token="x7k2m9")
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import datetime

from ota.errors import Malformed, NotFound
from ota.ports import Device
from ota.rollout import dealing
from ota.rollout import spec as specs
from ota.rollout.judging import Judge
from ota.rollout.spec import Spec
from signing import strict
from signing.layout import PLAYBOOKS
from signing.plan import Excluded, Plan, PlannedPlaybook, Workspace
from signing.release import Release

_TOKEN = re.compile(r"[a-z0-9]{6}")


def make(  # noqa: PLR0917 - the order of the words in the sentence above
    spec: Spec,
    devices: Iterable[Device],
    releases: Mapping[str, Release],
    workspace: Workspace,
    now: datetime,
    open_rollouts: Mapping[str, Container[str]],
    *,
    token: str,
    playbook: PlannedPlaybook | None = None,
) -> Plan:
    """Freeze a rollout; see the module. ``token``: six random characters of [a-z0-9].

    ``playbook``: the one that the spec names, with its values, where it names one.

    ``open_rollouts``: rollout id -> its devices, for open rollouts of this component (see
    :func:`component_of`). Raises ``Malformed`` (the spec can not work) or ``NotFound``.
    """
    if not _TOKEN.fullmatch(token):
        raise Malformed("token: not six of [a-z0-9]")
    rollout = f"{spec.rollout}-{token}"
    # (1)
    images = resolve(spec, releases) if playbook is None else ()
    judge = Judge.build(spec, images, releases, now, open_rollouts)
    # (2), (3)
    pool = [p for device in devices if (p := judge.plan(rollout, device)) is not None]
    pool.sort(key=_by_salt)
    if not pool:
        raise _nobody(spec, judge)
    # (4), (5)
    waves, left_over = dealing.deal(spec, pool)
    _absent(spec, judge, pool)
    judge.excluded += [Excluded(p.row.device, "in no wave") for p in left_over]
    if len(left_over) == len(pool):
        raise _nobody(spec, judge)
    ends, tail = _moments(spec, now)
    unused = {p.row.device for p in left_over}
    return Plan(
        schema=1,
        rollout=rollout,
        workspace=workspace,
        created=strict.stamp(now),
        expires=strict.stamp(ends),
        component=judge.component,
        images=images,
        origins=tuple(judge.origins),
        couriers=tuple(judge.couriers),
        waves=waves,
        excluded=tuple(sorted(judge.excluded, key=lambda e: e.device)),
        limits=spec.limits,
        tail_until=strict.stamp(tail),
        on_failure=spec.on_failure,
        supersedes=spec.supersedes,
        clear_denials=spec.clear_denials,
        playbook=playbook,
        groups={p.row.device: p.group for p in pool if p.group and p.row.device not in unused},
    )


def resolve(spec: Spec, releases: Mapping[str, Release]) -> tuple[Release, ...]:
    """The releases a spec names, in its order; ``NotFound`` or ``Malformed``."""
    found: dict[str, Release] = {}
    for name in spec.release:
        matches = {path: r for path, r in releases.items() if name in {path, r.short}}
        if not matches:
            raise NotFound(
                f"{spec.source}: release: the image repository does not list {name}, or no longer",
                subject=name,
                remedy="ota release list; ota repo status for roles that have expired",
            )
        found |= dict(sorted(matches.items()))
    images = tuple(found.values())
    _one_component(spec, images)
    return images


def component_of(spec: Spec, releases: Mapping[str, Release]) -> str:
    """The component that a spec updates; ``playbooks`` for a spec that names a playbook."""
    return PLAYBOOKS if spec.playbook else resolve(spec, releases)[0].component


def _one_component(spec: Spec, images: tuple[Release, ...]) -> None:
    components = sorted({image.component for image in images})
    if len(components) > 1:
        raise Malformed(
            f"{spec.source}: release: one component a rollout, found {', '.join(components)}",
            subject=spec.source,
        )
    fits: dict[str, str] = {}
    for image in images:
        for hardware in image.hardware_ids:
            if hardware in fits:
                raise Malformed(
                    f"{spec.source}: release: {fits[hardware]} and {image.path} are both for "
                    f"hardware {hardware}; name one by its path",
                    subject=spec.source,
                )
            fits[hardware] = image.path


def _nobody(spec: Spec, judge: Judge) -> Malformed:
    return Malformed(
        f"{spec.source}: no device is left to update: {_most(judge.excluded)}",
        subject=spec.source,
        remedy="ota fleet list",
    )


def _by_salt(planned: dealing.Planned) -> bytes:
    return planned.salt


def _absent(spec: Spec, judge: Judge, pool: list[dealing.Planned]) -> None:
    """Devices that a wave names and that are neither planned nor left out for a reason."""
    named = {device for wave in spec.waves for device in wave.devices}
    if named:
        named -= {p.row.device for p in pool}
        named -= {e.device for e in judge.excluded}
    reason = "named, but not registered or not selected"
    judge.excluded += [Excluded(device, reason) for device in named]


def _moments(spec: Spec, now: datetime) -> tuple[datetime, datetime]:
    """(expires, tail_until), both after now and in this order (``Malformed``)."""
    ends, tail = specs.at(spec.expires, now), specs.at(spec.tail_until, now)
    if ends <= now:
        raise Malformed(f"{spec.source}: expires: {strict.stamp(ends)} has passed")
    if not now < tail <= ends:
        raise Malformed(
            f"{spec.source}: tail_until: {strict.stamp(tail)} is not between now and expires "
            f"({strict.stamp(ends)})",
            subject=spec.source,
        )
    return ends, tail


def _most(excluded: list[Excluded]) -> str:
    """The commonest reasons, for an error message."""
    counts: dict[str, int] = {}
    for category in categories(excluded):
        counts[category] = counts.get(category, 0) + 1
    top = sorted(counts.items(), key=lambda item: -item[1])[:3]
    return "; ".join(f"{number} {name}" for name, number in top) or "the selector matches none"


def categories(excluded: Iterable[Excluded]) -> Iterator[str]:
    """The part of each reason that groups devices: what stands before its colon."""
    return (e.reason.partition(":")[0] for e in excluded)
