"""A rollout's spec: what an operator writes, read strictly and frozen.

Durations are ``90s``, ``10m``, ``1h``, ``7d``, ``2w`` or several of them (``1h30m``), kept in
whole seconds. Budgets are a count or a share such as ``5%``. There are no fractions. Every error
is ``Malformed`` and names file, line, key and what was expected.

Each wave says in exactly one way whom it takes (``ota/rollout/planning.py`` has the rules)::

    rollout: app-2                 # 1 to 20 of [a-z0-9-]; the plan adds six random characters
    release: app@2.0.0             # or app/app-2.0.0.tar.gz, or a list, one for each hardware id
    #  or, instead of a release:
    #  playbook: restart-service@1.0.0
    #  parameters: {service: nginx}
    select: site=lyon              # optional; Kubernetes label selector
    seen_within: 7d                # optional; leave out devices that were silent for longer
    waves:
      - {name: canary, count: 2, soak: 10m, deadline: 1h}
      - {name: tenth, percent: 10}
      - {name: lyon, select: line=a, gate: {silent: 10%}}
      - {name: named, devices: [a, b]}
      - {name: rest, rest: true}
    gate: {min_sample: 1, failed: 0}     # gate, soak and deadline are defaults for the waves
    limits: {in_flight: 100, batch: 50, order_lifetime: 7d, group_by: cell, max_unavailable: 1}
    tail_until: 7d                 # after creation, or RFC 3339 UTC
    expires: 30d
    on_failure: rollback           # or hold, which is the default and the only one for a playbook
    supersedes: [app-1-x7k2m9]
    clear_denials: false           # true: also where this very release failed before (rule 8)
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from ota.rollout import spec_values as values
from ota.rollout.spec_values import When
from ota.yaml import strict as strict_yaml
from ota.yaml import values as yaml_values
from ota.yaml.strict import Node
from signing.plan import Gate, Limits

By = Literal["count", "percent", "select", "devices", "rest"]

MAX_WAVES = 64
_WAYS: tuple[By, ...] = ("count", "percent", "select", "devices", "rest")
_GATE = frozenset(Gate.__struct_fields__)
_LIMITS = frozenset(Limits.__struct_fields__)
_WAVE = frozenset({"name", "soak", "deadline", "gate", "allow_empty", *_WAYS})


class WaveSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One wave as written. ``number`` is the count or the percent; ``where`` its file and line."""

    name: str
    by: By
    soak: int
    deadline: int
    gate: Gate
    number: int = 0
    select: str = ""
    devices: tuple[str, ...] = ()
    allow_empty: bool = False
    where: str = ""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A checked spec; ``source`` is the file's name."""

    rollout: str
    release: tuple[str, ...]
    waves: tuple[WaveSpec, ...]
    select: str
    seen_within: int | None
    limits: Limits
    tail_until: When
    expires: When
    on_failure: Literal["rollback", "hold"]
    supersedes: tuple[str, ...]
    clear_denials: bool
    source: str
    playbook: str = ""
    parameters: dict[str, str] = {}


_TOP = frozenset({*Spec.__struct_fields__, "gate", "soak", "deadline"} - {"source"})


def read(data: bytes, source: str = "spec.yaml") -> Spec:
    """Parse and check a spec; ``Malformed`` names file, line, key and what was expected."""
    root = strict_yaml.read(data, source)
    top = root.mapping(_TOP)
    for name in ("rollout", "waves"):
        if name not in top:
            root.fail(f"the key {name!r} is missing")
    if "release" in top and "playbook" in top:
        root.fail("expected either 'release' or 'playbook', found both")
    if "release" not in top and "playbook" not in top:
        root.fail("the key 'release' is missing, or 'playbook'")
    limits = _limits(top.get("limits"))
    spec = Spec(
        rollout=values.slug(top["rollout"]),
        release=values.releases(top["release"]) if "release" in top else (),
        playbook=values.playbook(top["playbook"]) if "playbook" in top else "",
        parameters=values.parameters(top.get("parameters")),
        waves=_waves(top["waves"], top),
        select=values.selector(top["select"]) if "select" in top else "",
        seen_within=yaml_values.duration(top["seen_within"]) if "seen_within" in top else None,
        limits=limits,
        tail_until=values.when(top.get("tail_until"), 7 * 86400),
        expires=values.when(top.get("expires"), 30 * 86400),
        on_failure=values.on_failure(top.get("on_failure"), back="release" in top),
        supersedes=values.names(top.get("supersedes")),
        clear_denials=yaml_values.switch(top["clear_denials"]) if "clear_denials" in top else False,
        source=source,
    )
    _fits(spec, top)
    return spec


def at(when: When, created: datetime) -> datetime:
    """The moment that a ``When`` means."""
    return created + timedelta(seconds=when) if isinstance(when, int) else when


