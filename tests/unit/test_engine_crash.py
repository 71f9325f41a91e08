"""The engine killed at every call of every port, before and after its effect.

A fresh engine then steps on. The end must be the same as without the kill, every device must have
had each order once, and no device may be left with an assignment that the undisturbed run lacks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulators.fleet_sim import World
from simulators.stopping import Killed

from ota.errors import Misuse
from signing.plan import Limits

ROLLOUT = "app-2-x7k2m9"


def forward(world: World) -> None:
    """Two waves, small batches: completes."""
    alive(world, lambda: world.start(1, 2, limits=Limits(batch=1)))
    settle(world)


def back(world: World) -> None:
    """A sick canary beside a healthy one, a third that never comes: rolled back."""
    world.devices["d001"].mood = "sick"
    world.devices["d002"].mood = "off"
    alive(world, lambda: world.start(3))
    settle(world)


def paused(world: World) -> None:
    """Paused while two devices are pending, resumed, completed."""
    alive(world, lambda: world.start(3))
    alive(world, world.step)
    world.poll("d000")
    alive(world, lambda: world.campaign.pause(ROLLOUT, world.now))
    alive(world, world.step)
    alive(world, lambda: world.campaign.resume(ROLLOUT, world.now))
    settle(world)


def aborted(world: World) -> None:
    """Aborted while devices are pending: everything not activated is taken back."""
    alive(world, lambda: world.start(3))
    alive(world, world.step)
    world.poll("d000")
    alive(world, lambda: world.campaign.abort(ROLLOUT, world.now, "leave"))
    alive(world, world.step)


def alive(world: World, act: Callable[[], Any]) -> None:
    """Do it; after a kill, start a fresh engine and do it again."""
    try:
        act()
    except Killed:
        world.campaign = world.fresh()
        with contextlib.suppress(Misuse):  # it had been done before the kill
            act()


def settle(world: World) -> None:
    """Drive to the end, surviving one kill."""
    for _ in range(2):
        try:
            world.drive()
        except Killed:
            world.campaign = world.fresh()


def end(world: World) -> dict[str, Any]:
    """What must not depend on where it was killed."""
    status = world.status()
    return {
        "state": status["state"],
        "runs": world.runs(),
        "outcomes": world.outcomes(),
        "waves": [{k: v for k, v in w.items() if isinstance(v, int)} for w in status["waves"]],
        "assigned": {d: {c: a.order for c, a in m.items()} for d, m in world.desk.current.items()},
        "hints": sorted(world.courier.hints),
        "desk": sorted(world.desk.log),
        "left": [len(world.courier.inbox), len(world.courier.quarantined)],
    }


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scenario", [forward, back, paused, aborted])
def test_killed_at_every_call(
    tmp_path: Path, scenario: Callable[[World], None], *, after: bool
) -> None:
    """Same end, each order once to each device, wherever the engine dies."""
    honest = World(tmp_path, devices=3)
    scenario(honest)
    wanted = end(honest)
    assert len(set(wanted["hints"])) == len(wanted["hints"])
    for at in range(1, honest.fuse.calls + 1):
        world = World(tmp_path, devices=3)
        world.fuse.at, world.fuse.after = at, after
        scenario(world)
        found = end(world)
        assert found == wanted, f"killed at call {at}"
        world.journal.verify(ROLLOUT)
