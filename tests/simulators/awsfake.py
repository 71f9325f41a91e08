"""AWS IoT Jobs, thing groups, SQS and STS in memory, behind real botocore clients: strict and mean.

Requests are made, validated and signed by botocore and answered here instead of on the wire, so
that every call is counted as AWS would count it, retries too. It refuses what AWS refuses and the
emulator lets pass (101 targets, eleven messages), and it can be made to throttle, deny, lag, lose,
deliver twice, and kill the process before or after the effect of any call. Executions of things in
``unlisted`` are not in any list yet, ``flood`` is a message that never stops coming, handles in
``stubborn`` can not be deleted; ``dead``: nobody answers, and a minute passes each time.
``passed`` are seconds that passed without anybody waiting.

>>> fake = FakeAws("gw-1", "gw-2")
>>> courier = fake.courier(folder)
>>> fake.fail("CreateJob", "ThrottlingException", times=3)
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectTimeoutError
from simulators.stopping import Killed

from ota.aws.api import Api
from ota.couriers.iot_calls import CALLS, ROLE
from ota.couriers.iot_documents import Options
from ota.couriers.iot_jobs import IotJobs

REGION, ACCOUNT = "eu-west-1", "111122223333"
BASE = f"arn:aws:iot:{REGION}:{ACCOUNT}"
QUEUE = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/ota-reports"
_TERMINAL = {"SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "REMOVED", "CANCELED"}
_COUNTERS = {
    "QUEUED": "Queued",
    "IN_PROGRESS": "InProgress",
    "SUCCEEDED": "Succeeded",
    "FAILED": "Failed",
    "REJECTED": "Rejected",
    "TIMED_OUT": "TimedOut",
    "REMOVED": "Removed",
    "CANCELED": "Canceled",
}


_CLIENTS: dict[str, dict[str, Any]] = {}


class SaidNo(Exception):
    """An error answer."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(code)
        self.code, self.message, self.status = code, message or f"{code} it is", status


@dataclass
class Job:
    """A job and its executions."""

    targets: list[str]
    document: str
    words: dict[str, Any]
    executions: dict[str, str]
    status: str = "IN_PROGRESS"
    reason: str = ""
    made: datetime | None = None


@dataclass
class Fault:
    """What happens to the next calls of an operation instead."""

    code: str
    times: int
    after: bool = False
    message: str = ""


class _Raw(io.BytesIO):
    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self.read()


