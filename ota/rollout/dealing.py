"""Dealing planned devices out to waves; step 4 and 5 of :mod:`ota.rollout.planning`.

Every device ends in exactly one wave or among the left over, whatever the spec says: each is
taken from one pool, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ota.errors import Malformed
from ota.fleet import selectors
from ota.rollout.spec import Spec, WaveSpec
from signing.plan import DeviceRow, Wave


class Planned(NamedTuple):
    """An active device in the pool: its row, its place (``salt``), and what selectors read."""

    row: DeviceRow
    salt: bytes
    group: str
    courier: str
    labels: Mapping[str, str]


def deal(spec: Spec, pool: list[Planned]) -> tuple[tuple[Wave, ...], list[Planned]]:
    """(waves, left over) from a pool in its salted order; ``Malformed`` names the wave."""
    reserved = {device: n for n, wave in enumerate(spec.waves) for device in wave.devices}
    kept: dict[int, list[Planned]] = {}
    free: list[Planned] = []
    for planned in pool:
        number = reserved.get(planned.row.device)
        (free if number is None else kept.setdefault(number, [])).append(planned)
    waves = []
    percent = 0
    for number, wave in enumerate(spec.waves):
        if wave.by == "devices":
            taken = kept.get(number, [])
        else:
            before, percent = percent, percent + (wave.number if wave.by == "percent" else 0)
            share = _share(len(pool), percent) - _share(len(pool), before)
            taken, free = _take(wave, share, free)
        waves.append(_wave(spec, wave, taken))
    return tuple(waves), free


def _share(total: int, percent: int) -> int:
    """``ceil(total * percent / 100)`` in whole numbers."""
    return -(-total * percent // 100)


def _take(wave: WaveSpec, share: int, free: list[Planned]) -> tuple[list[Planned], list[Planned]]:
    if wave.by == "rest":
        return free, []
    if wave.by == "select":
        return _split(wave.select, free)
    number = wave.number if wave.by == "count" else share
    return free[:number], free[number:]


def _split(select: str, free: list[Planned]) -> tuple[list[Planned], list[Planned]]:
    """(matching, others), each in the order it had."""
    wanted = selectors.parse(select)
    taken: list[Planned] = []
    others: list[Planned] = []
    for p in free:
        matches = wanted.matches_device(p.row.device, "active", p.courier, p.labels)
        (taken if matches else others).append(p)
    return taken, others


def _wave(spec: Spec, wave: WaveSpec, taken: list[Planned]) -> Wave:
    where = wave.where or spec.source
    if not taken and not wave.allow_empty:
        raise Malformed(
            f"{where}: wave {wave.name!r} would have no device",
            subject=spec.source,
            remedy="change the wave, or write allow_empty: true",
        )
    sample = wave.gate.min_sample
    if taken and isinstance(sample, int) and sample > len(taken):
        raise Malformed(
            f"{where}: wave {wave.name!r} has {len(taken)} devices; "
            f"its min_sample of {sample} could never be reached",
            subject=spec.source,
            remedy="lower gate.min_sample, or make the wave larger",
        )
    rows = tuple(planned.row for planned in taken)
    return Wave(
        name=wave.name, devices=rows, soak=wave.soak, deadline=wave.deadline, gate=wave.gate
    )
