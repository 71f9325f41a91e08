"""The feed ``iot-jobs`` against an emulator of AWS IoT: registry, policies, jobs, rules, MQTT.

What a broker of one's own can not show: jobs that the control plane made, IoT policies, a
certificate that is switched off, and a connection that is taken over as AWS does it.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from simulators.feed_sides import heard, hint, silent, trouble, until
from simulators.identities import Identity, update
from simulators.ministack import Account, Thing

from ota import shipped
from ota.agent import feeds
from ota.agent.feeds.options import IotJobsOptions
from ota.infra import render, stacks, values
from ota.ports_device import Feed
from signing import strict
from signing.errors import Outage

ORDER = "ota-app-1-aaaaaa-u1-w0-b0"
NEXT = "ota-app-1-aaaaaa-u1-w1-b0"


class Cloud:
    """One account with one thing, seen from both ends."""

    def __init__(self, aws: Account, stack: contextlib.ExitStack) -> None:
        self.aws = aws
        self.iot = aws.client("iot")
        self.thing = aws.thing("press-07")
        self._stack = stack
        self._identity = Identity("press-07")

    def feed(self, thing: Thing | None = None, **changes: Any) -> Feed:
        """A started agent's feed."""
        thing = thing or self.thing
        words: dict[str, Any] = {
            "endpoint": thing.host,
            "port": thing.port,
            "certificate": str(thing.certificate),
            "key": str(thing.key),
            "ca": str(thing.ca),
            "fallback": (),
            "start_jitter": 0.0,
        }
        made = feeds.create(IotJobsOptions(**(words | changes)), thing.name)
        return self._stack.enter_context(contextlib.closing(made))

    def job(self, order: str = ORDER, *things: Thing) -> None:
        """What the courier does."""
        self.iot.create_job(
            jobId=order,
            targets=[t.arn for t in things or (self.thing,)],
            document=hint(order).decode(),
        )

    def execution(self, order: str = ORDER) -> dict[str, Any]:
        """How AWS says that it stands."""
        found = self.iot.describe_job_execution(jobId=order, thingName="press-07")
        return dict(found["execution"])

    def tell(self, feed: Feed, order: str = ORDER, outcome: str = "committed") -> bytes:
        """Send a signed report on an order."""
        body = update(order=order, outcome=outcome)
        envelope = self._identity.report(1, event="outcome", update=body)
        feed.send(1, envelope)
        return envelope


@pytest.fixture
def cloud(aws: Account) -> Iterator[Cloud]:
    with contextlib.ExitStack() as stack:
        yield Cloud(aws, stack)


def test_job_goes_to_the_device_and_its_report_to_the_queue(cloud: Cloud) -> None:
    """From CreateJob to a hint, from a signed report to SUCCEEDED, and into the rule's queue."""
    queue = cloud.aws.reports()
    feed = cloud.feed()
    assert silent(feed)
    cloud.job()
    found = heard(feed)
    assert json.loads(found.data) == json.loads(hint(ORDER))
    assert cloud.execution()["status"] == "IN_PROGRESS"
    feed.done(found)
    report = cloud.tell(feed)
    assert cloud.execution()["status"] == "SUCCEEDED"
    details = cloud.execution()["statusDetails"]["detailsMap"]
    assert details["report"] == strict.digest(report)
    sqs = cloud.aws.client("sqs")
    (message,) = until(
        lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages")
    )
    body = json.loads(message["Body"])
    assert (base64.b64decode(body["report"]), body["thing"]) == (report, "press-07")


def test_reboot_in_the_middle(cloud: Cloud) -> None:
    """Start-next gives the execution again that is IN_PROGRESS, and the next one after its end."""
    cloud.job()
    cloud.job(NEXT)
    feed = cloud.feed()
    feed.done(heard(feed))
    feed.close()
    feed = cloud.feed()
    assert heard(feed).receipt == ORDER
    cloud.tell(feed)
    assert cloud.execution()["status"] == "SUCCEEDED"
    assert heard(feed).receipt == NEXT


def test_cancelled_by_hand(cloud: Cloud) -> None:
    """An execution that AWS has cancelled stays so; the report is carried, the next job comes."""
    cloud.job()
    feed = cloud.feed()
    feed.done(heard(feed))
    cloud.iot.cancel_job(jobId=ORDER, force=True)
    cloud.job(NEXT)
    cloud.tell(feed)
    assert cloud.execution()["status"] == "CANCELED"
    assert heard(feed).receipt == NEXT


def test_deleted_by_hand(cloud: Cloud) -> None:
    """A job that is gone is no job; nothing fails, and the next one comes."""
    cloud.job()
    feed = cloud.feed()
    feed.done(heard(feed))
    cloud.iot.delete_job(jobId=ORDER, force=True)
    cloud.tell(feed)
    cloud.job(NEXT)
    assert heard(feed).receipt == NEXT


