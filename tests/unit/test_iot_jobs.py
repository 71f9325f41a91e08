"""The courier ``iot-jobs`` over a strict AWS in memory: crashes, throttling, lag, lies, and counts."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from simulators.awsfake import ACCOUNT, BASE, FakeAws, Job
from simulators.identities import START
from simulators.stopping import Killed

from ota.agent import hints
from ota.couriers.iot_jobs import IotJobs
from ota.errors import Malformed, Misuse, NotFound, NotPermitted, Outage, Refusal
from ota.ports import Order

ROLLOUT = "app-2-x7k2m9"
ORDER = f"ota-{ROLLOUT}-u1-w0-b0"
QUEUE_ARN = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:ota-reports"
MANY = tuple(f"gw-{n:04}" for n in range(130))


def order(*devices: str, name: str = ORDER, issued: tuple[str, ...] = (), **more: object) -> Order:
    return Order(name, ROLLOUT, devices, START, issued=issued or devices, deadline=3600, **more)


def message(data: bytes, thing: str = "gw-1") -> str:
    return json.dumps({"report": base64.b64encode(data).decode(), "thing": thing})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    made = FakeAws({"gw-1", "gw-2", "gw-3", "a:b", *MANY})
    made.environment(monkeypatch)
    return made


def same(fake: FakeAws, whole: Order) -> None:
    """Exactly one job, for exactly these devices, with the hint of this order."""
    assert list(fake.jobs) == [whole.id]
    job = fake.jobs[whole.id]
    assert set(job.executions) == set(whole.devices)
    assert hints.parse(job.document.encode()).order == whole.id


# -- out -----------------------------------------------------------------------------------------
def test_an_order_is_one_job(fake: FakeAws, tmp_path: Path) -> None:
    """One call; the document is a hint and nothing else; AWS's own abort is off."""
    assert fake.courier(tmp_path, account=ACCOUNT).dispatch(order("gw-1", "a:b")) == {}
    assert fake.calls == {"CreateJob": 1}
    words = fake.jobs[ORDER].words
    assert words["targets"] == [f"{BASE}:thing/gw-1", f"{BASE}:thing/a:b"]
    assert json.loads(words["document"]) == {"schema": 2, "order": ORDER, "rollout": ROLLOUT}
    assert hints.read(words["document"].encode(), "gw-1").order == ORDER
    assert words["targetSelection"] == "SNAPSHOT"
    assert words["jobExecutionsRolloutConfig"] == {"maximumPerMinute": 1000}
    assert words["timeoutConfig"] == {"inProgressTimeoutInMinutes": 60}
    assert words["jobExecutionsRetryConfig"] == {
        "criteriaList": [{"failureType": "TIMED_OUT", "numberOfRetries": 1}]
    }
    assert not {"abortConfig", "presignedUrlConfig", "documentSource", "schedulingConfig"} & set(
        words
    )


def test_settings_reach_the_job(fake: FakeAws, tmp_path: Path) -> None:
    """Rate, retries, and the abort that must be asked for by an unsafe name."""
    courier = fake.courier(
        tmp_path, account=ACCOUNT, per_minute=7, retries=0, unsafe_abort_percent=30
    )
    courier.dispatch(order("gw-1"))
    words = fake.jobs[ORDER].words
    assert words["jobExecutionsRolloutConfig"] == {"maximumPerMinute": 7}
    assert "jobExecutionsRetryConfig" not in words
    assert words["abortConfig"]["criteriaList"] == [
        {
            "failureType": "ALL",
            "action": "CANCEL",
            "thresholdPercentage": 30.0,
            "minNumberOfExecutedThings": 10,
        }
    ]


def test_more_than_a_hundred_go_through_a_group(fake: FakeAws, tmp_path: Path) -> None:
    """99 are named and cost nothing, one call for each of the others; the group goes in the end."""
    courier = fake.courier(tmp_path)
    assert courier.dispatch(order(*MANY)) == {}
    same(fake, order(*MANY))
    assert len(fake.jobs[ORDER].targets) == 100
    assert fake.groups == {f"ota-{ORDER}": set(MANY[99:])}
    assert fake.calls["AddThingToThingGroup"] == 31
    assert courier.follow(order(*MANY), (), close=True).closed
    assert fake.groups == {}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "devices", [("gw-1", "gw-2", "gone"), (*MANY, "gone")], ids=["few", "many"]
)
def test_killed_at_any_call(
    fake: FakeAws, tmp_path: Path, devices: tuple[str, ...], *, after: bool
) -> None:
    """And done again by a new process: one job, all devices, and the missing one named."""
    whole = order(*devices)
    fake.kill = (0, False)
    fake.courier(tmp_path).dispatch(whole)
    total = fake.calls.total()
    steps = range(1, total + 1) if total < 40 else [1, 2, 3, 4, 20, total - 3, total - 1, total]
    for at in steps:
        fake.jobs.clear()
        fake.groups.clear()
        fake.calls.clear()
        fake.kill = (at, after)
        with pytest.raises(Killed):
            fake.courier(tmp_path).dispatch(whole)
        fake.kill = (0, False)
        left = fake.courier(tmp_path).dispatch(whole)
        same(fake, order(*devices[:-1]))
        assert list(left) == ["gone"]
        assert "gone" in left["gone"]


