"""The feed ``iot-jobs`` on a real Mosquitto: mTLS, a CRL, one topic tree for each certificate.

Everything that can go wrong between a device, its broker and the Jobs service, and what AWS's job
execution says in the end. The service on the broker follows AWS's developer guide strictly.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from simulators import broker as brokers
from simulators import jobs_service
from simulators.broker import Broker
from simulators.feed_sides import MqttSide, closing, hasten, heard, hint, silent, trouble, until
from simulators.identities import Identity, update
from simulators.jobs_model import Execution
from simulators.jobs_service import JobsService, Nastiness
from simulators.pki import Issued

from ota.agent import feeds
from ota.agent.report import NOT_ASSIGNED
from ota.ports_device import Feed
from signing import strict
from signing.errors import Outage

ORDER = "ota-app-1-aaaaaa-u1-w0-b0"
NEXT = "ota-app-1-aaaaaa-u1-w1-b0"


class Device(MqttSide):
    """A side with the device's identity: signed reports about orders."""

    def __init__(self, broker: Broker, service: JobsService) -> None:
        super().__init__(broker, service)
        self._identity = Identity(self.device)
        self._counter = 0

    def tell(self, feed: Feed, order: str, outcome: str = "committed", **changes: Any) -> bytes:
        """Send a signed report on an order."""
        body = update(order=order, outcome=outcome, phase=changes.pop("phase", "DONE"))
        return self.say(feed, update=body, **({"event": "outcome"} | changes))

    def say(self, feed: Feed, **changes: Any) -> bytes:
        """Send any signed report."""
        self._counter += 1
        envelope = self._identity.report(self._counter, **changes)
        feed.send(self._counter, envelope)
        return envelope

    def job(self, order: str = ORDER) -> Execution:
        """What AWS knows."""
        return self.jobs.execution(order, self.device)


@pytest.fixture
def device(
    broker: Broker, service: JobsService, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Device]:
    hasten(monkeypatch)
    made = Device(broker, service)
    made.options = broker.options(made.thing, timeout=2.0)
    with closing(made):
        yield made
    service.nasty = Nastiness()
    service.jobs.refuse.clear()
    service.jobs.refuse_verb = ""


def started(device: Device, order: str = ORDER) -> Feed:
    """A feed whose agent has looked at the hint of this order."""
    device.give(order, hint(order))
    feed = device.feed()
    feed.done(heard(feed))
    return feed


# -- what AWS hears --------------------------------------------------------------------------------
ENDS = {
    "committed": ("committed", "", "SUCCEEDED"),
    "refused": ("refused", "image-mismatch", "REJECTED"),
    "unhealthy": ("reverted", "unhealthy", "REJECTED"),
    "denied": ("failed", "denied", "REJECTED"),
    "withdrawn": ("failed", "withdrawn", "REJECTED"),
    "superseded": ("failed", "superseded", "REJECTED"),
    "disk": ("failed", "no-space", "FAILED"),
    "stuck": ("failed", "needs-human", "FAILED"),
    "running": ("in_progress", "", "IN_PROGRESS"),
    "expired": ("stale", "stale", "IN_PROGRESS"),
}


@pytest.mark.parametrize("name", ENDS)
def test_execution_ends_as_the_signed_report_says(device: Device, name: str) -> None:
    """REJECTED for what no other try changes, FAILED for what may be tried again, with the digest."""
    outcome, code, status = ENDS[name]
    feed = started(device)
    sent = device.tell(feed, ORDER, outcome, code=code, phase="TRIAL")
    job = device.job()
    assert job.status == status
    assert job.details["report"] == strict.digest(sent)
    assert (job.details["phase"], job.details["outcome"]) == ("TRIAL", outcome)
    assert job.details.get("code", "") == code
    assert until(lambda: device.reports() == [sent])


