"""The courier ``ssm`` on a strict Systems Manager of our own: hashes, offline nodes, crashes, liars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from simulators.courierbench import SsmBench
from simulators.identities import START
from simulators.ssm_node import Ran

from ota.aws.api import Api
from ota.couriers import ssm_calls, ssm_document
from ota.couriers.ssm import Options, Ssm
from ota.errors import NotPermitted, Outage, Refusal
from ota.ports import Order
from signing import strict

ORDER = "ota-app-2-x7k2m9-u1-w0-b0"


def order(*devices: str, name: str = ORDER) -> Order:
    return Order(name, "app-2-x7k2m9", devices, START + timedelta(days=7))


@pytest.fixture(name="bench")
def _bench(tmp_path: Path) -> Iterator[SsmBench]:
    made = SsmBench(tmp_path)
    made.join("gw-1", "gw-2")
    yield made
    made.close()


def courier(bench: SsmBench, api: Api | None = None, now: Any = None, **words: Any) -> Ssm:
    made = api or Api(ssm_calls.CALLS, ssm_calls.ROLE, rates=dict.fromkeys(ssm_calls.CALLS, 1e3))
    base = {"visit": 0.0, "visit_max": 0.0, "look": False, "patience": 0.0, "wait": 0}
    folder = bench.folder / "state" / "ssm"
    clock = now or (lambda: START)
    return Ssm(made, bench.fake.node_ids, folder, clock, Options(**{**base, **words}))


# -- the document ----------------------------------------------------------------------------------
def test_a_command_is_pinned_and_says_only_look_now(bench: SsmBench) -> None:
    """Version and hash stand in the request; the order in its comment; nothing secret anywhere."""
    courier(bench, config="/etc/ota-agent/agent.toml").dispatch(order("gw-1", "gw-2"))
    (sent,) = bench.fake.sent
    (text,) = bench.fake.documents.values()
    assert sent["DocumentHash"] == strict.digest(text.encode())
    assert (sent["DocumentVersion"], sent["DocumentHashType"]) == ("1", "Sha256")
    assert sent["DocumentName"] == ssm_document.name("ota")
    assert sent["Comment"].startswith(f"{ORDER} ")
    assert (sent["MaxErrors"], sent["MaxConcurrency"]) == ("100%", "100%")
    assert sent["Parameters"] == {
        "Order": [ORDER],
        "Rollout": ["app-2-x7k2m9"],
        "Acks": [""],
        "Cancels": [""],
        "Device": ["-"],
        "Wait": ["0"],
        "Look": ["no"],
        "Config": ["/etc/ota-agent/agent.toml"],
    }


def test_the_document_is_small_and_takes_parameters_from_the_environment_only() -> None:
    """Under 64 KB, each parameter with an anchored pattern, none pasted into the script."""
    document = json.loads(ssm_document.content())
    assert len(ssm_document.content()) < 16_384
    for parameter in document["parameters"].values():
        assert parameter["interpolationType"] == "ENV_VAR"
        assert parameter["allowedPattern"].startswith("^")
        assert parameter["allowedPattern"].endswith("$")
    assert "{{" not in json.dumps(document["mainSteps"])
    assert strict.digest(ssm_document.content())[:12] in ssm_document.name("ota")


def test_a_document_that_somebody_changed_is_not_sent(bench: SsmBench) -> None:
    """What lies under the name is compared by every new process: a refusal, nothing sent."""
    courier(bench).dispatch(order("gw-1"))
    (name,) = bench.fake.documents
    good = bench.fake.documents[name]
    bench.fake.documents[name] = good.replace("ota-agent relay", "rm -rf / #")
    with pytest.raises(Refusal) as caught:
        courier(bench).dispatch(order("gw-2", name="ota-app-2-x7k2m9-u1-w1-b0"))
    assert caught.value.code == "ssm-document"
    assert len(bench.fake.sent) == 1
    assert bench.hints("gw-2") == []
    bench.fake.documents[name] = good
    assert courier(bench).dispatch(order("gw-2", name="ota-app-2-x7k2m9-u1-w1-b0")) == {}
    assert bench.hints("gw-2") == ["ota-app-2-x7k2m9-u1-w1-b0"]


def test_a_document_changed_after_it_was_compared(bench: SsmBench) -> None:
    """Between two commands of one process: the hash in the request no longer fits, AWS refuses."""
    running = courier(bench)
    running.dispatch(order("gw-1"))
    (name,) = bench.fake.documents
    bench.fake.documents[name] += " "
    with pytest.raises(Outage, match="InvalidDocument"):
        running.dispatch(order("gw-2", name="ota-app-2-x7k2m9-u1-w1-b0"))
    assert bench.hints("gw-2") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Order", "ota-x; reboot"),
        ("Order", "$(reboot)"),
        ("Rollout", "a b"),
        ("Acks", "0000000001-aaaaaaaa.json;ls"),
        ("Acks", "../../etc/passwd"),
        ("Cancels", "ota-a|ls"),
        ("Device", "a`ls`"),
        ("Wait", "1e9"),
        ("Look", "yes\n"),
        ("Config", "/etc/../x y"),
        ("Config", "relative"),
    ],
)
def test_shell_metacharacters_fit_no_pattern(bench: SsmBench, name: str, value: str) -> None:
    """Systems Manager refuses them; on a node that was given them all the same, nothing runs."""
    courier(bench).dispatch(order("gw-1"))
    (sent,) = bench.fake.sent
    words = json.loads(json.dumps(sent))
    words["Parameters"][name] = [value]
    import simulators.ssmfake as fake  # noqa: PLC0415 - its error only

    with pytest.raises(fake.SaidNo) as caught:
        bench.fake.do_SendCommand(words)
    assert caught.value.code == "InvalidParameters"
    before = sorted(bench.fake.node("gw-2").folder.rglob("*"))
    parameters = {k: v for k, (v,) in words["Parameters"].items()} | {name: value}
    if name != "Config":
        parameters["Config"] = ""
    document = json.loads(ssm_document.content())
    for parameter in document["parameters"].values():
        parameter["allowedPattern"] = r"^[\s\S]*$"  # a service that checks nothing
    ran = bench.fake.node("gw-2").run(document, parameters)
    if name not in {"Look", "Config"}:  # those two only choose: anything but yes is no
        assert ran.status != 0
    assert bench.hints("gw-2") in ([], [ORDER])
    assert not [
        p
        for p in bench.fake.node("gw-2").folder.rglob("*")
        if p not in before and "spool" not in str(p)
    ]


# -- nodes -----------------------------------------------------------------------------------------
def test_a_device_without_a_node_is_unreachable(bench: SsmBench) -> None:
    """Named, with what to do; the others get theirs."""
    found = courier(bench).dispatch(order("gw-1", "gw-7"))
    assert list(found) == ["gw-7"]
    assert found["gw-7"].startswith("ssm-no-node")
    assert bench.hints("gw-1") == [ORDER]


def test_an_offline_node_gets_its_hint_when_it_is_back(bench: SsmBench) -> None:
    """Unreachable, not failed; sent once it is heard again."""
    bench.lose("gw-1")
    running = courier(bench)
    assert running.dispatch(order("gw-1"))["gw-1"].startswith("ssm-offline")
    assert bench.fake.sent == []
    bench.fake.node("gw-1").ping = "Online"
    running.collect(9)
    assert bench.hints("gw-1") == [ORDER]


def test_a_delivery_that_times_out_is_tried_again(bench: SsmBench) -> None:
    """A node that went away between the look and the command: unreachable with AWS's word for it."""
    bench.fake.held = True
    running = courier(bench)
    assert running.dispatch(order("gw-1", "gw-2")) == {}
    (command,) = bench.fake.commands
    bench.fake.nodes[bench.fake.node("gw-1").id].ping = "ConnectionLost"
    bench.fake.deliver(command)
    bench.fake.time_out(command)
    bench.fake.held = False
    running.collect(9)
    lost = running.follow(order("gw-1", "gw-2"), ["gw-1", "gw-2"], close=False).lost
    assert list(lost) == ["gw-1"]
    assert "ssm-" in lost["gw-1"]
    bench.fake.node("gw-1").ping = "Online"
    running.collect(9)
    running.collect(9)
    assert bench.hints("gw-1") == [ORDER]