def test_an_answer_that_is_lost_is_no_second_job(fake: FakeAws, tmp_path: Path) -> None:
    """The call had its effect, the answer was an error: the next one finds the job and is done."""
    fake.fail("CreateJob", "InternalFailureException", after=True)
    with pytest.raises(Outage):
        fake.courier(tmp_path).dispatch(order("gw-1"))
    assert fake.courier(tmp_path).dispatch(order("gw-1")) == {}
    same(fake, order("gw-1"))


@pytest.mark.parametrize(
    ("document", "targets", "reason"),
    [
        ("{}", ["gw-1"], "its document is another"),
        ('{"schema":2,"order":"ota-else","rollout":"x"}', ["gw-1"], "its document is another"),
        ("not json", ["gw-1"], "its document is another"),
        ("\ud800", ["gw-1"], "its document is another"),
        ('{"schema":2,"schema":2}', ["gw-1"], "its document is another"),
        (None, ["gw-1", "gw-9"], "1 other targets"),
    ],
)
def test_a_job_that_is_not_ours(
    fake: FakeAws, tmp_path: Path, document: str | None, targets: list[str], reason: str
) -> None:
    """Somebody made a job under the order's id: an error of its own; nothing of it is touched."""
    honest = json.dumps({"rollout": ROLLOUT, "order": ORDER, "schema": 2})
    arns = [f"{BASE}:thing/{t}" for t in targets]
    fake.jobs[ORDER] = Job(arns, document or honest, {}, dict.fromkeys(targets, "QUEUED"))
    with pytest.raises(Refusal, match=reason) as caught:
        fake.courier(tmp_path).dispatch(order("gw-1"))
    assert caught.value.code == "job-differs"
    assert "delete-job" in caught.value.remedy
    assert fake.jobs[ORDER].executions == dict.fromkeys(targets, "QUEUED")


def test_a_job_may_reach_devices_that_were_left_out_since(fake: FakeAws, tmp_path: Path) -> None:
    """After a crash fewer devices may be ready: the job for all that were issued is this order."""
    fake.courier(tmp_path).dispatch(order("gw-1", "gw-2"))
    again = order("gw-1", issued=("gw-1", "gw-2"))
    assert fake.courier(tmp_path).dispatch(again) == {}


def test_a_job_that_is_being_deleted(fake: FakeAws, tmp_path: Path) -> None:
    """AWS knows the id and has no job: try again later."""
    fake.fail("CreateJob", "ResourceAlreadyExistsException")
    with pytest.raises(Outage) as caught:
        fake.courier(tmp_path).dispatch(order("gw-1"))
    assert caught.value.code == "aws-lag"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 65, "ota-ü"])
def test_order_ids_are_checked(fake: FakeAws, tmp_path: Path, name: str) -> None:
    """Before a call is made."""
    with pytest.raises(Malformed):
        fake.courier(tmp_path).dispatch(order("gw-1", name=name))
    assert not fake.calls


# -- things --------------------------------------------------------------------------------------
def test_things_that_do_not_exist(fake: FakeAws, tmp_path: Path) -> None:
    """Deleted, renamed, or never there: named, the others go; the same answer the next time."""
    courier = fake.courier(tmp_path)
    for _ in range(2):
        left = courier.dispatch(order("gw-1", "gw-7"))
        assert list(left) == ["gw-7"]
        assert "thing gw-7" in left["gw-7"]
    same(fake, order("gw-1"))
    only = order("gw-8", name=f"{ORDER}1")
    assert "renamed?" in courier.dispatch(only)["gw-8"]
    assert list(fake.jobs) == [ORDER]


@pytest.mark.parametrize("devices", [("x-1", "x-2"), tuple(f"x-{n}" for n in range(120))])
def test_where_nothing_exists_the_region_is_wrong(
    fake: FakeAws, tmp_path: Path, devices: tuple[str, ...]
) -> None:
    """No device is counted as unreachable for it; account and region are named."""
    with pytest.raises(NotFound) as caught:
        fake.courier(tmp_path).dispatch(order(*devices))
    assert caught.value.code == "iot-things"
    assert BASE in str(caught.value)
    assert "region" in caught.value.remedy
    assert not fake.jobs