def test_refused_hint_rejects_its_job(device: Device) -> None:
    """An edited document becomes a signed refusal, and the refusal's digest stands in the job."""
    device.give(ORDER, hint(ORDER)[:-1] + b',"url":"https://evil.example"}')
    device.give(NEXT, hint(NEXT))
    feed = device.feed()
    feed.done(heard(feed))
    assert device.job().status == "IN_PROGRESS"
    sent = device.say(feed, event="refusal", code="hint-malformed")
    assert device.job().status == "REJECTED"
    assert device.job().details["report"] == strict.digest(sent)
    assert heard(feed).receipt == NEXT


def test_document_of_another_job_is_refused(device: Device) -> None:
    """A document that was moved to another job names an order that is not that job's."""
    device.give(ORDER, hint(NEXT))
    assert heard(device.feed()).data == b""


def test_refused_look_rejects_the_job_that_asked(device: Device) -> None:
    """Tampering that a hint brought to light: the report names the hint, and no order."""
    feed = started(device)
    device.say(feed, event="refusal", code="signature", hint=ORDER)
    assert device.job().status == "REJECTED"


def test_order_that_nobody_assigned_may_be_tried_again(device: Device) -> None:
    """FAILED, with the code; metadata that was late may be there next time."""
    feed = started(device)
    device.say(feed, code=NOT_ASSIGNED, hint=ORDER)
    assert (device.job().status, device.job().details["code"]) == ("FAILED", NOT_ASSIGNED)
    device.give(ORDER, hint(ORDER))
    assert heard(feed).receipt == ORDER


def test_reports_of_other_things_change_no_job(device: Device) -> None:
    """An inventory, or bytes that nobody can read, are carried and say nothing of a job."""
    feed = started(device)
    before = device.job().version
    device.say(feed)
    feed.send(9, b"\x00 not a statement")
    assert device.job().version == before
    assert until(lambda: len(device.reports()) == 2)


# -- once, and in order ------------------------------------------------------------------------------
def test_everything_said_three_times_is_one_hint(device: Device, service: JobsService) -> None:
    """Notifications and answers that come again and again lead to one look and one end."""
    service.nasty = Nastiness(times=3)
    feed = started(device)
    service.notify(device.device)
    assert silent(feed)
    device.tell(feed, ORDER, "in_progress", event="progress")
    device.tell(feed, ORDER)
    assert device.job().status == "SUCCEEDED"
    assert silent(feed)


def test_answers_out_of_order_are_nobodys(device: Device, service: JobsService) -> None:
    """A late answer with a foreign token, or an older version, neither offers nor takes back."""
    feed = started(device)
    base = f"$aws/things/{device.device}/jobs"
    late = b'{"clientToken":"x","execution":{"jobId":"%s","versionNumber":1,"jobDocument":%s}}'
    service.say(f"{base}/start-next/accepted", late % (NEXT.encode(), hint(NEXT)))
    service.say(f"{base}/{ORDER}/update/rejected", b'{"clientToken":"x","code":"InvalidJson"}')
    service.say(f"{base}/notify-next", b"not even JSON")
    assert silent(feed)
    device.tell(feed, ORDER)
    assert device.job().status == "SUCCEEDED"


