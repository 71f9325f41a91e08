"""Twenty devices on an emulated AWS, from their requests to a release that goes back by itself.

S3, IoT Jobs, SQS and MQTT with mTLS are the emulator's; agents, engine, registry and policies are
the product's own. The engine is a process, killed in the middle and started again; one device is
revoked on the way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulators.awsplant import AwsPlant, Front
from simulators.ministack import Account
from simulators.plant import TREE

from ota import shipped
from ota.infra import render, stacks, values

FLEET = tuple(f"press-{n:02}" for n in range(20))
REVOKED = FLEET[-1]
WAVES = (
    {"name": "canary", "devices": list(FLEET[:2])},
    {"name": "some", "devices": list(FLEET[2:8])},
    {"name": "rest", "rest": True},
)
ONE = "app 1.0.0"


def device_policy(aws: Account) -> str:
    """The policy that `ota infra render` makes for devices, for this account and region.

    The emulator knows neither the thing's name in a policy nor whether it is attached: the name is
    opened to the fleet, the condition taken out. That one device can not touch another's topics is
    shown by ``test_infra.py`` on the policy as it is, and on a broker by ``test_feed_*``.
    """
    folder = shipped.folder("playbooks") / "aws"
    text = (folder / "infra.toml").read_text().replace("111122223333", aws.id)
    text = text[: text.index("[network]")].replace("eu-central-1", aws.region)
    found = values.read(text.encode(), "infra.toml")
    policies = stacks.policies(stacks.parse(render.render(folder, found)), found)
    (document,) = [p.document for p in policies if p.kind == "iot" and p.owner == "ota-device"]
    for statement in document["Statement"]:
        statement.pop("Condition", None)
    return json.dumps(document).replace("${iot:Connection.Thing.ThingName}", "press-*")


@pytest.fixture(name="plant")
def _plant(tmp_path: Path, aws: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsPlant]:
    aws.use(monkeypatch)
    with Front(aws) as front:
        plant = AwsPlant(tmp_path / "plant", aws, front)
        plant.enrol(*FLEET, policy=device_policy(aws))
        plant.publish(plant.build("1.0.0"), plant.build("2.0.0"))
        yield plant
        plant.wiring.close()


def engine(plant: AwsPlant, rollout: str) -> subprocess.Popen[bytes]:
    """``ota rollout run`` as a process of its own."""
    words = ["-C", str(plant.workspace), "rollout", "run", rollout, "--interval", "1s"]
    with (plant.folder / "engine.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ota", *words], cwd=TREE, stdout=log, stderr=log
        )


def until(plant: AwsPlant, done: Callable[[], bool], *, look: bool = True) -> None:
    """Devices that have a job look, until it is so."""
    end = time.monotonic() + 120
    while not done():
        log = (plant.folder / "engine.log").read_text()[-2000:]
        assert time.monotonic() < end, f"{plant.runs()}\n{log}"
        if look:
            plant.look(hinted=True)
        time.sleep(0.1)


def jobs(plant: AwsPlant, rollout: str) -> list[str]:
    found = plant.aws.client("iot").list_jobs()["jobs"]
    return sorted(j["jobId"] for j in found if rollout in j["jobId"])


def test_from_enrolment_to_a_release_that_goes_back(plant: AwsPlant) -> None:
    """Three waves over IoT Jobs, a killed engine, a revoked device, and a bad release."""
    # -- 1.0.0, in three waves; the engine dies as its first job stands
    rollout = plant.start("one", "1.0.0", WAVES)
    first = engine(plant, rollout)
    try:
        until(plant, lambda: bool(jobs(plant, rollout)), look=False)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    assert set(plant.runs().values()) == {""}
    # -- one device is revoked before its wave
    found = plant.wiring.lifecycle.revoke(REVOKED, plant.now())
    assert len(found.certificates) == 1
    second = engine(plant, rollout)
    try:
        until(plant, lambda: second.poll() is not None)
    finally:
        second.kill()
        second.wait()
    assert second.returncode == 0
    status = plant.status(rollout)
    assert status["state"] == "COMPLETED"
    served = [d for d in FLEET if d != REVOKED]
    assert plant.runs() == dict.fromkeys(served, ONE) | {REVOKED: ""}
    orders = [e["body"] for e in plant.wiring.campaign.history(rollout) if e["kind"] == "order"]
    assert {o["wave"] for o in orders} == {0, 1, 2}
    assert sorted(o["id"] for o in orders) == jobs(plant, rollout)
    assert not [o for o in orders if REVOKED in o["devices"]]
    # -- a revoked device is heard by nobody: not by the broker, not by the registry
    plant[REVOKED].look()
    assert plant[REVOKED].running is None
    assert plant[REVOKED].reports() == []
    # -- 2.0.0 is bad: the canary reverts, and goes back; nobody else ever hears of it
    for device in FLEET[:2]:
        plant[device].be("sick")
    bad = plant.start("two", "2.0.0", WAVES)
    third = engine(plant, bad)
    try:
        until(plant, lambda: third.poll() is not None)
    finally:
        third.kill()
        third.wait()
    assert third.returncode == 5, (plant.folder / "engine.log").read_text()[-1500:]
    status = plant.status(bad)
    assert (status["state"], status["by_gate"]) == ("ROLLED_BACK", True)
    assert plant.runs() == dict.fromkeys(served, ONE) | {REVOKED: ""}
    orders = [e["body"] for e in plant.wiring.campaign.history(bad) if e["kind"] == "order"]
    assert {d for o in orders for d in o["devices"]} == set(FLEET[:2])
    assert all(plant[d].sound() for d in served)
    assert plant.damage() == []
