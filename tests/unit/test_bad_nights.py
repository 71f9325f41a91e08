"""Couriers at AWS on a bad night: what an operator sees, and that the next step goes on from there.

Throttled for minutes, credentials that end in the middle, lists that lag, things made anew, a clock
that is wrong, a proxy that answers in place of AWS, half a batch refused; and an administrator of the
account who means ill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from simulators import awsfake
from simulators.awsfake import FakeAws
from simulators.courierbench import SsmBench
from simulators.identities import START
from simulators.stopping import Killed

from ota.aws.api import Api
from ota.aws.client import client
from ota.cli.rollout.move import Teller
from ota.couriers import iot_books, ssm_calls, ssm_tools
from ota.couriers.ssm import Options, Ssm
from ota.couriers.ssm_commands import Book, Command
from ota.errors import NotPermitted, OtaError, Outage
from ota.fleet.aws_identities import AwsThings
from ota.fleet.aws_things import IndexedThings, ListedThings
from ota.ports import Order
from ota.rollout.engine import Step
from tests.unit.test_sqs_reports import message

ORDER = "ota-app-2-x7k2m9-u1-w0-b0"
MANY = tuple(f"gw-{n:04}" for n in range(130))
LATER = timedelta(minutes=3)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    made = FakeAws({"gw-1", "gw-2", "gw-3", *MANY})
    made.environment(monkeypatch)
    return made


def order(*devices: str, name: str = ORDER, issued: tuple[str, ...] = ()) -> Order:
    ends = START + timedelta(days=7)
    return Order(name, "app-2-x7k2m9", devices, ends, issued=issued or devices, deadline=3600)


# -- iot-jobs: credentials, patience ---------------------------------------------------------------
STEPS = {
    "CreateThingGroup": 0,
    "AddThingToThingGroup": 17,
    "CreateJob": 0,
}


@pytest.mark.parametrize("operation", STEPS)
@pytest.mark.parametrize(
    ("code", "ours", "next_"),
    [
        ("ExpiredTokenException", "aws-expired", "renew them"),
        ("ThrottlingException", "aws-throttled", "tried again"),
    ],
)
def test_a_dispatch_that_stops_half_way_goes_on(
    fake: FakeAws, tmp_path: Path, operation: str, code: str, ours: str, next_: str
) -> None:
    """Named with the next step; afterwards the same order goes on from there, in one job."""
    calls = [0]
    fault = fake._fault

    def later(name: str) -> Any:
        calls[0] += name == operation
        if name == operation and calls[0] > STEPS[operation]:
            fake.faults.setdefault(name, [])
            fake.fail(name, code)
        return fault(name)

    fake._fault = later  # type: ignore[method-assign] # a fault from the nth call on
    with pytest.raises(OtaError) as caught:
        fake.courier(tmp_path).dispatch(order(*MANY))
    assert (caught.value.code, next_ in caught.value.remedy) == (ours, True)
    assert fake.jobs == {}
    fake._fault = fault  # type: ignore[method-assign]
    fake.faults.clear()
    added = sum(len(members) for members in fake.groups.values())
    before = fake.calls["AddThingToThingGroup"]
    assert fake.courier(tmp_path).dispatch(order(*MANY)) == {}
    assert fake.calls["AddThingToThingGroup"] - before == 31 - added
    assert set(fake.jobs[ORDER].executions) == set(MANY)


@pytest.mark.parametrize("trouble", ["throttled", "unreachable"])
def test_many_orders_do_not_wait_one_after_the_other(
    fake: FakeAws, tmp_path: Path, trouble: str
) -> None:
    """Two hundred orders on a bad night are half a minute, not two hours; then it is tried again."""
    courier = fake.courier(tmp_path, account="111122223333")
    if trouble == "throttled":
        fake.fail("CreateJob", "ThrottlingException", 10_000)
    else:
        fake.dead = True
    for number in range(200):
        with pytest.raises(Outage) as caught:
            courier.dispatch(order("gw-1", name=f"ota-app-2-x7k2m9-u1-w0-b{number}"))
        assert caught.value.code == f"aws-{trouble}"
    assert fake.slept <= 60
    assert fake.calls["CreateJob"] <= 7
    fake.faults.clear()
    fake.dead = False
    fake.slept += 31
    assert courier.dispatch(order("gw-1")) == {}
    assert fake.jobs[ORDER].executions == {"gw-1": "QUEUED"}


def test_a_clock_that_is_wrong_is_called_so(fake: FakeAws, tmp_path: Path) -> None:
    """AWS calls it a bad signature; the operator is told to set the clock, exit 4."""
    said = "Signature expired: 20261123T100000Z is now earlier than 20261123T100500Z"
    fake.fail("CreateJob", "InvalidSignatureException", message=said)
    with pytest.raises(NotPermitted) as caught:
        fake.courier(tmp_path).dispatch(order("gw-1"))
    assert (caught.value.code, caught.value.exit_code) == ("aws-clock", 4)
    assert "timedatectl" in caught.value.remedy


# -- iot-jobs: lists that lag, things made anew ----------------------------------------------------
def test_a_list_that_lags_loses_nobody(fake: FakeAws, tmp_path: Path) -> None:
    """A job made a moment ago whose executions are not listed yet: nobody is called deleted."""
    courier = fake.courier(tmp_path)
    whole = order("gw-1", "gw-2", "gw-3")
    courier.dispatch(whole)
    fake.jobs[ORDER].executions["gw-1"] = "SUCCEEDED"
    fake.unlisted = {"gw-2", "gw-3"}
    assert courier.follow(whole, ("gw-2", "gw-3"), close=False).lost == {}
    fake.now += LATER
    found = courier.follow(whole, ("gw-2", "gw-3"), close=False).lost
    assert set(found) == {"gw-2", "gw-3"}
    assert "no execution" in found["gw-2"]


def test_cancelling_some_while_the_list_lags_spares_the_others(
    fake: FakeAws, tmp_path: Path
) -> None:
    """Who is not in the list yet may be open: the whole job is not cancelled for it."""
    courier = fake.courier(tmp_path)
    whole = order("gw-1", "gw-2", "gw-3")
    courier.dispatch(whole)
    fake.unlisted = {"gw-2", "gw-3"}
    courier.cancel(order("gw-1", issued=whole.devices))
    assert fake.jobs[ORDER].executions == {"gw-1": "CANCELED", "gw-2": "QUEUED", "gw-3": "QUEUED"}
    fake.unlisted = set()
    courier.cancel(whole)
    assert set(fake.jobs[ORDER].executions.values()) == {"CANCELED"}


def test_cancelling_all_is_one_call_whatever_the_list_says(fake: FakeAws, tmp_path: Path) -> None:
    """Everybody of the order is withdrawn: nobody has to be listed for that."""
    courier = fake.courier(tmp_path)
    whole = order("gw-1", "gw-2", "gw-3")
    courier.dispatch(whole)
    fake.unlisted = {"gw-1", "gw-2", "gw-3"}
    courier.cancel(whole)
    assert set(fake.jobs[ORDER].executions.values()) == {"CANCELED"}
    assert fake.calls["CancelJobExecution"] == 0


def test_a_thing_that_was_deleted_and_made_anew(fake: FakeAws, tmp_path: Path) -> None:
    """Its execution went with it: named, never an outcome; the next order reaches the new thing."""
    courier = fake.courier(tmp_path)
    whole = order("gw-1", "gw-2")
    courier.dispatch(whole)
    fake.jobs[ORDER].executions |= {"gw-1": "REMOVED"}
    fake.now += LATER
    assert "REMOVED" in courier.follow(whole, ("gw-1", "gw-2"), close=False).lost["gw-1"]
    again = order("gw-1", name="ota-app-2-x7k2m9-u2-w0-b0")
    assert courier.dispatch(again) == {}
    assert fake.jobs[again.id].executions == {"gw-1": "QUEUED"}


def test_somebody_elses_job_under_our_id_is_not_read_for_ever(
    fake: FakeAws, tmp_path: Path
) -> None:
    """An administrator put a hundred thousand things under it: a look stays as short as the order."""
    courier = fake.courier(tmp_path)
    whole = order("gw-1", "gw-2")
    courier.dispatch(whole)
    executions = {f"x-{n}": "SUCCEEDED" for n in range(100_000)}
    fake.jobs[ORDER].executions = {"gw-1": "SUCCEEDED", **executions}
    fake.now += LATER
    assert "SUCCEEDED" in courier.follow(whole, ("gw-1",), close=False).lost["gw-1"]
    courier.cancel(whole)
    assert fake.calls["ListJobExecutionsForJob"] <= 4
    group = order(*MANY)
    fake.groups[f"ota-{ORDER}"] = set(executions)
    assert len(fake.courier(tmp_path)._targets.members(group)) <= 750


# -- the queue ---------------------------------------------------------------------------------------
def test_half_a_batch_that_can_not_be_deleted_comes_again(fake: FakeAws, tmp_path: Path) -> None:
    """The number and AWS's word; what was deleted stays so."""
    for number in range(10):
        fake.send(message(b"report %d" % number))
    courier = fake.courier(tmp_path)
    found = courier.collect(100)
    fake.stubborn = {d.receipt.handle for d in found[:3]}
    with pytest.raises(Outage) as caught:
        courier.acknowledge(found)
    assert "3 reports were not deleted: InternalError" in str(caught.value)
    assert "they come again" in caught.value.remedy
    fake.stubborn = set()
    fake.offer_again()
    assert {d.data for d in fake.courier(tmp_path).collect(100)} == {d.data for d in found[:3]}


