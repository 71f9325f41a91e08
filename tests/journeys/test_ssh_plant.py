"""A plant over two couriers: spool and SSH in one wave, one gate, the bad release taken back.

Two cells behind a jump host, over real sshd in network namespaces; the north has no way to the
store but its mirrors. Agents, repositories, registry and engine are the product's own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulators.sshd import commands
from simulators.sshplant import Cells, SshPlant

ONE = "app 1.0.0"
TWO = "app 2.0.0"
FLEET = ("s-1", "s-2", "n-1", "n-2", "m-1", "m-2")


@pytest.fixture(scope="module")
def cells(ground: Path) -> Iterator[Cells]:
    with Cells(ground / "ssh") as made:
        yield made


@pytest.fixture(scope="module")
def frozen(ground: Path, cells: Cells) -> Iterator[SshPlant]:
    """Six devices that run 1.0.0, which all took in one wave; 2.0.0 is published."""
    plant = SshPlant(ground / "plant", cells, ["s-1", "s-2"])
    plant.join_cell("north", "n-1", "n-2")
    plant.join_cell("south", "m-1", "m-2")
    plant.publish(plant.build("1.0.0"), plant.build("2.0.0"))
    rollout = plant.start("one", "1.0.0")
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert plant.runs() == dict.fromkeys(FLEET, ONE)
    orders = [e for e in plant.wiring.campaign.history(rollout) if e["kind"] == "order"]
    assert {e["body"]["courier"] for e in orders} == {"spool", "ssh"}
    assert {e["body"]["wave"] for e in orders} == {0}
    plant.freeze()
    yield plant
    plant.wiring.close()


@pytest.fixture
def plant(frozen: SshPlant) -> Iterator[SshPlant]:
    """The same plant for each test; looks that a visit has started end before the next one."""
    frozen.thaw()
    yield frozen
    until = time.monotonic() + 60
    while any(str(frozen.folder) in line for line in commands()):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_one_gate_counts_all_couriers(plant: SshPlant) -> None:
    """A device behind the jump host reverts: everybody goes back by itself, over both couriers."""
    plant["n-2"].be("sick")
    rollout = plant.start("two", "2.0.0", gate={"reverted": 0})
    took = set()
    for _ in range(40):
        plant.step(rollout)
        if plant.status(rollout)["state"] == "ROLLED_BACK":
            break
        plant.look(hinted=True)
        took |= {device for device, runs in plant.runs().items() if runs == TWO}
        plant.later(seconds=1)
    status = plant.status(rollout)
    assert (status["state"], status["by_gate"]) == ("ROLLED_BACK", True)
    assert took == set(FLEET) - {"n-2"}
    assert plant.runs() == dict.fromkeys(FLEET, ONE)
    assert {d for d in FLEET if plant[d].denied} == {"n-2"}
    assert all(plant[d].sound() for d in FLEET)


def test_a_cell_that_is_cut_off_is_counted_and_comes_back(plant: SshPlant, cells: Cells) -> None:
    """Unreachable with the reason, HOLD; visited by name once mended, and the rollout goes on."""
    cells.far["south"].stop()
    rollout = plant.start("two", "2.0.0", gate={"unreachable": 0})
    plant.step(rollout)
    plant.look(hinted=True)
    plant.step(rollout)
    status = plant.status(rollout)
    assert status["state"] == "HELD"
    assert status["reasons"] == ["wave all: 2 unreachable, the budget is 0"]
    assert status["held_on"].keys() == {"m-1", "m-2"}
    why = "unreachable: ssh-unreachable: m-1 (10.77.2.2:2222): the hop before it"
    assert status["held_on"]["m-1"].startswith(why)
    cells.far["south"].start()
    ran = plant.ota("ssh", "visit", "--limit", "m-1,m-2", "-o", "json")
    assert ran.returncode == 0, ran.stderr
    assert [row["result"] for row in json.loads(ran.stdout)] == ["ok", "ok"]
    plant.wiring.campaign.resume(rollout, plant.now())
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert {d for d, r in plant.runs().items() if r == TWO} == {"s-1", "s-2", "n-1", "n-2"}
    assert plant.roll_out("rest", "2.0.0")["state"] == "COMPLETED"
    assert plant.runs() == dict.fromkeys(FLEET, TWO)


def test_a_mirror_is_not_believed(plant: SshPlant) -> None:
    """Whoever changes it on the way is refused by the device; pushed anew, it installs."""
    rollout = plant.start("two", "2.0.0")
    plant.step(rollout)
    (image,) = (plant.mirror("n-1") / "image" / "targets" / "app").iterdir()
    assert image.read_bytes() == TWO.encode()
    image.write_bytes(b"app 6.6.6")
    plant["n-1"].look()
    assert plant["n-1"].told()[-1] == "image-mismatch"
    assert plant["n-1"].running == ONE.encode()
    ran = plant.ota("ssh", "push", "--limit", "n-1", "-o", "json")
    assert ran.returncode == 0, ran.stderr
    (row,) = json.loads(ran.stdout)
    assert (row["files"], row["result"]) == (1, "ok")
    plant["n-1"].look()
    assert plant["n-1"].running == TWO.encode()


def test_a_pause_reaches_a_mirror(plant: SshPlant) -> None:
    """What was withdrawn is withdrawn there too: a device that looks late installs nothing."""
    rollout = plant.start("two", "2.0.0")
    plant.step(rollout)
    plant.wiring.campaign.pause(rollout, plant.now())
    plant.step(rollout)
    for device in ("n-1", "n-2", "m-1", "s-1"):
        assert not plant[device].hinted
        plant[device].look()
    assert plant.runs() == dict.fromkeys(FLEET, ONE)
    plant.wiring.campaign.resume(rollout, plant.now())
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert plant.runs() == dict.fromkeys(FLEET, TWO)


def test_devices_without_a_running_agent(plant: SshPlant, cells: Cells) -> None:
    """``look``: the visit starts a cycle that outlives it, whoever cuts the connection."""
    for device in ("n-1", "m-1"):
        plant.hosts[device]["look"] = True
    plant.reopen()
    rollout = plant.start("two", "2.0.0", [{"name": "two", "devices": ["n-1", "m-1"]}])
    plant.step(rollout)
    for server in (*cells.far.values(), cells.jump):
        server.cut()
    until = time.monotonic() + 60
    while plant.step(rollout).state == "RUNNING":
        assert time.monotonic() < until, plant.status(rollout)
        plant.later(seconds=1)
        time.sleep(0.1)
    assert plant.status(rollout)["state"] == "COMPLETED"
    assert (plant["n-1"].running, plant["m-1"].running) == (TWO.encode(),) * 2


def test_a_jump_host_with_another_key(plant: SshPlant, cells: Cells) -> None:
    """Nobody behind it is touched, the spool's devices go on, and the reason names the hop."""
    cells.jump.stop()
    cells.jump.rekey()
    cells.jump.start()
    plant.hosts = {name: dict(words) for name, words in plant.hosts.items()}
    rollout = plant.start("two", "2.0.0", gate={"unreachable": 4})
    plant.step(rollout)
    said = json.dumps(plant.status(rollout))
    assert "host-key-changed: jump shows" in said
    assert [d for d in FLEET if plant[d].hinted] == ["s-1", "s-2"]
    checked = plant.ota("ssh", "check", "-o", "json")
    assert checked.returncode == 3
    assert {row["result"] for row in json.loads(checked.stdout)} == {"host-key-changed"}
    plant.reopen()
    assert plant.ota("ssh", "check").returncode == 0
