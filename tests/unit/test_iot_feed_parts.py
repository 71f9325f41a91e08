"""The pure parts of the feed ``iot-jobs``: topics, messages, executions, statuses, the line.

What goes over the wire is compared with AWS's own device SDK and with botocore's own model.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from awscrt import mqtt
from awsiot import iotjobs
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from simulators import jobs_https
from simulators.feed_sides import hint, until
from simulators.identities import Identity, update
from simulators.jobs_model import Jobs
from simulators.pki import Authority

from ota.agent import hints
from ota.agent.feeds import iot_messages, iot_status
from ota.agent.feeds.iot_executions import REMEMBERED, Executions
from ota.agent.feeds.iot_line import Line
from ota.agent.feeds.iot_messages import Answer, Execution, ExecutionState, Rejected
from ota.agent.feeds.iot_status import Status
from ota.agent.feeds.iot_topics import Topics
from ota.agent.feeds.iot_trouble import TROUBLES, outage
from signing.errors import Malformed, Outage

ORDER = "ota-app-1-aaaaaa-u1-w0-b0"
TOPICS = Topics("press-07")


def execution(job: str = ORDER, version: int = 2, **changes: Any) -> Execution:
    body = {"jobId": job, "versionNumber": version, "jobDocument": json.loads(hint(job))}
    found = iot_messages.read(json.dumps({"execution": body | changes}).encode()).execution
    assert found is not None
    return found


# -- AWS's own device SDK as a second opinion ------------------------------------------------------
class Recorder(mqtt.Connection):  # type: ignore[misc] # the SDK asks for one of its own
    """Stands where the SDK has its connection: what it would publish and listen to."""

    def __init__(self) -> None:  # its parent would connect
        self.published: list[tuple[str, Any]] = []
        self.listened: list[str] = []

    def publish(self, topic: str, payload: str, qos: Any) -> tuple[Any, int]:
        del qos
        self.published.append((topic, json.loads(payload)))
        return self._future(), 1

    def subscribe(self, topic: str, qos: Any, callback: Any) -> tuple[Any, int]:
        del qos, callback
        self.listened.append(topic)
        return self._future(), 1

    def _future(self) -> Future[dict[str, Any]]:
        made: Future[dict[str, Any]] = Future()
        made.set_result({"qos": 1})
        return made


def test_requests_are_those_of_awss_sdk() -> None:
    """Topics and payloads of start-next, describe and update, field by field."""
    recorder = Recorder()
    client = iotjobs.IotJobsClient(recorder)
    qos = 1
    client.publish_start_next_pending_job_execution(
        iotjobs.StartNextPendingJobExecutionRequest(thing_name="press-07", client_token="t"), qos
    )
    client.publish_describe_job_execution(
        iotjobs.DescribeJobExecutionRequest(
            thing_name="press-07", job_id=ORDER, include_job_document=False, client_token="t"
        ),
        qos,
    )
    client.publish_update_job_execution(
        iotjobs.UpdateJobExecutionRequest(
            thing_name="press-07",
            job_id=ORDER,
            status=iotjobs.JobStatus.SUCCEEDED,
            status_details={"phase": "DONE"},
            expected_version=2,
            execution_number=1,
            include_job_execution_state=True,
            client_token="t",
        ),
        qos,
    )
    ours = [
        (TOPICS.start_next, iot_messages.start_next("t")),
        (TOPICS.describe(ORDER), iot_messages.describe("t")),
        (
            TOPICS.update(ORDER),
            iot_messages.update("t", execution(), "SUCCEEDED", {"phase": "DONE"}),
        ),
    ]
    assert [(topic, json.loads(data)) for topic, data in ours] == recorder.published


def test_answers_are_listened_to_where_awss_sdk_listens() -> None:
    """Seven filters, fewer than the eight that AWS takes at once; the SDK asks for each job alone."""
    recorder = Recorder()
    client = iotjobs.IotJobsClient(recorder)
    own = {"thing_name": "press-07"}
    for word in ("accepted", "rejected"):
        for name, kind, fields in (
            ("start_next_pending_job_execution", "StartNextPendingJobExecution", own),
            ("describe_job_execution", "DescribeJobExecution", own | {"job_id": "+"}),
            ("update_job_execution", "UpdateJobExecution", own | {"job_id": "+"}),
        ):
            request = getattr(iotjobs, f"{kind}SubscriptionRequest")(**fields)
            getattr(client, f"subscribe_to_{name}_{word}")(request, 1, lambda _r: None)
    request = iotjobs.NextJobExecutionChangedSubscriptionRequest(**own)
    client.subscribe_to_next_job_execution_changed_events(request, 1, lambda _r: None)
    assert sorted(recorder.listened) == sorted(TOPICS.filters)
    assert len(TOPICS.filters) <= 8


def test_the_tests_service_speaks_as_awss_sdk_reads() -> None:
    """The simulated service's answers are read by the SDK, and mean the same to us."""
    jobs = Jobs()
    jobs.create(ORDER, json.loads(hint(ORDER)), "press-07")
    accepted, answer = jobs.handle("start-next", "press-07", "", {"clientToken": "t"})
    assert accepted
    theirs = iotjobs.StartNextJobExecutionResponse.from_payload(answer)
    ours = iot_messages.read(json.dumps(answer).encode())
    assert ours.execution is not None
    assert (theirs.execution.job_id, theirs.execution.version_number, theirs.client_token) == (
        ours.execution.job,
        ours.execution.version,
        ours.token,
    )
    assert theirs.execution.job_document == json.loads(iot_messages.document(ours.execution))
    body = json.loads(iot_messages.update("t", execution(version=9), "FAILED", {}))
    accepted, answer = jobs.handle("update", "press-07", ORDER, body)
    assert not accepted
    rejected = iotjobs.RejectedError.from_payload(answer)
    assert rejected.code == iotjobs.RejectedErrorCode.VERSION_MISMATCH
    found = iot_messages.read(json.dumps(answer).encode())
    assert found.state is not None
    assert rejected.execution_state.version_number == found.state.version == 2