def test_names_of_things_come_from_a_label(fake: FakeAws, tmp_path: Path) -> None:
    """Without one, with a bad one, or with another's, a device has no thing to be reached by."""
    names = {"d1": "gw-1", "d2": "", "d3": "no name", "d4": "gw-1"}
    courier = fake.courier(tmp_path)
    courier._targets._naming = lambda devices: {d: names[d] for d in devices if d in names}
    left = courier.dispatch(order("d1", "d2", "d3", "d4", "d5"))
    assert set(fake.jobs[ORDER].executions) == {"gw-1"}
    assert set(left) == {"d2", "d3", "d4", "d5"}
    assert "is also that of d1" in left["d4"]


def test_only_what_was_named_is_looked_up(fake: FakeAws, tmp_path: Path) -> None:
    """A thing that vanished just now costs a question for each target, not for each device."""
    fake.fail("CreateJob", "ResourceNotFoundException")
    with pytest.raises(Outage):
        fake.courier(tmp_path).dispatch(order(*MANY))
    assert fake.calls["DescribeThing"] == 99


def test_a_group_that_aws_does_not_see_yet(fake: FakeAws, tmp_path: Path) -> None:
    """No thing is called missing because its group was: an outage, and the next step fills it."""
    fake.lag = 2
    for _ in range(9):
        try:
            assert fake.courier(tmp_path).dispatch(order(*MANY)) == {}
            break
        except Outage as e:
            assert e.code == "aws-lag"  # noqa: PT017 - one of several tries
    same(fake, order(*MANY))


# -- patience ------------------------------------------------------------------------------------
def test_throttled_calls_are_tried_again_and_slower(fake: FakeAws, tmp_path: Path) -> None:
    """With pauses that grow; the pace goes down and finds its way back."""
    fake.fail("AddThingToThingGroup", "ThrottlingException", times=6)
    assert fake.courier(tmp_path).dispatch(order(*MANY)) == {}
    same(fake, order(*MANY))
    assert fake.slept > 1


def test_patience_ends(fake: FakeAws, tmp_path: Path) -> None:
    """After about half a minute it is an outage, and a later step goes on."""
    fake.fail("CreateJob", "TooManyRequestsException", times=99)
    with pytest.raises(Outage) as caught:
        fake.courier(tmp_path).dispatch(order("gw-1"))
    assert caught.value.code == "aws-throttled"
    assert fake.calls["CreateJob"] == 7
    assert 15 < fake.slept < 40
    fake.faults.clear()
    assert fake.courier(tmp_path).dispatch(order("gw-1")) == {}


def test_a_quota_is_no_throttling(fake: FakeAws, tmp_path: Path) -> None:
    """Too many active jobs: told at once, with another code."""
    fake.fail("CreateJob", "LimitExceededException")
    with pytest.raises(Outage) as caught:
        fake.courier(tmp_path).dispatch(order("gw-1"))
    assert (caught.value.code, fake.calls["CreateJob"]) == ("aws-limit", 1)


def test_each_operation_has_its_own_pace(fake: FakeAws, tmp_path: Path) -> None:
    """As ``rates`` says: filling a group of 31 at 10 a second takes two seconds after the first."""
    fake.courier(tmp_path, rates={"AddThingToThingGroup": 10}).dispatch(order(*MANY))
    assert fake.slept >= 2.0
    with pytest.raises(Malformed, match="CreateJobs"):
        fake.courier(tmp_path, rates={"CreateJobs": 1})


# -- where, and with which rights ----------------------------------------------------------------
def test_a_queue_of_another_region(fake: FakeAws, tmp_path: Path) -> None:
    """Its URL says so: told before a call is made."""
    with pytest.raises(Misuse, match="is in eu-west-1, but the region is us-east-1") as caught:
        fake.courier(tmp_path, region="us-east-1").collect(1)
    assert caught.value.code == "aws-region"
    assert not fake.calls


def do_everything(fake: FakeAws, courier: IotJobs, whole: Order) -> None:
    courier.acknowledge(courier.collect(10))
    courier.dispatch(whole)
    fake.jobs[ORDER].executions["gw-0000"] = "FAILED"
    courier.follow(whole, MANY, close=False)
    courier.cancel(whole)
    courier.tidy(whole)


RIGHTS = [
    ("CreateJob", f"{BASE}:job/{ORDER}"),
    ("DescribeThingGroup", f"{BASE}:thinggroup/ota-{ORDER}"),
    ("CreateThingGroup", f"{BASE}:thinggroup/ota-{ORDER}"),
    ("AddThingToThingGroup", f"{BASE}:thinggroup/ota-{ORDER}"),
    ("ReceiveMessage", QUEUE_ARN),
    ("DescribeJob", f"{BASE}:job/{ORDER}"),
    ("ListJobExecutionsForJob", f"{BASE}:job/{ORDER}"),
    ("CancelJob", f"{BASE}:job/{ORDER}"),
    ("DeleteThingGroup", f"{BASE}:thinggroup/ota-{ORDER}"),
    ("DeleteJob", f"{BASE}:job/{ORDER}"),
    ("DeleteMessageBatch", QUEUE_ARN),
]