def _fits(spec: Spec, top: dict[str, Node]) -> None:
    """Values that are right alone and wrong together."""
    if not spec.playbook and "parameters" in top:
        top["parameters"].fail("parameters belong to a playbook")
    if spec.playbook and spec.clear_denials:
        top["clear_denials"].fail("a playbook is denied nowhere")
    longest = max(wave.deadline for wave in spec.waves)
    if spec.limits.order_lifetime < longest:
        top.get("limits", top["waves"]).fail(
            f"order_lifetime is shorter than the longest deadline ({longest} s): "
            "orders would expire while their wave still waits"
        )


# -- waves -------------------------------------------------------------------------------------
def _waves(node: Node, top: dict[str, Node]) -> tuple[WaveSpec, ...]:
    rows = node.rows
    if not rows:
        node.fail(f"expected a list of waves, found {'none' if rows == [] else node.shown}")
    if len(rows) > MAX_WAVES:
        node.fail(f"{len(rows)} waves, the limit is {MAX_WAVES}")
    defaults = (
        yaml_values.duration(top["soak"]) if "soak" in top else 600,
        yaml_values.duration(top["deadline"]) if "deadline" in top else 86400,
        _gate(top.get("gate"), Gate()),
    )
    waves = tuple(_wave(row, *defaults) for row in rows)
    _together(waves, rows)
    return waves


def _wave(node: Node, soak: int, deadline: int, gate: Gate) -> WaveSpec:
    items = node.mapping(_WAVE)
    ways = [way for way in _WAYS if way in items]
    if len(ways) != 1:
        found = " and ".join(ways) or "none"
        node.fail(f"expected exactly one of {', '.join(_WAYS)}; found {found}")
    if "name" not in items:
        node.fail("the key 'name' is missing")
    by, value = ways[0], items[ways[0]]
    if by == "rest" and not yaml_values.switch(value):
        value.fail("expected true, or another way to choose devices")
    wait = yaml_values.duration(items["deadline"]) if "deadline" in items else deadline
    if wait < 1:
        items.get("deadline", node).fail("expected a deadline of at least 1s")
    return WaveSpec(
        name=yaml_values.identifier(items["name"]),
        by=by,
        number=_number(by, value),
        select=values.selector(value) if by == "select" else "",
        devices=_devices(value) if by == "devices" else (),
        allow_empty="allow_empty" in items and yaml_values.switch(items["allow_empty"]),
        soak=yaml_values.duration(items["soak"]) if "soak" in items else soak,
        deadline=wait,
        gate=_gate(items.get("gate"), gate),
        where=node.where,
    )


def _number(by: By, node: Node) -> int:
    if by == "count":
        return yaml_values.integer(node, 1, 10_000_000)
    if by == "percent":
        return yaml_values.integer(node, 1, 100)
    return 0


def _together(waves: tuple[WaveSpec, ...], rows: list[Node]) -> None:
    """What no wave can know alone: names, shares, and who comes after ``rest``."""
    names: set[str] = set()
    named: dict[str, str] = {}
    total, rest = 0, ""
    for wave, row in zip(waves, rows, strict=True):
        if wave.name in names:
            row.fail(f"the name {wave.name!r} stands twice")
        names.add(wave.name)
        total += wave.number if wave.by == "percent" else 0
        if total > 100:
            row.fail(f"the percentages add up to {total}, more than 100")
        if rest and wave.by != "devices":
            row.fail(f"no device is left for it after wave {rest!r}, which takes the rest")
        rest = rest or (wave.name if wave.by == "rest" else "")
        for device in wave.devices:
            if device in named:
                row.fail(f"device {device} stands in wave {named[device]!r} already")
            named[device] = wave.name


def _devices(node: Node) -> tuple[str, ...]:
    listed = tuple(yaml_values.identifier(row) for row in node.sequence())
    if not listed:
        node.fail("expected at least one device id")
    return listed


def _gate(node: Node | None, default: Gate) -> Gate:
    if node is None:
        return default
    items = node.mapping(_GATE)
    return msgspec.structs.replace(default, **{k: values.budget(v) for k, v in items.items()})


def _limits(node: Node | None) -> Limits:
    if node is None:
        return Limits()
    items = node.mapping(_LIMITS)
    given: dict[str, int | str] = {}
    for name in ("in_flight", "batch", "max_unavailable"):
        if name in items:
            given[name] = yaml_values.integer(items[name], 1, 1_000_000)
    if "order_lifetime" in items:
        given["order_lifetime"] = yaml_values.duration(items["order_lifetime"])
    if "group_by" in items:
        given["group_by"] = values.label_key(items["group_by"])
    if ("group_by" in items) != ("max_unavailable" in items):
        node.fail("group_by and max_unavailable belong together")
    return msgspec.structs.replace(Limits(), **given)