@dataclass
class FakeAws:
    """One account; ``calls`` counts what went over the wire, ``slept`` the seconds of waiting."""

    things: set[str] = field(default_factory=set)
    groups: dict[str, set[str]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    queue: list[tuple[str, str]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    kill: tuple[int, bool] = (0, False)
    lag: int = 0
    now: datetime = datetime(2026, 11, 23, 10, tzinfo=UTC)
    slept: float = 0.0
    passed: float = 0.0
    undeletable: bool = False
    portal: bool = False
    dead: bool = False
    unlisted: set[str] = field(default_factory=set)
    flood: str = ""
    stubborn: set[str] = field(default_factory=set)
    _seen: dict[str, int] = field(default_factory=dict)
    _flying: dict[str, tuple[str, str]] = field(default_factory=dict)

    # -- how tests use it ------------------------------------------------------------------------
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Credentials that nobody checks, one attempt of botocore's own, nothing of this machine."""
        for name, value in {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "a throw-away secret",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }.items():
            monkeypatch.setenv(name, value)

    def courier(self, folder: Path, **options: Any) -> IotJobs:
        """A new process's courier, whose clients end here. Waiting costs no time."""
        told = Options(queue=QUEUE, wait=0, **options)
        words = {"region": told.region, "rates": told.rates}
        api = Api(CALLS, ROLE, **words, sleep=self._sleep, clock=self._monotonic)
        api._clients = _CLIENTS.setdefault(told.region, {})  # making them takes longest
        for service in ("iot", "sqs", "sts"):
            events, name = api.client(service).meta.events, f"before-send.{service}"
            events.unregister(name, unique_id="fake")
            events.register(name, self._answer, unique_id="fake")
        return IotJobs(told, folder / "quarantine", api=api, clock=lambda: self.now)

    def fail(
        self, operation: str, code: str, times: int = 1, *, after: bool = False, message: str = ""
    ) -> None:
        """Let the next ``times`` calls of an operation fail, ``after`` their effect perhaps."""
        self.faults.setdefault(operation, []).append(Fault(code, times, after, message))

    def send(self, body: str) -> None:
        """Put a message into the queue."""
        self.queue.append((f"m-{len(self.queue)}-{len(body)}", body))

    def _sleep(self, seconds: float) -> None:
        self.slept += seconds

    def _monotonic(self) -> float:
        return self.slept + self.passed

    # -- the wire --------------------------------------------------------------------------------
    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        operation, words = self._parsed(request)
        self.calls[operation] += 1
        if self.dead:
            self.slept += 60
            raise ConnectTimeoutError(endpoint_url=request.url)
        if self.portal:
            return response(request.url, 200, _portal(operation), {})
        at, after = self.kill
        mine = self.calls.total() == at
        if mine and not after:
            raise Killed
        try:
            fault = self._fault(operation)
            if fault is not None and not fault.after:
                raise SaidNo(fault.code, fault.message)
            answer = getattr(self, f"_{_snake(operation)}")(**words)
            if fault is not None:
                raise SaidNo(fault.code)
            status = 200
        except SaidNo as e:
            answer = {"message": e.message, "__type": e.code, "code": e.code}
            status = e.status
        if mine:
            raise Killed
        if operation == "GetCallerIdentity":
            return response(request.url, status, _identity().encode(), {})
        headers = {"x-amzn-errortype": answer["code"]} if status != 200 else {}
        return response(request.url, status, json.dumps(answer).encode(), headers)

    def _fault(self, operation: str) -> Fault | None:
        waiting = self.faults.get(operation, [])
        while waiting:
            if waiting[0].times > 0:
                waiting[0].times -= 1
                return waiting[0]
            waiting.pop(0)
        return None

    def _parsed(self, request: Any) -> tuple[str, dict[str, Any]]:
        body = request.body or b""
        text = body.decode() if isinstance(body, bytes) else str(body)
        target = str(_text(request.headers.get("X-Amz-Target", "")))
        if target:
            return target.rpartition(".")[2], {"body": json.loads(text)}
        url = urlsplit(request.url)
        if text.startswith("Action="):
            return parse_qs(text)["Action"][0], {}
        path, query = url.path, {k: v[0] for k, v in parse_qs(url.query).items()}
        for method, pattern, operation in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and request.method == method:
                words = {k: unquote(v) for k, v in match.groupdict().items()}
                payload = json.loads(text) if text else {}
                return operation, {**words, "query": query, "body": payload}
        raise AssertionError(f"no such call: {request.method} {path}")

    # -- jobs ------------------------------------------------------------------------------------
    def _create_job(self, job: str, body: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        if job in self.jobs:
            raise SaidNo("ResourceAlreadyExistsException", status=409)
        targets = body["targets"]
        if not 1 <= len(targets) <= 100 or len(body["document"]) > 32_768:
            raise SaidNo("InvalidRequestException", "too many targets, or too long a document")
        if not 1 <= body["jobExecutionsRolloutConfig"]["maximumPerMinute"] <= 1000:
            raise SaidNo("InvalidRequestException", "maximumPerMinute")
        if not 1 <= body["timeoutConfig"]["inProgressTimeoutInMinutes"] <= 10_080:
            raise SaidNo("InvalidRequestException", "inProgressTimeoutInMinutes")
        things = [thing for arn in targets for thing in self._resolved(arn)]
        executions = dict.fromkeys(things, "QUEUED")
        self.jobs[job] = Job(targets, body["document"], body, executions, made=self.now)
        return {"jobId": job, "jobArn": f"{BASE}:job/{job}"}

    def _resolved(self, arn: str) -> list[str]:
        kind, _, name = arn.removeprefix(f"{BASE}:").partition("/")
        if kind == "thing" and name in self.things and self._visible(f"thing {name}"):
            return [name]
        if kind == "thinggroup" and name in self.groups and self._visible(f"group {name}"):
            return sorted(self.groups[name])
        raise SaidNo("ResourceNotFoundException", f"{arn} cannot be found.", 404)

    def _visible(self, what: str) -> bool:
        """Whether a thing that exists is seen already: not at the first ``lag`` looks."""
        self._seen[what] = self._seen.get(what, 0) + 1
        return self._seen[what] > self.lag or what.startswith("thing")

    def _job(self, job: str) -> Job:
        if job not in self.jobs:
            raise SaidNo("ResourceNotFoundException", f"Job {job} cannot be found.", 404)
        return self.jobs[job]

    def _describe_job(self, job: str, **_: Any) -> dict[str, Any]:
        found = self._job(job)
        counts = Counter(found.executions.values())
        details = {f"numberOf{word}Things": counts[name] for name, word in _COUNTERS.items()}
        if found.status == "IN_PROGRESS" and set(counts) <= _TERMINAL:
            found.status = "COMPLETED"
        described = {
            "jobId": job,
            "targets": found.targets,
            "status": found.status,
            "isConcurrent": False,
            "jobProcessDetails": details,
        }
        if found.made is not None:
            described["createdAt"] = found.made.timestamp()
        return {"job": described | ({"reasonCode": found.reason} if found.reason else {})}

    def _get_job_document(self, job: str, **_: Any) -> dict[str, Any]:
        return {"document": self._job(job).document}

    def _list_job_executions_for_job(
        self, job: str, query: dict[str, str], **_: Any
    ) -> dict[str, Any]:
        found = [(t, s) for t, s in self._job(job).executions.items() if t not in self.unlisted]
        start, size = int(query.get("nextToken", "0")), int(query.get("maxResults", "250"))
        assert 1 <= size <= 250
        ended = datetime(2026, 11, 23, 9, tzinfo=UTC).timestamp()
        page = [
            {
                "thingArn": f"{BASE}:thing/{thing}",
                "jobExecutionSummary": {"status": status, "lastUpdatedAt": ended},
            }
            for thing, status in found[start : start + size]
        ]
        more = {"nextToken": str(start + size)} if start + size < len(found) else {}
        return {"executionSummaries": page, **more}

    def _cancel_job(self, job: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        found = self._job(job)
        if found.status != "IN_PROGRESS":
            raise SaidNo("InvalidRequestException", f"{job} cannot be canceled")
        ends = {"QUEUED", "IN_PROGRESS"} if query.get("force") == "true" else {"QUEUED"}
        found.status, found.reason = "CANCELED", body.get("reasonCode", "")
        found.executions = {t: "CANCELED" if s in ends else s for t, s in found.executions.items()}
        return {"jobId": job}

    def _cancel_job_execution(
        self, job: str, thing: str, query: dict[str, str], **_: Any
    ) -> dict[str, Any]:
        found = self._job(job)
        status = found.executions.get(thing)
        if status is None:
            raise SaidNo("ResourceNotFoundException", status=404)
        if status in _TERMINAL or (status == "IN_PROGRESS" and query.get("force") != "true"):
            raise SaidNo("InvalidStateTransitionException", status=409)
        found.executions[thing] = "CANCELED"
        return {}

    def _delete_job(self, job: str, **_: Any) -> dict[str, Any]:
        if self._job(job).status == "IN_PROGRESS":
            raise SaidNo("InvalidStateTransitionException", status=409)
        del self.jobs[job]
        return {}

    # -- things and groups -----------------------------------------------------------------------
    def _describe_thing(self, thing: str, **_: Any) -> dict[str, Any]:
        if thing not in self.things:
            raise SaidNo("ResourceNotFoundException", status=404)
        return {"thingName": thing}

    def _describe_thing_group(self, group: str, **_: Any) -> dict[str, Any]:
        if group not in self.groups:
            raise SaidNo("ResourceNotFoundException", status=404)
        return {"thingGroupName": group}

    def _create_thing_group(self, group: str, **_: Any) -> dict[str, Any]:
        self.groups.setdefault(group, set())
        return {"thingGroupName": group}

    def _add_thing_to_thing_group(self, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        group, thing = body["thingGroupName"], body["thingName"]
        if thing not in self.things or group not in self.groups:
            raise SaidNo("ResourceNotFoundException", status=404)
        if not self._visible(f"group {group}"):
            raise SaidNo("ResourceNotFoundException", status=404)
        self.groups[group].add(thing)
        return {}

    def _list_things_in_thing_group(
        self, group: str, query: dict[str, str], **_: Any
    ) -> dict[str, Any]:
        if group not in self.groups:
            raise SaidNo("ResourceNotFoundException", status=404)
        found = sorted(self.groups[group])
        start, size = int(query.get("nextToken", "0")), int(query.get("maxResults", "25"))
        assert 1 <= size <= 250
        more = {"nextToken": str(start + size)} if start + size < len(found) else {}
        return {"things": found[start : start + size], **more}

    def _delete_thing_group(self, group: str, **_: Any) -> dict[str, Any]:
        self.groups.pop(group, None)
        return {}

    # -- packages --------------------------------------------------------------------------------
    def _create_package(self, package: str, **_: Any) -> dict[str, Any]:
        return self._new_package(package)

    def _create_package_version(self, package: str, version: str, **_: Any) -> dict[str, Any]:
        return self._new_package(f"{package}/{version}")

    def _new_package(self, name: str) -> dict[str, Any]:
        if name in self.packages:
            raise SaidNo("ConflictException", status=409)
        self.packages[name] = "DRAFT"
        return {}

    def _update_package_version(
        self, package: str, version: str, body: dict[str, Any], **_: Any
    ) -> dict[str, Any]:
        if self.packages.get(f"{package}/{version}") != "DRAFT":
            raise SaidNo("ConflictException", status=409)
        assert body["action"] == "PUBLISH"
        self.packages[f"{package}/{version}"] = "PUBLISHED"
        return {}

    # -- the queue -------------------------------------------------------------------------------
    def _receive_message(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["QueueUrl"] == QUEUE
        most = body["MaxNumberOfMessages"]
        if not 1 <= most <= 10 or not 0 <= body["WaitTimeSeconds"] <= 20:
            raise SaidNo("InvalidParameterValue")
        if self.flood:
            self.queue += [(f"f-{len(self._flying)}-{n}", self.flood) for n in range(most)]
        taken, self.queue = self.queue[:most], self.queue[most:]
        self._flying |= {f"h-{m}": (m, b) for m, b in taken}
        return (
            {"Messages": [{"MessageId": m, "ReceiptHandle": f"h-{m}", "Body": b} for m, b in taken]}
            if taken
            else {}
        )

    def _delete_message_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        entries = body["Entries"]
        if not 1 <= len(entries) <= 10 or len({e["Id"] for e in entries}) != len(entries):
            raise SaidNo("AWS.SimpleQueueService.TooManyEntriesInBatchRequest")
        if self.undeletable:
            failed = [
                {"Id": e["Id"], "Code": "InternalError", "SenderFault": False} for e in entries
            ]
            return {"Successful": [], "Failed": failed}
        kept = [e for e in entries if e["ReceiptHandle"] in self.stubborn]
        for entry in entries:
            if entry not in kept:
                self._flying.pop(entry["ReceiptHandle"], None)
        failed = [{"Id": e["Id"], "Code": "InternalError", "SenderFault": False} for e in kept]
        return {"Successful": [{"Id": e["Id"]} for e in entries if e not in kept], "Failed": failed}

    def _send_message(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["QueueUrl"] != QUEUE, "the operator sends no reports"
        if len(body["MessageBody"].encode()) > 1_048_576:
            raise SaidNo("InvalidParameterValue")
        self.refused.append(json.loads(body["MessageBody"]))
        return {"MessageId": "x"}

    def offer_again(self) -> None:
        """The visibility timeout ends: what was received and not deleted comes again."""
        self.queue = list(self._flying.values()) + self.queue
        self._flying.clear()

    # -- who am I --------------------------------------------------------------------------------
    def _get_caller_identity(self) -> dict[str, Any]:
        return {}


_ROUTES: list[tuple[str, str, str]] = [
    ("PUT", r"/jobs/(?P<job>[^/]+)", "CreateJob"),
    ("GET", r"/jobs/(?P<job>[^/]+)", "DescribeJob"),
    ("DELETE", r"/jobs/(?P<job>[^/]+)", "DeleteJob"),
    ("GET", r"/jobs/(?P<job>[^/]+)/job-document", "GetJobDocument"),
    ("GET", r"/jobs/(?P<job>[^/]+)/things", "ListJobExecutionsForJob"),
    ("PUT", r"/jobs/(?P<job>[^/]+)/cancel", "CancelJob"),
    ("PUT", r"/things/(?P<thing>[^/]+)/jobs/(?P<job>[^/]+)/cancel", "CancelJobExecution"),
    ("GET", r"/things/(?P<thing>[^/]+)", "DescribeThing"),
    ("PUT", r"/thing-groups/addThingToThingGroup", "AddThingToThingGroup"),
    ("GET", r"/thing-groups/(?P<group>[^/]+)", "DescribeThingGroup"),
    ("POST", r"/thing-groups/(?P<group>[^/]+)", "CreateThingGroup"),
    ("DELETE", r"/thing-groups/(?P<group>[^/]+)", "DeleteThingGroup"),
    ("GET", r"/thing-groups/(?P<group>[^/]+)/things", "ListThingsInThingGroup"),
    ("PUT", r"/packages/(?P<package>[^/]+)", "CreatePackage"),
    ("PUT", r"/packages/(?P<package>[^/]+)/versions/(?P<version>[^/]+)", "CreatePackageVersion"),
    ("PATCH", r"/packages/(?P<package>[^/]+)/versions/(?P<version>[^/]+)", "UpdatePackageVersion"),
]


def _snake(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def response(url: str, status: int, body: bytes, headers: dict[str, str]) -> AWSResponse:
    return AWSResponse(url, status, headers, _Raw(body))


def _portal(operation: str) -> bytes:
    return b"<Hello/>" if operation == "GetCallerIdentity" else b"<html>Welcome to the hotel</html>"


def _identity() -> str:
    return (
        "<GetCallerIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'>"
        f"<GetCallerIdentityResult><Account>{ACCOUNT}</Account>"
        f"<Arn>arn:aws:iam::{ACCOUNT}:user/me</Arn><UserId>me</UserId></GetCallerIdentityResult>"
        "</GetCallerIdentityResponse>"
    )