# -- botocore's model as a second opinion --------------------------------------------------------------
@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[jobs_https.Endpoint, Any]]:
    """The simulated HTTPS endpoint, and botocore's client of it."""
    authority = Authority(tmp_path / "pki")
    thing = authority.issue("press-07")
    with jobs_https.serving(authority, Jobs()) as running:
        client = boto3.client(
            "iot-jobs-data",
            endpoint_url=f"https://127.0.0.1:{running.port}",
            region_name="eu-west-1",
            aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
            aws_secret_access_key="a throw-away secret",
            verify=str(authority.ca),
            config=Config(
                client_cert=(str(thing.certificate), str(thing.key)), retries={"max_attempts": 0}
            ),
        )
        yield running, client


def test_the_https_endpoint_speaks_as_botocore_reads(
    endpoint: tuple[jobs_https.Endpoint, Any],
) -> None:
    """Paths, shapes and names of errors, so that our own client is tested against the right thing."""
    running, client = endpoint
    jobs, own = running.jobs, {"thingName": "press-07"}
    assert "execution" not in client.start_next_pending_job_execution(**own)
    jobs.create(ORDER, json.loads(hint(ORDER)), "press-07")
    found = client.start_next_pending_job_execution(**own)["execution"]
    assert json.loads(found["jobDocument"]) == json.loads(hint(ORDER))
    described = client.describe_job_execution(jobId=ORDER, includeJobDocument=False, **own)
    assert described["execution"]["versionNumber"] == 2
    assert "jobDocument" not in described["execution"]
    told = {"jobId": ORDER, "status": "SUCCEEDED", "expectedVersion": 7, **own}
    with pytest.raises(client.exceptions.InvalidRequestException):
        client.update_job_execution(**told)
    client.update_job_execution(**(told | {"expectedVersion": 2}))
    with pytest.raises(client.exceptions.TerminalStateException):
        client.describe_job_execution(jobId=ORDER, **own)
    with pytest.raises(client.exceptions.InvalidStateTransitionException):
        client.update_job_execution(**(told | {"expectedVersion": 3}))
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.update_job_execution(**(told | {"jobId": "another"}))
    with pytest.raises(ClientError, match="Forbidden"):
        client.start_next_pending_job_execution(thingName="press-08")
    jobs.refuse = ["RequestThrottled"]
    with pytest.raises(client.exceptions.ThrottlingException):
        client.start_next_pending_job_execution(**own)


# -- topics ----------------------------------------------------------------------------------------
def test_topics_are_read_back() -> None:
    """Only answers of this thing's own jobs are answers."""
    assert TOPICS.report == "ota/press-07/report"
    assert TOPICS.verdict(f"{TOPICS.start_next}/accepted") is True
    assert TOPICS.verdict(f"{TOPICS.update(ORDER)}/rejected") is False
    for other in (
        TOPICS.notify_next,
        f"{TOPICS.start_next}/maybe",
        "$aws/things/press-08/jobs/start-next/accepted",
        "$aws/things/press-07x/jobs/start-next/accepted",
        "accepted",
        "",
    ):
        assert TOPICS.verdict(other) is None


