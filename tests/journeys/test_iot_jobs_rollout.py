"""Rollouts over ``iot-jobs``: three waves, a bad release, and everything that goes wrong at AWS.

Engine, journal, registry and signed reports are real; AWS is the strict one in memory
(``simulators/iotworld.py``). Every test asserts what devices run and what the journal says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from simulators.awsfake import FakeAws
from simulators.iotworld import IotWorld
from simulators.plant import Plant
from simulators.stopping import Killed

from signing.plan import Gate

ROLLOUT = "app-2-x7k2m9"
FIRST = f"ota-{ROLLOUT}-u1-w0-b0"
Made = Callable[..., IotWorld]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Made:
    def made(devices: int = 6, **options: object) -> IotWorld:
        fake = FakeAws()
        fake.environment(monkeypatch)
        return IotWorld(tmp_path, fake, devices, **options)

    return made


def hear(world: IotWorld) -> list[str]:
    """Devices act, then a step: its problems."""
    world.poll()
    world.tick()
    return world.step().problems


# -- as it should be -----------------------------------------------------------------------------
def test_three_waves(make: Made) -> None:
    """One job a wave, in turn; each device's execution ends; every signed report was counted."""
    world = make(6)
    world.start(1, 2, 3)
    assert world.drive() == "COMPLETED"
    assert set(world.runs().values()) == {"2.0.0"}
    assert list(world.fake.jobs) == [FIRST.replace("-w0-", f"-w{n}-") for n in range(3)]
    ended = {s for job in world.fake.jobs.values() for s in job.executions.values()}
    assert ended == {"SUCCEEDED"}
    assert all(device.counter == 4 for device in world.devices.values())
    assert {d.counter for d in world.registry.devices()} == {4}


def test_a_bad_release_goes_back_by_itself(make: Made) -> None:
    """The canary's orders back are jobs of their own; nobody else was ever touched."""
    world = make(6)
    world.devices["d001"].mood = "sick"
    world.start(2, 4)
    assert world.drive() == "ROLLED_BACK"
    assert set(world.runs().values()) == {"1.0.0"}
    assert {t for job in world.fake.jobs.values() for t in job.executions} == {"d000", "d001"}
    back = f"ota-{ROLLOUT}-r1-w0-b0"
    assert list(world.fake.jobs[back].executions) == ["d000"]


def test_unsigned_statuses_steer_nothing(make: Made) -> None:
    """AWS says that everything failed; the devices signed that all is well: that counts."""
    world = make(4)
    world.start(2, 2)
    world.step()
    world.poll()
    world.fake.jobs[FIRST].executions = dict.fromkeys(["d000", "d001"], "FAILED")
    world.tick()
    assert world.drive() == "COMPLETED"


# -- crashes -------------------------------------------------------------------------------------
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_killed_in_every_step(make: Made, at: int, *, bad: bool, after: bool) -> None:
    """At its first, second or third call to AWS: a new process goes on, and all ends as it should."""
    world = make(4)
    if bad:
        world.devices["d001"].mood = "sick"
    world.start(2, 2)
    for _ in range(60):
        world.fake.kill = (world.fake.calls.total() + at, after)
        try:
            state = world.step().state
        except Killed:
            world.fake.kill = (0, False)
            world.restart()
            state = world.step().state
        if state not in {"RUNNING", "ROLLING_BACK"}:
            break
        world.fake.kill = (0, False)
        world.poll()
        world.tick()
    assert state == ("ROLLED_BACK" if bad else "COMPLETED")
    assert set(world.runs().values()) == {"1.0.0" if bad else "2.0.0"}
    assert all(device.counter == len(device.done) * 4 or bad for device in world.devices.values())
    assert world.journal.verify(ROLLOUT) == world.status()["events"]


# -- what goes wrong ------------------------------------------------------------------------------
def test_every_message_twice(make: Made) -> None:
    """The second is a duplicate: nothing is counted twice, nothing is a replay."""
    world = make(4)
    world.twice = True
    world.start(2, 2)
    assert world.drive() == "COMPLETED"
    assert {d.counter for d in world.registry.devices()} == {4}
    assert world.fake.queue == []
    assert not list(Path(world.folder).glob("quarantine/*"))


def test_messages_that_never_come(make: Made) -> None:
    """Named while they are missed, silent at the deadline: the gate holds; their jobs are closed."""
    world = make(4)
    world.lost = {"d001"}
    world.start(2, 2, deadline=3600)
    world.step()
    problems: list[str] = []
    for _ in range(70):
        problems += hear(world)
        world.tick(60)
    assert "d001: no report: AWS says SUCCEEDED since 2026-11-23T09:00:00Z" in problems
    status = world.status()
    assert status["lost"] == {"d001": "AWS says SUCCEEDED since 2026-11-23T09:00:00Z"}
    assert world.outcomes()["d001"] == "withdrawn", "it was silent, and the gate took all back"
    assert status["state"] == "ROLLED_BACK"
    assert world.runs()["d002"] == world.runs()["d003"] == "1.0.0"


def test_a_device_that_is_off_is_closed_at_the_deadline(make: Made) -> None:
    """Nothing at AWS waits for it any more; when it comes back it finds its assignment itself."""
    world = make(4)
    world.devices["d001"].mood = "off"
    world.start(4, deadline=3600, gate=Gate(silent="50%"))
    world.step()
    for _ in range(70):
        hear(world)
        world.tick(60)
    job = world.fake.jobs[FIRST]
    assert job.executions["d001"] == "CANCELED"
    assert world.runs()["d001"] == "1.0.0"
    assert world.status()["state"] == "RUNNING"
    world.devices["d001"].mood = "ok"
    hear(world)
    assert world.runs()["d001"] == "2.0.0"
    assert world.drive() == "COMPLETED"


