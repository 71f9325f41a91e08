"""One rollout over spool, SSH and Systems Manager: one wave, one gate, and one way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from simulators.edgeplant import EdgePlant
from simulators.sshplant import Cells
from simulators.ssmfake import FakeSsm

ONE = "app 1.0.0"
TWO = "app 2.0.0"
FLEET = ("s-1", "s-2", "n-1", "m-1", "w-1", "w-2")


@pytest.fixture(scope="module", name="edge")
def _edge(ground: Path) -> Iterator[EdgePlant]:
    """Two devices by spool, one in each of two cells behind a jump host, two managed nodes."""
    with (
        pytest.MonkeyPatch.context() as patch,
        Cells(ground / "ssh") as cells,
        FakeSsm(ground / "ssm") as ssm,
    ):
        ssm.use(patch)
        plant = EdgePlant(ground / "plant", cells, ssm, ["s-1", "s-2"])
        plant.join_cell("north", "n-1")
        plant.join_cell("south", "m-1")
        plant.join_nodes("w-1", "w-2")
        plant.publish(plant.build("1.0.0"), plant.build("2.0.0"))
        plant.first = plant.start("one", "1.0.0")
        assert plant.drive(plant.first)["state"] == "COMPLETED"
        yield plant
        plant.wiring.close()


def test_a_good_release_and_a_bad_one(edge: EdgePlant) -> None:
    """All take 1.0.0 in one wave. A managed node reverts 2.0.0: it goes back everywhere by itself.

    One gate counts the same signed reports, whoever carried them.
    """
    assert edge.runs() == dict.fromkeys(FLEET, ONE)
    orders = [e["body"] for e in edge.wiring.campaign.history(edge.first) if e["kind"] == "order"]
    assert {o["courier"] for o in orders} == {"spool", "ssh", "ssm"}
    assert {o["wave"] for o in orders} == {0}

    edge["w-2"].be("sick")
    rollout = edge.start("two", "2.0.0", gate={"reverted": 0})
    took = set()
    for _ in range(40):
        edge.step(rollout)
        if edge.status(rollout)["state"] == "ROLLED_BACK":
            break
        edge.look(hinted=True)
        took |= {device for device, runs in edge.runs().items() if runs == TWO}
        edge.later(seconds=2)
    status = edge.status(rollout)
    assert (status["state"], status["by_gate"]) == ("ROLLED_BACK", True)
    assert took == set(FLEET) - {"w-2"}
    assert edge.runs() == dict.fromkeys(FLEET, ONE)
    assert {d for d in FLEET if edge[d].denied} == {"w-2"}
    assert all(edge[d].sound() for d in FLEET)


def test_a_node_that_is_offline_is_counted_as_unreachable(edge: EdgePlant) -> None:
    """HOLD with AWS's word for it; a person resumes, and back online it takes the next rollout."""
    edge["w-2"].be("sick", now=False)
    edge.ssm.node("w-1").ping = "ConnectionLost"
    rollout = edge.start("three", "2.0.0", gate={"unreachable": 0}, select="id in (w-1, s-1)")
    edge.step(rollout)
    edge.look(hinted=True)
    edge.step(rollout)
    status = edge.status(rollout)
    assert status["state"] == "HELD"
    assert status["held_on"].keys() == {"w-1"}
    assert "ssm-offline" in status["held_on"]["w-1"]
    assert "ConnectionLost" in status["held_on"]["w-1"]
    edge.ssm.node("w-1").ping = "Online"
    edge.wiring.campaign.resume(rollout, edge.now())
    assert edge.drive(rollout)["state"] == "COMPLETED"
    assert (edge.runs()["w-1"], edge.runs()["s-1"]) == (ONE, TWO)
    edge.later(minutes=1)
    assert edge.roll_out("four", "2.0.0", select="id=w-1")["state"] == "COMPLETED"
    assert edge.runs()["w-1"] == TWO