@pytest.mark.parametrize(("operation", "resource"), RIGHTS, ids=[o for o, _ in RIGHTS])
@pytest.mark.parametrize(
    ("said", "code"),
    [("AccessDeniedException", "aws-denied"), ("ExpiredTokenException", "aws-expired")],
)
def test_a_right_that_is_missing_is_named(
    fake: FakeAws, tmp_path: Path, operation: str, resource: str, said: str, code: str
) -> None:
    """Which action, on what, in which role's policy; expired credentials are another thing."""
    whole = order(*MANY)
    fake.fail(operation, said, times=99)
    fake.send(message(b"one"))
    courier = fake.courier(tmp_path)
    with pytest.raises(NotPermitted) as caught:
        do_everything(fake, courier, whole)
    action = "sqs:DeleteMessage" if operation == "DeleteMessageBatch" else operation
    assert caught.value.code == code
    assert action in str(caught.value)
    assert resource in str(caught.value)
    if code == "aws-denied":
        assert f"on {resource} in the policy of the rollout role" in caught.value.remedy
    else:
        assert "renew" in caught.value.remedy


def test_a_job_deleted_between_two_questions(fake: FakeAws, tmp_path: Path) -> None:
    """Nobody is called lost by half a look; the next one says that the job is gone."""
    courier = fake.courier(tmp_path)
    courier.dispatch(order("gw-1", "gw-2"))
    fake.jobs[ORDER].executions["gw-1"] = "FAILED"
    fake.fail("ListJobExecutionsForJob", "ResourceNotFoundException")
    assert courier.follow(order("gw-1", "gw-2"), ["gw-1"], close=False).lost == {}
    del fake.jobs[ORDER]
    assert "deleted by hand" in courier.follow(order("gw-1", "gw-2"), ["gw-1"], close=False).note


def test_something_that_is_not_aws(fake: FakeAws, tmp_path: Path) -> None:
    """A proxy that says yes to everything: no order counts as sent, nobody as lost or found."""
    courier = fake.courier(tmp_path, account=ACCOUNT)
    courier.dispatch(order("gw-1"))
    fake.portal = True
    for ask in (
        lambda: courier.dispatch(order("gw-2", name=f"{ORDER}1")),
        lambda: courier.follow(order("gw-1"), ["gw-1"], close=False),
        lambda: fake.courier(tmp_path).dispatch(order("gw-2", name=f"{ORDER}1")),
    ):
        with pytest.raises(Outage, match="not one of AWS") as caught:
            ask()
        assert caught.value.code == "aws-unreachable"
    assert courier.collect(10) == []


# -- the catalogue -------------------------------------------------------------------------------
def test_a_release_gets_one_package_version(fake: FakeAws, tmp_path: Path) -> None:
    """Made and published once, named by each job that leads to it; a mixed order names none."""
    courier = fake.courier(tmp_path, packages=True)
    courier.dispatch(order("gw-1", releases=("app@2.0.0+b:7",)))
    courier.dispatch(order("gw-2", name=f"{ORDER}1", releases=("app@2.0.0+b:7",)))
    courier.dispatch(order("gw-3", name=f"{ORDER}2", releases=("app@1.0.0", "app@1.1.0")))
    assert fake.packages == {"app": "DRAFT", "app/2.0.0_pb_c7": "PUBLISHED"}
    arn = f"{BASE}:package/app/version/2.0.0_pb_c7"
    assert [job.words.get("destinationPackageVersions") for job in fake.jobs.values()] == [
        [arn],
        [arn],
        None,
    ]
    assert fake.calls["UpdatePackageVersion"] == 1
    again = fake.courier(tmp_path, packages=True)
    again.dispatch(order("gw-1", name=f"{ORDER}3", releases=("app@2.0.0+b:7",)))
    assert fake.packages["app/2.0.0_pb_c7"] == "PUBLISHED"


# -- counts --------------------------------------------------------------------------------------
def test_a_quiet_poll_is_one_call(fake: FakeAws, tmp_path: Path) -> None:
    """However many devices have not changed, and however many orders are open."""
    courier = fake.courier(tmp_path, account=ACCOUNT)
    for number in range(13):
        courier.dispatch(order(*MANY[number * 10 : number * 10 + 10], name=f"{ORDER}{number}"))
    for _ in range(5):
        fake.calls.clear()
        assert courier.collect(500) == []
        assert fake.calls == {"ReceiveMessage": 1}