def test_a_node_that_never_answers_is_given_up_at_the_commands_end(bench: SsmBench) -> None:
    """Its command ends; it is asked again afterwards."""
    now = [START]
    bench.fake.held = True
    running = courier(bench, now=lambda: now[0], delivery=600)
    running.dispatch(order("gw-1"))
    assert running.collect(9) == []
    assert len(bench.fake.sent) == 1
    now[0] += timedelta(seconds=901)
    running.collect(9)
    assert "ssm-silent" in running.follow(order("gw-1"), ["gw-1"], close=False).lost["gw-1"]
    assert len(bench.fake.sent) == 2
    bench.fake.deliver(list(bench.fake.commands)[-1])
    running.collect(9)
    assert bench.hints("gw-1") == [ORDER]


# -- batches and calls -------------------------------------------------------------------------------
def test_fifty_nodes_a_command(bench: SsmBench) -> None:
    """120 devices of one order are three commands; an answer costs one call a node."""
    devices = [f"many-{n:03}" for n in range(120)]
    bench.join(*devices)
    bench.fake.forge = lambda node, _ran: Ran(0, _answer(bench.fake.nodes[node].device), "")
    for node in bench.fake.nodes.values():
        node.run = lambda *_: Ran(0, "", "")  # type: ignore[method-assign] # no process each
    running = courier(bench)
    assert running.dispatch(order(*devices)) == {}
    assert [len(s["InstanceIds"]) for s in bench.fake.sent] == [50, 50, 20]
    assert bench.fake.calls["GetCommandInvocation"] == 120
    assert bench.fake.calls["ListCommandInvocations"] == 3
    assert bench.fake.calls["DescribeInstanceInformation"] == 3