def test_flood_of_notifications_is_a_trickle_of_questions(
    device: Device, service: JobsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can publish notifications makes a device ask a few times a second, no more."""
    monkeypatch.undo()
    feed = device.feed()
    assert silent(feed)
    service.jobs.asked.clear()
    for _ in range(200):
        service.say(f"$aws/things/{device.device}/jobs/notify-next", b"{}")
    assert silent(feed, 0.9)
    assert 1 <= sum(verb == "start-next" for verb, _, _ in service.jobs.asked) <= 6


def test_lost_answer_is_asked_for_again(device: Device, service: JobsService) -> None:
    """The service that does not answer is an outage of its own, and the job comes all the same."""
    device.options = device.broker.options(device.thing, timeout=0.4)
    feed = device.feed()
    assert silent(feed)
    service.nasty = Nastiness(lose=1)
    device.give(ORDER, hint(ORDER))
    assert trouble(feed) == "feed-slow"
    assert heard(feed).receipt == ORDER
    feed.done(heard(feed))
    service.nasty = Nastiness(lose=1)
    device.tell(feed, ORDER)
    assert trouble(feed) == "feed-slow"
    assert until(lambda: silent(feed) and device.job().status == "SUCCEEDED")
    assert len(device.reports()) == 1


@pytest.mark.parametrize("code", ["RequestThrottled", "InternalError"])
def test_throttling_delays_the_status_not_the_report(device: Device, code: str) -> None:
    """The report is there at once; AWS hears of it when it wants to hear."""
    feed = started(device)
    device.jobs.refuse = [code]
    sent = device.tell(feed, ORDER)
    assert until(lambda: device.reports() == [sent])
    assert device.job().status == "IN_PROGRESS"
    assert trouble(feed) == {"RequestThrottled": "feed-throttled"}.get(code, "feed-jobs")
    assert until(lambda: silent(feed) and device.job().status == "SUCCEEDED")


def test_status_that_aws_will_not_take_is_given_up(device: Device) -> None:
    """A few tries, then it is named and left; the next job is not held up by it."""
    feed = started(device)
    device.jobs.refuse, device.jobs.refuse_verb = ["InvalidRequest"] * 3, "update"
    device.tell(feed, ORDER, "in_progress", event="progress")
    assert trouble(feed) == "feed-jobs"
    assert silent(feed)
    assert device.jobs.refuse == []
    device.tell(feed, ORDER)
    assert device.job().status == "SUCCEEDED"


def test_somebody_else_touched_the_execution(device: Device) -> None:
    """Another version than expected is found out and told again; nothing is overwritten blindly."""
    feed = started(device)
    job = device.job()
    job.version += 3
    device.tell(feed, ORDER)
    assert (device.job().status, device.job().version) == ("SUCCEEDED", job.version)
    tries = [b for verb, j, b in device.jobs.asked if (verb, j) == ("update", ORDER)][-2:]
    assert [b["expectedVersion"] for b in tries] == [2, 5]


# -- by hand -------------------------------------------------------------------------------------------
def test_job_deleted_by_hand_loses_no_report(device: Device) -> None:
    """The report arrives, the deletion has a name of its own, and the next job comes."""
    feed = started(device)
    device.jobs.delete(ORDER, device.device)
    device.give(NEXT, hint(NEXT))
    sent = device.tell(feed, ORDER)
    assert until(lambda: device.reports() == [sent])
    assert heard(feed).receipt == NEXT
    feed.done(heard(feed))
    device.tell(feed, NEXT)
    assert device.job(NEXT).status == "SUCCEEDED"


def test_job_deleted_while_it_was_told_is_named(device: Device) -> None:
    """Deleted between the look and the report, before anybody could say so."""
    feed = started(device)
    changed, device.jobs.changed = device.jobs.changed, lambda _thing: None
    device.jobs.delete(ORDER, device.device)
    device.tell(feed, ORDER)
    device.jobs.changed = changed
    assert trouble(feed) == "feed-job-gone"
    assert silent(feed)


@pytest.mark.parametrize("status", ["CANCELED", "REMOVED", "SUCCEEDED", "TIMED_OUT"])
def test_job_that_ended_elsewhere_is_left(device: Device, status: str) -> None:
    """Cancelled by force, timed out, removed: what AWS says stays, the next job comes."""
    feed = started(device)
    changed, device.jobs.changed = device.jobs.changed, lambda _thing: None
    device.jobs.end(ORDER, device.device, status)
    device.jobs.changed = changed
    device.give(NEXT, hint(NEXT))
    device.tell(feed, ORDER)
    assert device.job().status == status
    assert heard(feed).receipt == NEXT


def test_timed_out_job_comes_again_with_another_number(device: Device) -> None:
    """AWS tries again: the same job, another execution, a hint of its own."""
    feed = started(device)
    device.jobs.end(ORDER, device.device, "TIMED_OUT")
    device.give(ORDER, hint(ORDER))
    feed.done(heard(feed))
    device.tell(feed, ORDER)
    assert [e.status for e in device.jobs.executions if e.thing == device.device] == [
        "TIMED_OUT",
        "SUCCEEDED",
    ]


# -- restarts ------------------------------------------------------------------------------------------
def test_reboot_in_the_middle(device: Device) -> None:
    """The execution that is IN_PROGRESS comes again; the report after the reboot ends it."""
    feed = started(device)
    device.tell(feed, ORDER, "in_progress", event="progress", phase="PENDING_REBOOT")
    feed.close()
    feed = device.feed()
    assert heard(feed).receipt == ORDER
    device.tell(feed, ORDER)
    assert device.job().status == "SUCCEEDED"


def test_report_before_its_job(device: Device) -> None:
    """An order that the timer found first: its job needs no look any more, and ends at once."""
    feed = device.feed()
    assert silent(feed)
    device.tell(feed, ORDER)
    device.give(ORDER, hint(ORDER))
    assert until(lambda: silent(feed) and device.job().status == "SUCCEEDED")


def test_broker_that_dies_in_the_middle(tmp_path: Path) -> None:
    """The same feed goes on by itself; what was due is told; a new job after it comes."""
    with brokers.running(tmp_path) as broker, jobs_service.serving(broker) as service:
        device = Device(broker, service)
        with closing(device):
            feed = started(device)
            broker.stop()
            assert trouble(feed) in {"feed-closed", "feed-unreachable"}
            with pytest.raises(Outage):
                device.tell(feed, ORDER)
            broker.start()
            service.again()

            def told() -> bool:
                with contextlib.suppress(Outage):
                    feed.next(0.1)
                    device.tell(feed, ORDER)
                    return True
                return False

            assert until(told)
            assert device.job().status == "SUCCEEDED"


# -- who may do what -----------------------------------------------------------------------------------
def raw(broker: Broker, thing: Issued, client_id: str) -> mqtt.Client:
    """A client of somebody who has a device's certificate."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
    client.tls_set(str(broker.authority.ca), str(thing.certificate), str(thing.key))
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert until(client.is_connected)
    return client


def test_one_device_can_not_touch_another(
    device: Device, broker: Broker, service: JobsService
) -> None:
    """Reports, jobs and notifications of B: with A's certificate all of it comes to nothing."""
    other = Device(broker, service)
    device.give(ORDER, hint(ORDER))
    feed = device.feed()
    assert heard(feed).receipt == ORDER
    before = vars(device.job()).copy()
    codes: list[str] = []
    heard_by_a: list[str] = []
    thief = raw(broker, other.thing, "anything")
    thief.on_publish = lambda _c, _u, _mid, code, _p: codes.append(str(code))
    thief.on_message = lambda _c, _u, message: heard_by_a.append(message.topic)
    jobs = f"$aws/things/{device.device}/jobs"
    for wanted in (f"{jobs}/#", f"ota/{device.device}/report", "#", "$aws/#", "ota/#"):
        thief.subscribe(wanted, 1)
    attempts = {
        f"ota/{device.device}/report": b"forged",
        f"{jobs}/start-next": b"{}",
        f"{jobs}/{ORDER}/update": b'{"status":"REJECTED"}',
        f"{jobs}/notify-next": b"{}",
        f"{jobs}/start-next/accepted": b"{}",
    }
    for topic, payload in attempts.items():
        thief.publish(topic, payload, qos=1).wait_for_publish(5)
    assert until(lambda: len(codes) == len(attempts))
    assert set(codes) == {"Not authorized"}
    device.say(feed)
    service.notify(device.device)
    assert until(lambda: len(device.reports()) == 1)
    thief.publish(f"ota/{other.device}/report", b"own", qos=1).wait_for_publish(5)
    assert until(lambda: other.reports() == [b"own"])
    thief.disconnect()
    thief.loop_stop()
    assert heard_by_a == []
    assert vars(device.job()) == before
    assert b"forged" not in device.reports()


def test_feed_under_another_things_name_gets_nothing(device: Device, broker: Broker) -> None:
    """Not one hint, not one report; the outage names the right that is missing."""
    victim = broker.authority.issue(f"{device.device}-victim")
    device.jobs.create(ORDER, hint(ORDER), victim.name)
    feed = feeds.create(broker.options(device.thing, thing=victim.name), victim.name)
    with contextlib.closing(feed):
        assert trouble(feed) == "feed-not-authorised"
        with pytest.raises(Outage) as caught:
            feed.send(1, b"forged")
    assert caught.value.code == "feed-not-authorised"
    assert f"iot:Publish on topic/ota/{victim.name}/report" in caught.value.remedy
    assert device.jobs.execution(ORDER, victim.name).status == "QUEUED"
    assert [n for n, _ in device.service.reports if n == victim.name] == []


def test_customers_application_is_not_evicted(device: Device, broker: Broker) -> None:
    """It connects under the thing's name, with a certificate of its own, and both go on."""
    application = raw(broker, broker.authority.issue(device.device), device.device)
    lost: list[object] = []
    application.on_disconnect = lambda *_args: lost.append(_args)
    feed = started(device)
    device.tell(feed, ORDER)
    assert device.job().status == "SUCCEEDED"
    assert silent(feed)
    assert application.is_connected()
    assert lost == []
    application.disconnect()
    application.loop_stop()


def test_two_agents_under_one_client_id_are_named(device: Device) -> None:
    """The one that was thrown out says so, and waits instead of throwing out the other at once.

    This broker hangs up without a reason; AWS gives one (``test_iot_feed_ministack.py``).
    """
    feed = device.feed()
    assert silent(feed)
    other = device.feed()
    assert silent(other)
    assert trouble(feed) in {"feed-taken-over", "feed-closed"}
    assert silent(other)


def test_revoked_certificate_has_its_own_name(tmp_path: Path) -> None:
    """From the next connection on the broker says so; other devices go on; nothing is sent."""
    with brokers.running(tmp_path) as broker, jobs_service.serving(broker) as service:
        revoked, other = Device(broker, service), Device(broker, service)
        with closing(revoked), closing(other):
            feed = revoked.feed()
            assert silent(feed)
            broker.authority.revoke(revoked.thing)
            broker.stop()
            broker.start()
            service.again()
            assert until(lambda: trouble(feed) == "feed-certificate-revoked")
            with pytest.raises(Outage) as caught:
                feed.send(1, b"nobody takes it")
            assert caught.value.code == "feed-certificate-revoked"
            assert silent(other.feed())
            assert revoked.reports() == []


@pytest.mark.parametrize("payload", [b"[]", b"{", b"\xff\xff", b'{"execution":5}', b"x" * 140_000])
def test_answers_that_nobody_can_read(device: Device, service: JobsService, payload: bytes) -> None:
    """A named outage, no crash and no memory for what is too long; afterwards the job comes."""
    device.options = device.broker.options(device.thing, timeout=0.5)
    feed = device.feed()
    assert silent(feed)
    service.nasty = Nastiness(instead=payload)
    device.give(ORDER, hint(ORDER))
    # a broker keeps back what is longer than the device said it would take
    assert trouble(feed) == ("feed-slow" if len(payload) > 135_000 else "feed-message")
    service.nasty = Nastiness()
    assert heard(feed).receipt == ORDER


def test_tls_is_what_the_device_asks_for(broker: Broker, device: Device) -> None:
    """Nothing older than TLS 1.2, and the broker's name is checked."""
    from ota.agent.feeds import iot_tls  # noqa: PLC0415 - the claim is about this module

    context = iot_tls.context(device.options, iot_tls.MQTT_ALPN)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