# -- messages --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "data",
    [b"{}", b'{"execution":{}}', b'{"execution":null}', b'{"timestamp":1,"clientToken":"t"}'],
)
def test_no_execution_has_many_forms(data: bytes) -> None:
    """Missing, empty or null."""
    assert iot_messages.read(data).execution is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b'{"execution":[]}',
        b'{"execution":{"jobId":"a/b","versionNumber":1}}',
        b'{"execution":{"jobId":"","versionNumber":1}}',
        b'{"execution":{"jobId":"j","versionNumber":-1}}',
        b'{"execution":{"jobId":"j","versionNumber":"1"}}',
        b'{"execution":{"jobId":"j"}}',
        b'{"execution":{"jobId":"j","versionNumber":1,"jobDocument":{]}}}',
        b'{"clientToken":7}',
        b'{"clientToken":"' + b"t" * 2000 + b'"}',
        b'{"a":' * 5000,
        b"{" + b" " * iot_messages.LIMIT + b"}",
    ],
)
def test_messages_are_read_with_limits(data: bytes) -> None:
    """Whatever is none is named, and no id that could be part of a topic or path gets through."""
    with pytest.raises(Malformed, match="Jobs service"):
        iot_messages.read(data)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    """Any bytes are read or are malformed."""
    with contextlib.suppress(Malformed):
        assert isinstance(iot_messages.read(data), Answer)


def test_document_is_the_bytes_that_came() -> None:
    """An object as it is, a string without its quotes, and nothing for what is no text."""
    raw = b'{"schema":2, "schema":2}'
    assert iot_messages.document(_raw(raw)) == raw
    assert iot_messages.document(_raw(json.dumps(raw.decode()).encode())) == raw
    assert iot_messages.document(_raw(b'"\\ud800"')) == b""
    assert iot_messages.document(_raw(b"")) == b""


def _raw(document: bytes) -> Execution:
    return msgspec.structs.replace(execution(), raw=msgspec.Raw(document))


def test_rejections_are_outages_with_words_that_are_printable() -> None:
    """What a stranger writes into a message does not reach a terminal as it is."""
    error = Rejected("topic", Answer(code="Evil\x1b[2J", message="\x1b]0;x\x07" + "a" * 900))
    assert isinstance(error, Outage)
    assert str(error).isprintable()
    assert len(str(error)) < 400
    assert Rejected("t", Answer(code="RequestThrottled")).code == "feed-throttled"
    assert Rejected("t", Answer(code="ResourceNotFound")).gone


# -- statuses --------------------------------------------------------------------------------------
def test_details_stay_within_awss_limits() -> None:
    """Ten pairs, no control characters, no empty value, 1,024 characters."""
    body = Identity("press-07").body(
        7, event="outcome", code="c" * 5000, update=update(order=ORDER, phase="\x00DO\nNE")
    )
    status = iot_status.of(body, "d" * 64)
    assert status is not None
    assert status.details == {
        "phase": "DONE",
        "outcome": "committed",
        "code": "c" * iot_status.VALUE,
        "report": "d" * 64,
        "counter": "7",
    }
    assert len(status.details) <= iot_status.PAIRS


def test_reports_without_order_speak_of_the_hint_that_led_to_them() -> None:
    """A refused look, a look that found nothing, and one that could not be made."""
    identity = Identity("press-07")
    told = {
        ("refusal", "signature"): "REJECTED",
        ("inventory", "not-assigned"): "FAILED",
        ("stale", "stale"): "IN_PROGRESS",
        ("outage", "outage"): "IN_PROGRESS",
    }
    for (event, code), state in told.items():
        status = iot_status.of(identity.body(1, event=event, code=code, hint=ORDER), "d")
        assert status is not None
        assert (status.job, status.state) == (ORDER, state)
        assert iot_status.of(identity.body(1, event=event, code=code), "d") is None
    assert iot_status.of(identity.body(1, hint=ORDER), "d") is None


# -- executions ------------------------------------------------------------------------------------
def done(job: str = ORDER, state: Any = "SUCCEEDED", outcome: str = "committed") -> Status:
    return Status(job, state, {"outcome": outcome})