def test_a_flood_of_garbage_does_not_keep_the_operator(fake: FakeAws, tmp_path: Path) -> None:
    """Who can publish on a topic fills the queue faster than it is emptied: a sweep ends all the same.

    What is honest still comes through; the garbage is deleted, should this process end here.
    """
    fake.send(message(b"honest"))
    fake.flood = "garbage"
    courier = fake.courier(tmp_path)
    assert [d.data for d in courier.collect(500)] == [b"honest"]
    assert fake.calls["ReceiveMessage"] < 150
    assert [body for _, body in fake._flying.values()] == [message(b"honest")]
    assert courier.collect(500) or fake.calls["ReceiveMessage"] < 300


# -- things and certificates -------------------------------------------------------------------------
ASKED: dict[str, Callable[[Any], object]] = {
    "certify": lambda iot: AwsThings(iot, ("ota-device",)).certify("PEM"),
    "certificate": lambda iot: AwsThings(iot, ()).certificate("a" * 64),
    "made since": lambda iot: list(AwsThings(iot, ()).made_since(START)),
    "indexed": lambda iot: list(IndexedThings(iot).things()),
    "listed": lambda iot: list(ListedThings(iot).things()),
}


@pytest.mark.parametrize("said", [b"{}", b"[]", b"null", b"<html>Sign in</html>", b""])
@pytest.mark.parametrize("what", ASKED)
def test_something_that_is_not_aws_iot(fake: FakeAws, what: str, said: bytes) -> None:
    """A proxy that says yes: an outage, never a traceback, and never "there are none"."""
    iot = client("iot")

    def answer(request: Any, **_: Any) -> Any:
        return awsfake.response(request.url, 200, said, {})

    iot.meta.events.register("before-send.iot", answer)
    with pytest.raises(Outage) as caught:
        ASKED[what](iot)
    assert caught.value.code == "aws-unreachable"
    assert fake.jobs == {}