def test_a_job_deleted_by_hand(make: Made) -> None:
    """Said with what to do; the devices poll, report and are counted without it."""
    world = make(4)
    world.start(4, deadline=8 * 3600)
    world.step()
    del world.fake.jobs[FIRST]
    world.tick(3600)
    (problem,) = world.step().problems
    assert "deleted by hand" in problem
    assert "ota rollout pause" in problem
    assert list(world.status()["courier_notes"]) == [FIRST]
    assert world.drive() == "COMPLETED"
    assert world.status()["courier_notes"] == {}


def test_a_job_that_somebody_else_made(make: Made) -> None:
    """An attacker took the order's id first: said each time, and the order waits; no gate moves."""
    world = make(2)
    world.start(2)
    base = "arn:aws:iot:eu-west-1:111122223333:thing"
    honest = world.fake.jobs
    world.fake.fail("CreateJob", "ResourceAlreadyExistsException", times=99)
    world.fake.jobs = {FIRST: make_evil([f"{base}/d000", f"{base}/d001"])}
    (problem,) = world.step().problems
    assert f"job {FIRST} is not our order: its document is another" in problem
    assert "aws iot delete-job" in problem
    assert world.status()["state"] == "RUNNING"
    world.fake.faults.clear()
    world.fake.jobs = honest
    assert world.drive() == "COMPLETED"


def make_evil(targets: list[str]) -> object:
    from simulators.awsfake import Job  # noqa: PLC0415 - only here

    return Job(targets, '{"do":"evil"}', {}, {})


EXPIRED = ("ExpiredTokenException", "the credentials have expired; next: renew them")
DENIED = ("AccessDeniedException", "in the policy of the rollout role")
THROTTLED = ("ThrottlingException", "AWS asks for patience")


@pytest.mark.parametrize(("code", "said"), [EXPIRED, DENIED, THROTTLED])
@pytest.mark.parametrize("operation", ["CreateJob", "ReceiveMessage", "DeleteMessageBatch"])
def test_it_goes_on_when_aws_is_well_again(
    make: Made, operation: str, code: str, said: str
) -> None:
    """Each is a problem with the next command to try; nothing is lost, nobody is blamed for it."""
    world = make(4)
    world.start(2, 2)
    world.fake.fail(operation, code, times=20)
    problems: list[str] = world.step().problems
    for _ in range(3):
        problems += hear(world)
    assert any(said in problem for problem in problems), problems
    assert world.status()["state"] in {"RUNNING", "COMPLETED"}, "devices also poll by themselves"
    assert world.status()["bad"] == {}
    world.fake.faults.clear()
    world.fake.offer_again()
    assert world.drive() == "COMPLETED"
    assert set(world.runs().values()) == {"2.0.0"}


def test_the_wrong_region_blames_no_device(make: Made) -> None:
    """No thing of the order exists there: an error of its own; the order goes once it is mended."""
    world = make(3)
    there, world.fake.things = world.fake.things, set()
    world.start(3)
    (problem,) = world.step().problems
    assert "none of 3 things" in problem
    assert "wrong region or account?" in problem
    assert world.status()["waves"][0]["unreachable"] == 0
    world.fake.things = there
    assert world.drive() == "COMPLETED"


def test_a_thing_that_was_renamed(make: Made) -> None:
    """Unreachable, with its name: the gate's budget decides; the others had their order."""
    world = make(3)
    world.fake.things.discard("d001")
    world.start(3, deadline=3600)
    world.step()
    assert "there is no thing d001 in eu-west-1" in world.status()["bad"]["d001"]["code"]
    assert world.step().state == "HELD"
    assert set(world.fake.jobs[FIRST].executions) == {"d000", "d002"}


def test_pause_takes_hints_back(make: Made) -> None:
    """Those in progress too; resumed, the devices get new orders."""
    world = make(4)
    world.start(4)
    world.step()
    world.fake.jobs[FIRST].executions["d000"] = "IN_PROGRESS"
    world.campaign.pause(ROLLOUT, world.now)
    assert set(world.fake.jobs[FIRST].executions.values()) == {"CANCELED"}
    assert all(not a for a in world.desk.current.values())
    world.campaign.resume(ROLLOUT, world.now)
    assert world.drive() == "COMPLETED"
    assert list(world.fake.jobs) == [FIRST, FIRST.replace("-u1-", "-u2-")]


def test_lost_reports_are_told_again(ground: Path) -> None:
    """A real agent whose reports were lost: paused and resumed, it answers the new order."""
    plant = Plant(ground / "lost", ("a", "b"))
    plant.publish(plant.build("1.0.0"), plant.build("2.0.0"))
    plant.roll_out("one", "1.0.0")
    rollout = plant.start("two", "2.0.0")
    plant.step(rollout)
    plant.look()
    for path in plant["a"].waiting():
        path.unlink()
    plant.step(rollout)
    assert plant.status(rollout)["waves"][0]["committed"] == 1
    campaign = plant.wiring.campaign
    campaign.pause(rollout, plant.now())
    campaign.resume(rollout, plant.now())
    assert plant.drive(rollout)["state"] == "COMPLETED"
    plant.wiring.close()