def _answer(device: str, **more: Any) -> str:
    body = {"schema": 1, "device": device, "agent": "0", "hint": "new", "look": ""}
    return json.dumps({**body, "reports": [], "more": False, "oversize": [], **more}) + "\n"


def test_a_poll_asks_only_about_what_is_on_its_way(bench: SsmBench) -> None:
    """With nothing sent and nothing due, a look costs no call at all."""
    running = courier(bench, visit=1000.0, visit_max=1000.0)
    running.dispatch(order("gw-1"))
    before = sum(bench.fake.calls.values())
    for _ in range(3):
        assert running.collect(9) == []
    assert sum(bench.fake.calls.values()) == before


def test_throttled_calls_are_patient(bench: SsmBench) -> None:
    """Twice refused for its pace, the command is sent at the third try, once."""
    pauses: list[float] = []
    api = Api(
        ssm_calls.CALLS,
        ssm_calls.ROLE,
        rates=dict.fromkeys(ssm_calls.CALLS, 1e3),
        sleep=pauses.append,
    )
    bench.fake.fail("SendCommand", "ThrottlingException", 2)
    assert courier(bench, api).dispatch(order("gw-1")) == {}
    assert len(bench.fake.sent) == 1
    assert len(pauses) >= 2


def test_without_the_right_nothing_is_sent(bench: SsmBench) -> None:
    """Action and resource are named; the order stays to be sent."""
    bench.fake.fail("SendCommand", "AccessDeniedException", 1)
    running = courier(bench)
    with pytest.raises(NotPermitted) as caught:
        running.dispatch(order("gw-1"))
    assert caught.value.code == "aws-denied"
    assert "ssm:SendCommand" in str(caught.value)
    assert bench.hints("gw-1") == []
    assert running.dispatch(order("gw-1")) == {}
    assert bench.hints("gw-1") == [ORDER]


def test_a_closed_calendar_holds_orders_back(bench: SsmBench) -> None:
    """While Change Calendar is closed nothing is sent, and the next step tries again."""
    bench.fake.calendar = "CLOSED"
    running = courier(bench, calendars=("plant-calendar",))
    with pytest.raises(Outage) as caught:
        running.dispatch(order("gw-1"))
    assert caught.value.code == "calendar-closed"
    assert bench.fake.sent == []
    bench.fake.calendar = "OPEN"
    assert running.dispatch(order("gw-1")) == {}
    assert bench.hints("gw-1") == [ORDER]


def test_cancel_stops_what_was_not_delivered(bench: SsmBench) -> None:
    """The command is cancelled at Systems Manager, and the hint is not sent any more."""
    bench.fake.held = True
    running = courier(bench)
    running.dispatch(order("gw-1"))
    running.cancel(order("gw-1"))
    (command,) = bench.fake.commands.values()
    assert set(command["status"].values()) == {"Cancelled"}
    bench.fake.held = False
    running.collect(9)
    assert bench.hints("gw-1") == []