# -- ssm ---------------------------------------------------------------------------------------------
@pytest.fixture(name="bench")
def _bench(tmp_path: Path) -> Iterator[SsmBench]:
    made = SsmBench(tmp_path)
    made.join("gw-1", "gw-2", "gw-3")
    yield made
    made.close()


def api() -> Api:
    return Api(
        ssm_calls.CALLS,
        ssm_calls.ROLE,
        rates=dict.fromkeys(ssm_calls.CALLS, 1e3),
        sleep=lambda _seconds: None,
    )


def courier(bench: SsmBench, nodes: Callable[..., Any] | None = None, **words: Any) -> Ssm:
    base = {"visit": 0.0, "visit_max": 0.0, "look": False, "patience": 0.0, "wait": 0}
    folder = bench.folder / "state" / "ssm"
    made = nodes or bench.fake.node_ids
    return Ssm(api(), made, folder, lambda: START, Options(**{**base, **words}))


PORTALS = [b"{}", b"[]", b"null", b"<html><body>Sign in</body></html>", b'{"Command": {}}', b""]


@pytest.mark.parametrize("said", PORTALS)
def test_something_that_is_not_systems_manager(bench: SsmBench, said: bytes) -> None:
    """A proxy that says yes to everything, at the first call and at any later one: no traceback.

    No order counts as sent, and nobody counts as heard.
    """
    bench.fake.portal = said
    for call in (
        lambda: courier(bench).dispatch(order("gw-1")),
        lambda: ssm_tools.activate(
            Api(ssm_calls.ACTIVATION, "enrol"), "gw-1", "ota", timedelta(hours=1), START
        ),
    ):
        with pytest.raises(Outage) as caught:
            call()
        assert caught.value.code == "aws-unreachable"
        assert "proxy" in caught.value.remedy
    bench.fake.portal = None
    running = courier(bench)
    assert running.document.version == "1"
    bench.fake.portal = said
    with pytest.raises(Outage) as later:
        running.dispatch(order("gw-1"))
    assert later.value.code == "aws-unreachable"
    with pytest.raises(Outage) as closed:
        courier(bench, calendars=("plant",)).dispatch(order("gw-1"))
    assert closed.value.code == "aws-unreachable"
    bench.fake.portal = None
    assert bench.hints("gw-1") == []
    assert courier(bench).dispatch(order("gw-1")) == {}
    assert bench.hints("gw-1") == [ORDER]