def test_customers_application_is_not_evicted(cloud: Cloud) -> None:
    """It connects under the thing's name and stays connected while the agent comes and works."""
    thing, lost = cloud.thing, []
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=thing.name,
        protocol=mqtt.MQTTv5,
        reconnect_on_failure=False,
    )
    client.tls_set(str(thing.ca), str(thing.certificate), str(thing.key))
    client.on_disconnect = lambda *args: lost.append(args)
    client.connect(thing.host, thing.port)
    client.loop_start()
    assert until(client.is_connected)
    cloud.job()
    feed = cloud.feed()
    feed.done(heard(feed))
    cloud.tell(feed)
    assert cloud.execution()["status"] == "SUCCEEDED"
    assert client.is_connected()
    assert lost == []
    client.disconnect()
    client.loop_stop()


def test_agent_that_was_taken_over_says_so(cloud: Cloud) -> None:
    """AWS says why it hangs up; the one that lost waits, so that the other can work."""
    feed = cloud.feed()
    assert silent(feed)
    other = cloud.feed()
    assert silent(other)
    assert trouble(feed) == "feed-taken-over"
    assert silent(other, 0.5)


@pytest.mark.parametrize("status", ["REVOKED", "INACTIVE"])
def test_certificate_that_was_switched_off(cloud: Cloud, status: str) -> None:
    """Nothing is carried for it any more, and the trouble has a name and a next step."""
    queue = cloud.aws.reports()
    certificate = cloud.thing.principal.rpartition("/")[2]
    cloud.iot.update_certificate(certificateId=certificate, newStatus=status)
    feed = cloud.feed()
    with pytest.raises(Outage) as caught:
        feed.next(20.0)
    assert caught.value.code == "feed-closed"
    assert "describe-certificate" in caught.value.remedy
    with pytest.raises(Outage):
        feed.send(1, b"nobody takes it")
    assert "Messages" not in cloud.aws.client("sqs").receive_message(QueueUrl=queue)


def without(cloud: Cloud, action: str, name: str = "press-09") -> Thing:
    """A thing whose policy lacks one action."""
    policy = cloud.aws.device_policy(name)
    policy["Statement"] = [s for s in policy["Statement"] if s["Action"] != action]
    return cloud.aws.thing(name, policy)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("iot:Connect", "client/press-09-ota"),
        ("iot:Subscribe", "topicfilter/$aws/things/press-09/jobs/notify-next"),
        ("iot:Publish", "topic/ota/press-09/report"),
    ],
)
def test_missing_permission_is_named(cloud: Cloud, action: str, resource: str) -> None:
    """Which action, on which resource, in the certificate's policy."""
    feed = cloud.feed(without(cloud, action))
    with pytest.raises(Outage):
        feed.next(20.0)
    with pytest.raises(Outage) as caught:
        feed.send(1, b"x")
    assert caught.value.code == "feed-not-authorised"
    assert f"{action} on {resource}" in caught.value.remedy


def test_one_device_can_not_touch_another(cloud: Cloud) -> None:
    """Under B's name with A's certificate: no connection; under its own: none of B's topics."""
    other = cloud.aws.thing("press-08")
    queue = cloud.aws.reports()
    cloud.job()
    words = {"certificate": str(other.certificate), "key": str(other.key)}
    assert trouble(cloud.feed(**words)) == "feed-not-authorised"
    assert trouble(cloud.feed(**words, client_id="press-08-ota")) == "feed-not-authorised"
    assert cloud.execution()["status"] == "QUEUED"
    assert "Messages" not in cloud.aws.client("sqs").receive_message(QueueUrl=queue)


def shipped_policy(cloud: Cloud, thing: str) -> dict[str, Any]:
    """``playbooks/aws`` as rendered for this account.

    The emulator knows a thing's name only where it is the client id, so it is put in here.
    """
    folder = shipped.folder("playbooks") / "aws"
    text = (folder / "infra.toml").read_text().replace("111122223333", cloud.aws.id)
    text = text[: text.index("[network]")].replace("eu-central-1", cloud.aws.region)
    found = values.read(text.encode(), "infra.toml")
    devices = stacks.parse(render.render(folder, found))["devices"]["Resources"]
    document = devices["DevicePolicy"]["Properties"]["PolicyDocument"]
    filled = json.dumps(document).replace("${iot:Connection.Thing.ThingName}", thing)
    policy: dict[str, Any] = json.loads(filled)
    for statement in policy["Statement"]:
        statement.pop("Condition", None)
    return policy


def test_the_shipped_policy_is_enough(cloud: Cloud) -> None:
    """Every topic that the feed listens to and speaks on is in it; nothing more was asked."""
    thing = cloud.aws.thing("press-11", shipped_policy(cloud, "press-11"))
    feed = cloud.feed(thing)
    assert silent(feed)
    cloud.job(ORDER, thing)
    feed.done(heard(feed))
    feed.send(1, Identity("press-11").report(1, event="outcome", update=update(order=ORDER)))
    found = cloud.iot.describe_job_execution(jobId=ORDER, thingName="press-11")["execution"]
    assert found["status"] == "SUCCEEDED"