# -- crashes ---------------------------------------------------------------------------------------
class Dying(Api):
    """Dies before or after the effect of one call."""

    def __init__(self, operation: str, *, after: bool) -> None:
        super().__init__(ssm_calls.CALLS, ssm_calls.ROLE, rates=dict.fromkeys(ssm_calls.CALLS, 1e3))
        self._operation, self._after = operation, after

    def call(self, operation: str, resource: str, **words: Any) -> dict[str, Any]:
        if operation == self._operation and not self._after:
            raise KeyboardInterrupt
        answer = super().call(operation, resource, **words)
        if operation == self._operation:
            raise KeyboardInterrupt
        return answer


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "operation",
    [
        "CreateDocument",
        "DescribeInstanceInformation",
        "SendCommand",
        "ListCommandInvocations",
        "GetCommandInvocation",
    ],
)
def test_killed_at_any_call(bench: SsmBench, operation: str, after: bool) -> None:
    """A new process sends at most once more, the device hears the order once, reports come."""
    bench.put("gw-1", 1, b"one")
    with pytest.raises(KeyboardInterrupt):
        courier(bench, Dying(operation, after=after)).dispatch(order("gw-1"))
    again = courier(bench)
    again.dispatch(order("gw-1"))
    found = again.collect(9)
    assert [d.data for d in found] == [b"one"]
    assert bench.hints("gw-1") == [ORDER]
    hinted = [s for s in bench.fake.sent if s["Parameters"]["Order"] == [ORDER]]
    assert len(hinted) == 1
    again.acknowledge(found)
    again.collect(9)
    assert bench.waiting("gw-1") == 0


def test_a_damaged_book_costs_only_repetitions(bench: SsmBench) -> None:
    """The memory of commands is begun anew; nothing is lost, no order is heard twice."""
    courier(bench).dispatch(order("gw-1"))
    bench.put("gw-1", 1, b"one")
    book = bench.folder / "state" / "ssm" / ".commands.json"
    book.write_bytes(b"{")
    found = courier(bench).collect(9)
    assert [d.data for d in found] == [b"one"]
    assert bench.hints("gw-1") == [ORDER]


# -- liars -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ran", "code"),
    [
        (Ran(0, "", ""), "ssm-output"),
        (Ran(0, "garbage", ""), "ssm-output"),
        (Ran(0, '{"schema":1,"device":"gw-1","reports":[', ""), "ssm-output"),
        (Ran(0, '{"schema":1,"schema":1,"device":"gw-1"}', ""), "ssm-output"),
        (Ran(0, "[" * 20_000, ""), "ssm-output"),
        (Ran(0, '{"schema":1,"device":"gw-2"}', ""), "hint-wrong-device"),
        (Ran(127, "", "ota-agent: not found"), "agent-missing"),
        (Ran(1, "", "boom"), "ssm-failed"),
        (Ran(1, '{"error":"no space","code":"no-space","next":""}', ""), "no-space"),
    ],
)
def test_an_output_that_is_none(bench: SsmBench, ran: Ran, code: str) -> None:
    """Whatever a node prints: unreachable with a reason, no report, and the next visit works."""
    bench.fake.forge = lambda _node, _ran: ran
    running = courier(bench)
    running.dispatch(order("gw-1"))
    assert running.collect(9) == []
    assert code in running.follow(order("gw-1"), ["gw-1"], close=False).lost["gw-1"]
    bench.fake.forge = lambda _node, honest: honest
    bench.put("gw-1", 1, b"one")
    assert [d.data for d in running.collect(9)] == [b"one"]


def test_a_report_that_does_not_fit_its_name_is_not_taken(bench: SsmBench) -> None:
    """Bytes changed on the way are left where they are, and asked for again."""
    bench.put("gw-1", 1, b"one")
    lie = _answer("gw-1", reports=[{"name": "0000000001-00000000.json", "data": "b25l"}])
    bench.fake.forge = lambda _node, _ran: Ran(0, lie, "")
    running = courier(bench)
    running.dispatch(order("gw-1"))
    assert running.collect(9) == []
    bench.fake.forge = lambda _node, honest: honest
    assert [d.data for d in running.collect(9)] == [b"one"]


def test_many_reports_fit_their_output(bench: SsmBench) -> None:
    """24,000 characters are the end of an output: what does not fit comes with the next visits."""
    for counter in range(1, 31):
        bench.put("gw-1", counter, b"x" * 2000 + b"%d" % counter)
    running = courier(bench)
    running.dispatch(order("gw-1"))
    seen: list[bytes] = []
    for _ in range(9):
        found = running.collect(99)
        seen += [d.data for d in found]
        running.acknowledge(found)
        if len(seen) == 30:
            break
    assert [data[2000:] for data in seen] == [b"%d" % n for n in range(1, 31)]
    assert all(
        len(r.out) <= 24_000 for c in bench.fake.commands.values() for r in c["ran"].values()
    )


def test_records_are_private(bench: SsmBench) -> None:
    """Both memories are the operator's alone."""
    courier(bench).dispatch(order("gw-1"))
    for path in (bench.folder / "state" / "ssm").glob("*.json"):
        assert path.stat().st_mode & 0o077 == 0
    assert msgspec.json.decode((bench.folder / "state" / "ssm" / "gw-1.json").read_bytes())