@pytest.mark.parametrize("label", ["mi-typo", "press 09", "i-0123", "mi-" + "0" * 18])
def test_a_label_that_names_no_node_stops_only_its_device(bench: SsmBench, label: str) -> None:
    """AWS would refuse the whole call: the device is named, the others get their hints."""

    def nodes(devices: Any) -> dict[str, str]:
        return {**bench.fake.node_ids(devices), "gw-2": label}

    missed = courier(bench, nodes).dispatch(order("gw-1", "gw-2", "gw-3"))
    assert set(missed) == {"gw-2"}
    assert "ssm-no-node" in missed["gw-2"]
    assert [bench.hints(d) for d in ("gw-1", "gw-2", "gw-3")] == [[ORDER], [], [ORDER]]


def test_one_node_for_two_devices(bench: SsmBench) -> None:
    """A label that was copied: the second is named, and does not take the first one's place."""
    known = bench.fake.node_ids(("gw-1", "gw-2", "gw-3"))

    def nodes(devices: Any) -> dict[str, str]:
        return {d: known["gw-1" if d == "gw-2" else d] for d in devices}

    missed = courier(bench, nodes).dispatch(order("gw-1", "gw-2", "gw-3"))
    assert set(missed) == {"gw-2"}
    assert "gw-1" in missed["gw-2"]
    assert [bench.hints(d) for d in ("gw-1", "gw-2", "gw-3")] == [[ORDER], [], [ORDER]]


def test_a_node_that_was_removed_a_moment_ago(bench: SsmBench) -> None:
    """Still listed as online, and AWS refuses the whole batch for it: the others get theirs."""
    bench.fake.gone = {bench.fake.node("gw-2").id}
    missed = courier(bench).dispatch(order("gw-1", "gw-2", "gw-3"))
    assert set(missed) == {"gw-2"}
    assert "ssm-offline" in missed["gw-2"]
    assert [bench.hints(d) for d in ("gw-1", "gw-2", "gw-3")] == [[ORDER], [], [ORDER]]
    bench.fake.gone = set()
    courier(bench).collect(10)
    assert bench.hints("gw-2") == [ORDER]