def test_an_older_version_of_the_same_execution_is_late() -> None:
    """Versions decide, not the order in which answers come."""
    executions = Executions()
    executions.started(execution(version=5))
    executions.started(execution(version=3))
    assert executions.current is not None
    assert executions.current.execution.version == 5
    executions.started(execution(version=7))
    assert executions.current.execution.version == 7


def test_ends_of_orders_are_remembered_but_not_for_ever() -> None:
    """The newest of them; an older one is looked at once more, which is answered."""
    executions = Executions()
    for number in range(REMEMBERED + 1):
        executions.reported(done(f"job-{number}"))
    executions.started(execution("job-0"))
    assert executions.due() is None
    executions.started(execution(f"job-{REMEMBERED}"))
    assert executions.due() is not None
    assert executions.offer() is None


@pytest.mark.parametrize(
    "status",
    [
        done(state="REJECTED", outcome="refused"),
        done(state="FAILED", outcome=""),
        done(state="IN_PROGRESS", outcome="in_progress"),
    ],
)
def test_what_was_said_of_another_try_is_not_said_again(status: Status) -> None:
    """Only an order that has ended ends its next execution without a look."""
    executions = Executions()
    executions.reported(status)
    executions.started(execution())
    assert executions.due() is None
    assert executions.offer() is not None


def test_status_is_said_once() -> None:
    """Told, it is not due; ended, the execution is nobody's."""
    executions = Executions()
    executions.started(execution())
    executions.reported(done(state="IN_PROGRESS", outcome="in_progress"))
    due = executions.due()
    assert due is not None
    executions.told(due[1], None)
    assert executions.due() is None
    assert executions.current is not None
    assert executions.current.execution.version == 3
    executions.reported(done())
    executions.told(done(), ExecutionState(status="SUCCEEDED", version=4))
    assert executions.current is None


def test_words_about_other_jobs_change_nothing() -> None:
    """Late answers about a job that is not current any more."""
    executions = Executions()
    executions.started(execution())
    before = executions.current
    executions.told(done("another"), None)
    executions.stands("another", ExecutionState(status="SUCCEEDED", version=9))
    executions.gone("another")
    executions.done("another")
    executions.unsayable(done("another"))
    assert executions.current == before
    assert executions.unreadable == ""


def test_a_document_that_is_too_long_is_no_hint() -> None:
    """It is offered empty, so that the agent refuses it."""
    executions = Executions()
    executions.started(_raw(b'{"schema":2' + b" " * hints.LIMIT + b"}"))
    offered = executions.offer()
    assert offered is not None
    assert offered.hint == b""
    executions.done(ORDER)
    assert executions.unreadable == ORDER


# -- the line --------------------------------------------------------------------------------------
def test_fault_of_ours_does_not_end_the_feed_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread's end is a trouble with a name, and it begins again."""
    faults: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", faults.append)

    def way(_ended: Any) -> Any:
        raise ZeroDivisionError

    line = Line([way], threading.Condition(), start_jitter=0.0)
    line.start()
    assert until(lambda: faults)
    assert until(lambda: line.start() or line.trouble)
    assert line.trouble is not None
    assert line.trouble.code == "feed-fault"
    line.close()


def test_the_start_is_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plant that gets its power back does not come all at once; ``close`` does not wait for it."""
    tried: list[int] = []
    line = Line([lambda _ended: tried.append(1)], threading.Condition(), start_jitter=3600.0)  # type: ignore[list-item]
    monkeypatch.setattr("ota.agent.feeds.iot_line.random.random", lambda: 1.0)
    line.start()
    line.close()
    assert tried == []


def test_what_another_way_says_counts_more_than_a_blocked_port() -> None:
    """A revoked certificate is not hidden behind a firewall's silence."""

    def failing(code: str) -> Any:
        def way(_ended: Any) -> Any:
            raise outage(code, code)

        return way

    codes = ("feed-unreachable", "feed-certificate-revoked", "feed-unreachable")
    line = Line([failing(c) for c in codes], threading.Condition(), start_jitter=0.0)
    line.start()
    assert until(lambda: line.trouble)
    assert line.trouble is not None
    assert line.trouble.code == "feed-certificate-revoked"
    line.close()


def test_every_trouble_says_what_to_do() -> None:
    """A cause and a next step, in the README's table, too."""
    for code, row in TROUBLES.items():
        assert code.startswith("feed-")
        assert row.cause
        assert row.remedy
        assert outage(code, "x").remedy == row.remedy
