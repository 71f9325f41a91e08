"""What ``ota-agent status`` and ``verify`` say. Both only read, and need no network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from ota.agent import build, identity, parts, waiting
from ota.agent.config import Config
from ota.agent.state import State
from signing.errors import OtaError, Outage


def status(config: Config) -> dict[str, Any]:
    """Installed contents, running updates, floors, trusted versions, reports that wait."""
    state = State.open(config.state, read_only=True)
    try:
        made = build.components(config)
        director, image = build.trust_room(config, build.downloader(config)).versions()
        return {
            "device": config.device,
            "state_id": state.get("state_id"),
            "components": msgspec.to_builtins(parts.inventory(made, state)),
            "updates": [
                {
                    "component": u.component,
                    "state": u.state,
                    "order": u.assignment.order,
                    "path": u.release.path,
                    "code": u.code,
                }
                for u in state.updates()
            ],
            "playbook": _run(state),
            "floors": state.floors(),
            "denied": [
                {"component": c, "sha256": sha256, "order": order}
                for (c, sha256), order in state.denials().items()
            ],
            "clock_floor": state.get("clock_floor"),
            "director": msgspec.to_builtins(director),
            "image": msgspec.to_builtins(image),
            "last_trouble": state.get("cycle_code"),
            "feed": {"kind": config.feed.kind, "trouble": state.get(waiting.TROUBLE)},
            "reports_waiting": len(state.outbox()),
            "needs_human": [n for n in made if state.get(f"needs_human {n}")],
        }
    finally:
        state.close()


def _run(state: State) -> dict[str, Any]:
    """The playbook that has begun and not ended."""
    run = state.runs.open()
    if run is None:
        return {}
    steps = [{"name": s.name, "outcome": s.outcome, "code": s.code} for s in run.steps]
    said = {"order": run.order, "path": run.assignment.path, "state": run.state}
    return said | {"code": run.code, "steps": steps}


def lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    rows = [f"device     {found['device']}"]
    for name, component in found["components"].items():
        current = component["current"] or {"version": "nothing", "sha256": ""}
        words = f"{current['version'] or 'unmanaged'} {current['sha256'][:12]}"
        rows.append(f"component  {name}  {words}  floor {component['floor']}")
    rows += [f"update     {u['component']}  {u['state']}  {u['order']}" for u in found["updates"]]
    if run := found["playbook"]:
        rows.append(f"playbook   {run['path']}  {run['state']}  {len(run['steps'])} steps done")
    rows += [f"denied     {d['component']}  {d['sha256'][:12]}" for d in found["denied"]]
    for name in ("director", "image"):
        v = found[name]
        rows.append(f"{name:<10} root {v['root']}, timestamp {v['timestamp']}")
    rows.append(f"trouble    {found['last_trouble'] or 'none'}")
    rows.append(f"feed       {found['feed']['kind']}  {found['feed']['trouble'] or 'no trouble'}")
    rows.append(f"reports    {found['reports_waiting']} waiting")
    return rows


def verify(config: Config) -> list[str]:
    """Faults of this device: journal, identity, trust folders, running slots; none is sound."""
    state = State.open(config.state, read_only=True)
    try:
        damage = state.damage()
        faults = [f"journal: {damage}"] if damage else []
        for name, check in _checks(config, state).items():
            try:
                check()
            except OtaError as e:
                faults.append(f"{name}: {e} ({e.code})")
        return faults
    finally:
        state.close()


def _checks(config: Config, state: State) -> dict[str, Callable[[], None]]:
    """What is looked at, by name; each raises when something is wrong."""
    room = build.trust_room(config, build.downloader(config))
    checks: dict[str, Callable[[], None]] = {
        "identity": partial(identity.check, config.state / "identity", config.identity),
        "trust": room.check,
    }
    for name, part in build.components(config).items():
        checks[f"component {name}"] = partial(_slot, part, state)
    return checks


def _slot(part: parts.Component, state: State) -> None:
    """The running slot holds, unchanged, something that this device knows it installed."""
    current = part.installer.inspect().current
    known = state.images(part.name)
    if known and current not in known:
        raise Outage("what runs was not installed by this agent", code="unknown-content")
    if current in known and known[current].path and not part.installer.verify_active(current):
        raise Outage(f"what runs is not {known[current].path}", code="not-active")