def test_credentials_that_end_between_two_batches(
    bench: SsmBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 4; renewed, only the second batch is sent: each device hears the order once."""
    monkeypatch.setattr("ota.couriers.ssm.BATCH", 2)
    devices = ("gw-1", "gw-2", "gw-3")
    send = bench.fake.do_SendCommand

    def ends(words: dict[str, Any]) -> dict[str, Any]:
        found = send(words)
        bench.fake.fail("SendCommand", "ExpiredTokenException", 99)
        return found

    bench.fake.do_SendCommand = ends  # type: ignore[method-assign] # they end after it
    with pytest.raises(NotPermitted) as caught:
        courier(bench).dispatch(order(*devices))
    assert (caught.value.code, caught.value.exit_code) == ("aws-expired", 4)
    assert "renew" in caught.value.remedy
    bench.fake.do_SendCommand = send  # type: ignore[method-assign]
    bench.fake.fail("SendCommand", "", 0)
    assert courier(bench).dispatch(order(*devices)) == {}
    assert [len(sent["InstanceIds"]) for sent in bench.fake.sent] == [2, 1]
    assert all(bench.hints(d) == [ORDER] for d in devices)


def test_throttled_for_minutes(bench: SsmBench) -> None:
    """An outage with its remedy; the next step sends, once."""
    bench.fake.fail("SendCommand", "ThrottlingException", 99)
    with pytest.raises(Outage) as caught:
        courier(bench).dispatch(order("gw-1"))
    assert caught.value.code == "aws-throttled"
    bench.fake.fail("SendCommand", "", 0)
    assert courier(bench).dispatch(order("gw-1")) == {}
    assert len(bench.fake.sent) == 1


@pytest.mark.parametrize("lag", [False, True], ids=["listed", "not listed yet"])
def test_a_crash_after_sending_while_there_are_many_commands(
    bench: SsmBench, monkeypatch: pytest.MonkeyPatch, lag: bool
) -> None:
    """Found again behind sixty others; or, where the list lags, sent again: heard once all the same."""

    def die(_book: Book, _command: Command) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Book, "put", die)
        with pytest.raises(Killed):
            courier(bench).dispatch(order("gw-1"))
    (mine,) = bench.fake.commands
    other = dict(bench.fake.commands[mine])
    other["request"] = {**other["request"], "Comment": "another's", "InstanceIds": []}
    kept = bench.fake.commands.pop(mine)
    bench.fake.commands |= {f"{n:08}-aaaa": dict(other) for n in range(60)}
    bench.fake.commands[mine] = kept
    bench.fake.hidden = {mine} if lag else set()
    assert courier(bench).dispatch(order("gw-1")) == {}
    assert len(bench.fake.sent) == 1 + lag
    assert bench.hints("gw-1") == [ORDER]


def test_pages_without_end(bench: SsmBench) -> None:
    """Whatever answers so does not hold the operator."""
    running = courier(bench)
    running.dispatch(order("gw-1"))
    bench.fake.endless = True
    bench.fake.held = True
    running.dispatch(order("gw-2"))
    running.collect(10)
    assert bench.fake.calls["ListCommandInvocations"] < 100


def test_a_command_that_is_gone_can_be_cancelled(bench: SsmBench) -> None:
    """Systems Manager keeps none for ever: withdrawing what it has forgotten is done."""
    bench.fake.held = True
    running = courier(bench)
    running.dispatch(order("gw-1"))
    bench.fake.commands.clear()
    running.cancel(order("gw-1"))
    assert bench.hints("gw-1") == []


def test_the_grace_is_as_documented() -> None:
    """Two minutes: as long as a report may be on its way."""
    assert timedelta(minutes=2) == iot_books._GRACE < LATER


# -- what an operator reads --------------------------------------------------------------------------
class Said:
    """Lines on stderr."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Keep it."""
        self.lines.append(line)


def test_a_problem_that_lasts_is_told_once() -> None:
    """A step every two seconds, all night: a line when it comes, another when it comes back."""
    said = Said()
    tell = Teller(said)  # type: ignore[arg-type] # all that it uses of a session
    status: dict[str, Any] = {"rollout": "app-2-x", "state": "RUNNING", "waves": []}
    for problems in (["expired"],) * 3 + ([],) + (["expired", "throttled", "throttled"],) * 2:
        tell(Step("app-2-x", "RUNNING", problems=list(problems)), status)
    assert said.lines[1:] == ["app-2-x: expired", "app-2-x: expired", "app-2-x: throttled"]
