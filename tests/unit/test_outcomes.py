"""One device's outcome from journal and report, as a table, without an engine."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from simulators.fleet_sim import World, told
from simulators.identities import START

from ota.ports import Event
from ota.rollout.outcomes import exposed, judge
from ota.rollout.replay import RolloutView, fold
from signing import strict
from signing.plan import Gate, Plan
from signing.report import Report

R = "app-2-x7k2m9"
U1, U2, R1 = f"ota-{R}-u1-w0-b0", f"ota-{R}-u2-w0-b0", f"ota-{R}-r1-w0-b0"
LATER = strict.stamp(START + timedelta(days=3))
Step = tuple[str, dict[str, Any]]


def order(name: str = U1, kind: str = "update", attempt: int = 1) -> Step:
    return "order", {
        "id": name,
        "kind": kind,
        "wave": 0,
        "attempt": attempt,
        "devices": ["d000"],
        "courier": "sim",
        "snapshot": 1,
        "not_after": LATER,
    }


def dispatched(name: str = U1, **more: Any) -> Step:
    return "dispatched", {"id": name, "unreachable": {}, "unassigned": [], "refused": {}} | more


def withdrawn(name: str = U1) -> Step:
    return "withdrawn", {"id": name, "devices": {"d000": LATER}}


def notice(event: str = "refusal", counter: int = 9) -> Step:
    return "notice", {
        "device": "d000",
        "event": event,
        "code": "signature",
        "state_id": "state-1",
        "counter": counter,
    }


STARTED: list[Step] = [
    ("drafted", {"plan": "p", "digest": "d"}),
    ("approved", {}),
    ("started", {}),
]
PAUSED: Step = ("paused", {"keep": False})
RESUMED: Step = ("resumed", {"accepted": []})
ACCEPTED: Step = ("resumed", {"accepted": ["d000"]})
BACK: Step = ("rolling-back", {"partial": False, "automatic": True})
LEFT: Step = ("left-out", {"devices": {"d000": "it differs"}})


def view(*steps: Step) -> RolloutView:
    events = [
        Event(R, n, START, kind, body) for n, (kind, body) in enumerate([*STARTED, *steps], 1)
    ]
    return fold(R, events)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(Path(tmp_path_factory.mktemp("outcomes")), devices=1)


@pytest.fixture(scope="module")
def plan(world: World) -> Plan:
    return world.plan(1, deadline=60, gate=Gate())


def report(
    world: World, outcome: str, phase: str, name: str = U1, code: str = "", counter: int = 5
) -> Report:
    """What the device signed, as the registry gives it."""
    kind = "rollback" if "-r" in name.removeprefix(f"ota-{R}") else "update"
    target = world.old if kind == "rollback" else world.new
    device = world.devices["d000"]
    device.runs = target if outcome == "committed" else world.old
    body = device.identity.body(counter, components=device.state(), code=code)
    update = told(_wanted(world, name, kind), phase, outcome)
    return msgspec.structs.replace(body, event="outcome", update=update)


def _wanted(world: World, name: str, kind: str) -> Any:
    target = world.old if kind == "rollback" else world.new

    class Wanted:
        order, rollout, wave, component = name, R, 0, "app"
        path, sha256 = target.path, target.sha256

    Wanted.kind = kind  # type: ignore[attr-defined]  # built above
    return Wanted


@pytest.mark.parametrize(
    ("steps", "said", "seconds", "outcome", "took"),
    [
        ([], None, 0, "waiting", False),
        ([LEFT], None, 0, "left_out", False),
        ([order()], None, 0, "pending", False),
        ([order(), dispatched()], None, 59, "pending", False),
        ([order(), dispatched()], None, 60, "silent", False),
        ([order(), dispatched(unreachable={"d000": "x"})], None, 99, "unreachable", False),
        ([order(), dispatched(refused={"d000": "x"})], None, 0, "left_out", False),
        ([order()], ("in_progress", "DOWNLOADING"), 0, "in_progress", False),
        ([order()], ("in_progress", "TRIAL"), 0, "in_progress", True),
        ([order()], ("in_progress", "TRIAL"), 60, "silent", True),
        ([order()], ("committed", "DONE"), 999, "committed", True),
        ([order()], ("failed", "FAILED"), 0, "failed", False),
        ([order()], ("failed", "NEEDS_HUMAN"), 0, "failed", True),
        ([order()], ("reverted", "ROLLED_BACK"), 0, "reverted", False),
        ([order()], ("refused", "VERIFIED"), 0, "refused", False),
        ([order()], ("stale", "IDLE"), 0, "stale", False),
        (
            [order(), dispatched(unreachable={"d000": "x"})],
            ("committed", "DONE"),
            0,
            "committed",
            True,
        ),
        ([order(), notice()], None, 0, "refused", False),
        ([order(), notice("stale")], None, 0, "stale", False),
        ([order(), notice()], ("in_progress", "DOWNLOADING"), 0, "refused", False),
        ([order(), notice()], ("in_progress", "TRIAL"), 0, "refused", True),
        ([order(), notice(counter=4)], ("in_progress", "DOWNLOADING"), 0, "in_progress", False),
        ([order(), notice()], ("committed", "DONE"), 0, "committed", True),
        ([order(), PAUSED, withdrawn()], None, 0, "withdrawn", False),
        ([order(), PAUSED, withdrawn(), RESUMED], None, 0, "waiting", False),
        ([order(), PAUSED, withdrawn(), ACCEPTED], None, 0, "withdrawn", False),
        ([order(), PAUSED, withdrawn()], ("committed", "DONE"), 0, "committed", True),
        ([order(), PAUSED, withdrawn()], ("in_progress", "TRIAL"), 0, "in_progress", True),
        ([order(), PAUSED, withdrawn()], ("in_progress", "STAGING"), 0, "withdrawn", False),
        ([order(), PAUSED, withdrawn(), RESUMED, order(U2, attempt=2)], None, 0, "pending", False),
        (
            [order(), PAUSED, withdrawn(), RESUMED, order(U2, attempt=2)],
            ("failed", "FAILED"),
            0,
            "pending",
            False,
        ),
        (
            [order(), PAUSED, withdrawn(), RESUMED, order(U2, attempt=2)],
            ("committed", "DONE"),
            0,
            "committed",
            True,
        ),
        ([order(), BACK, order(R1, "rollback")], ("committed", "DONE"), 0, "returning", True),
        ([order(), BACK, order(R1, "rollback")], ("reverted", "ROLLED_BACK"), 0, "returned", False),
        ([order(), BACK, order(R1, "rollback")], ("committed", "DONE", R1), 0, "returned", False),
        ([order(), BACK, order(R1, "rollback")], ("failed", "FAILED", R1), 0, "stranded", True),
        ([order(), BACK, order(R1, "rollback")], None, 60, "stranded", True),
    ],
)
def test_one_device(
    world: World,
    plan: Plan,
    steps: list[Step],
    said: tuple[str, ...] | None,
    seconds: int,
    outcome: str,
    took: bool,
) -> None:
    """Journal and report in, outcome and "may run the release" out."""
    reports = {} if said is None else {"d000": report(world, *said)}
    now = START + timedelta(seconds=seconds)
    found = judge(plan, view(*steps), reports, now)
    assert (found.results["d000"].outcome, found.results["d000"].took) == (outcome, took)
    assert found.mismatched == {}
    assert sum(vars(found.tally(plan, view(*steps), 0)).values()) == 2, "size, and one device"


def test_a_withdrawal_that_the_device_confirms_is_no_failure(world: World, plan: Plan) -> None:
    """``withdrawn`` is what we asked for; the same word about a standing order is a failure."""
    said = {"d000": report(world, "failed", "FAILED", code="withdrawn")}
    asked = judge(plan, view(order(), PAUSED, withdrawn()), said, START)
    assert asked.results["d000"].outcome == "withdrawn"
    unasked = judge(plan, view(order()), said, START)
    assert unasked.results["d000"].outcome == "failed"


def test_exposure_ends(world: World, plan: Plan) -> None:
    """Exposed until the old timestamp expires, or until the device has taken it anyway."""
    stopped = view(order(), PAUSED, withdrawn())
    quiet = judge(plan, stopped, {}, START)
    assert list(exposed(stopped, quiet, START)) == ["d000"]
    assert exposed(stopped, quiet, START + timedelta(days=3)) == {}
    took = judge(plan, stopped, {"d000": report(world, "committed", "DONE")}, START)
    assert exposed(stopped, took, START) == {}
