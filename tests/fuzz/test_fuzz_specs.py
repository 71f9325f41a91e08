"""Specs: a plan that can be signed and read again, or an error that names file, line and key."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.fleet_sim import WORKSPACE, release
from simulators.identities import HARDWARE, START, Identity, running
from simulators.mutations import budget, damaged, dumps, mutated

from ota.errors import Malformed, NotFound
from ota.ports import Device
from ota.rollout import plan_view, planning, spec
from signing import statement
from signing.plan import Plan, read_plan, sign_plan

AUTHOR = Identity("author")
KEY = Identity("gw").signer.public_key
RELEASES = {r.path: r for r in (release("1.0.0"), release("2.0.0"))}
FLEET = [
    Device(
        id=f"gw-{n}",
        key=KEY,
        state="active",
        state_id="s",
        counter=1,
        courier="spool",
        labels={"site": "lyon" if n % 2 else "graz", "cell": f"c{n // 3}"},
        components={"app": running("app-1", hardware=HARDWARE)},
        last_seen=START,
        held_state_id="",
    )
    for n in range(9)
]
DOCUMENT: dict[str, Any] = {
    "rollout": "app-2",
    "release": ["app@2.0.0"],
    "select": "site in (lyon, graz)",
    "seen_within": "7d",
    "waves": [
        {"name": "canary", "count": 1, "soak": "1h", "deadline": "4h"},
        {"name": "named", "devices": ["gw-7", "gw-8"], "gate": {"silent": "10%"}},
        {"name": "tenth", "percent": 10, "allow_empty": True},
        {"name": "graz", "select": "site=graz"},
        {"name": "rest", "rest": True},
    ],
    "soak": "10m",
    "deadline": "1d",
    "gate": {"min_sample": 1, "failed": 0, "stale": "5%"},
    "limits": {"in_flight": 100, "batch": 50, "group_by": "cell", "max_unavailable": 1},
    "tail_until": "7d",
    "expires": "30d",
    "on_failure": "rollback",
    "supersedes": ["app-1-x7k2m9"],
    "clear_denials": False,
}


def planned(data: bytes) -> Plan | None:
    """The plan of a spec, signed and read again; None when it was refused with a place."""
    try:
        found = spec.read(data, "app-2.yaml")
        plan = planning.make(found, FLEET, RELEASES, WORKSPACE, START, {}, token="x7k2m9")
    except (Malformed, NotFound) as error:
        assert "app-2.yaml" in str(error)
        return None
    again = read_plan(statement.peek("plan", sign_plan(plan, AUTHOR.signer)))
    assert again == plan
    assert json.dumps(plan_view.describe(again))
    named = [row.device for wave in plan.waves for row in wave.devices]
    assert len(named) == len(set(named))
    assert set(named) | {e.device for e in plan.excluded} <= {d.id for d in FLEET} | {
        device for wave in found.waves for device in wave.devices
    }
    return plan


def test_the_example_is_planned() -> None:
    """What the examples begin with takes the whole fleet."""
    plan = planned(dumps(DOCUMENT))
    assert plan is not None
    assert len(plan.rows) == len(FLEET)


@budget(2.5)
@given(mutated(DOCUMENT))
def test_mutated(document: Any) -> None:
    """Keys and values of every kind, in every place (JSON is YAML)."""
    planned(dumps(document))


@budget(1)
@given(damaged(dumps(DOCUMENT), others=b"&a *a !!python/object: - ? | > % @ ` \t---\n" * 2))
def test_damaged_bytes(data: bytes) -> None:
    """Cut, with YAML's own marks anywhere."""
    planned(data)


@budget(0.5)
@given(st.text(max_size=120))
def test_any_text(text: str) -> None:
    """Anything at all in its place."""
    assert planned(text.encode("utf-8", "surrogatepass")) is None
