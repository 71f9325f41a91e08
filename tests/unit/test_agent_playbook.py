"""A playbook on a device: ordered, verified, run, resumed, reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from simulators.agentbox import Box, sha
from simulators.boxplaybooks import AGENT, ORDER, body, last, log, ordered, step, told, touch
from simulators.stopping import Killed

from ota.agent.runs.runner import TRIES
from signing import receipt, statement
from signing.errors import Outage


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


# -- what it does ------------------------------------------------------------------------------------
def test_steps_run_in_order_with_values_and_are_reported_signed(box: Box) -> None:
    """Each step's result stands in a report signed by the device, about the signed order."""
    target = box.folder / "motd"
    text = "name = ${who}\n"
    box.playbook(
        body(
            touch(box, "one"),
            step("write", file={"path": str(target), "mode": "0640", "format": "plain",
                                "content": text}),
            step("again", file={"path": str(target), "mode": "0640", "format": "plain",
                                "content": text}),
            step("look", collect={"argv": ["printf", "%s|", "${who}", "b c"]}),
            parameters={"who": {"type": "string", "pattern": "^.{1,40}$"}},
        ),
        {"who": "$(reboot) `x` ; 'y'"},
    )  # fmt: skip
    (result,) = box.cycle()
    assert (result.component, result.outcome) == ("playbooks", "committed")
    assert target.read_text() == "name = $(reboot) `x` ; 'y'\n"
    assert target.stat().st_mode & 0o777 == 0o640
    report = last(box)
    assert report.update is not None
    assert (report.update.order, report.update.phase) == (ORDER, "DONE")
    assert report.update.targets_version == report.director.targets
    assert told(box) == [
        ("one", "done", ""),
        ("write", "done", ""),
        ("again", "skipped", "already-so"),
        ("look", "done", ""),
    ]
    assert report.steps[-1].output == "$(reboot) `x` ; 'y'|b c|"
    assert report.steps[-1].output_sha256 == sha(report.steps[-1].output.encode())


def test_an_order_is_followed_once(box: Box) -> None:
    """Repeated cycles, new processes, and the order signed anew: done is done."""
    box.playbook(body(touch(box, "one")))
    box.cycle()
    for _ in range(2):
        assert box.cycle() == []
    box.world.director.publish()
    box.publish()
    assert box.cycle() == []
    assert log(box) == ["one"]
    box.world.run(body(), {}, order="ota-tidy-1-aaaaaa-u2-w0-b0")
    box.publish()
    box.cycle()
    assert log(box) == ["one", "one"]


def test_a_withdrawn_order_that_was_done_stays_done(box: Box) -> None:
    """Until its end an order is remembered, though the director has stopped naming it."""
    box.playbook(body(touch(box, "one")))
    box.cycle()
    box.withdraw()
    box.cycle()
    box.world.run(body(), {})
    box.publish()
    assert box.cycle() == []
    assert log(box) == ["one"]


def test_failure_stops_and_the_last_step_runs(box: Box) -> None:
    """A failing step ends the run as failed, with its reason; ``finally`` runs all the same."""
    box.playbook(
        body(
            step("bad", exec={"argv": ["sh", "-c", "echo oh no >&2; exit 3"]}),
            touch(box, "never"),
            **{"finally": touch(box, "always")},
        )
    )
    (result,) = box.cycle()
    assert (result.outcome, result.code) == ("failed", "exit")
    assert result.detail == "step bad: sh: exit status 3: oh no"
    assert log(box) == ["always"]
    assert told(box) == [("bad", "failed", "exit"), ("always", "done", "")]
    assert box.cycle() == []


def test_failures_that_go_on(box: Box) -> None:
    """``continue`` goes on and the run has failed; ``ignore`` goes on as if nothing were."""
    bad = {"exec": {"argv": ["false"]}}
    box.playbook(body(step("a", **bad) | {"on_failure": "continue"}, touch(box, "b")))
    assert box.cycle()[0].outcome == "failed"
    assert log(box) == ["b"]
    box.playbook(
        body(step("a", **bad) | {"on_failure": "ignore"}, touch(box, "c"), version="2"),
        order="ota-tidy-2-aaaaaa-u1-w0-b0",
    )
    assert box.cycle()[0].outcome == "committed"
    assert log(box) == ["b", "c"]


def test_guards_skip(box: Box) -> None:
    """``unless``, ``creates`` and ``platforms``: each says why."""
    box.playbook(
        body(
            touch(box, "a", unless=["true"]),
            touch(box, "b", creates=str(box.folder)),
            touch(box, "c", platforms=["windows"]),
            touch(box, "d", unless=["false"], creates=str(box.folder / "no"), platforms=["linux"]),
        )
    )
    box.cycle()
    assert log(box) == ["d"]
    assert [code for _, _, code in told(box)] == ["unless", "creates", "platform", ""]


def test_time_limits_and_missing_programs(box: Box) -> None:
    """A step that hangs is killed with its children; a missing program has its own code."""
    hang = step("hang", exec={"argv": ["sh", "-c", "sleep 60 & sleep 60"]})
    box.playbook(
        body(
            hang | {"timeout": 1, "on_failure": "continue"},
            step("gone", exec={"argv": ["/no/such/program"]}) | {"on_failure": "continue"},
            step("loud", exec={"argv": ["head", "-c", "2000000", "/dev/zero"]}),
        )
    )
    assert box.cycle()[0].code == "timeout"
    assert [code for _, _, code in told(box)] == ["timeout", "no-program", "output"]


def test_check_waits_until_it_holds(box: Box) -> None:
    """Tried again and again; past its time limit the last word of the program is the reason."""
    flag = box.folder / "flag"
    script = f'if test -e {flag}; then exit 0; fi; touch {flag}; echo "not yet"; exit 1'
    box.playbook(
        body(
            step("waits", check={"argv": ["sh", "-c", script], "interval": 1}),
            step("never", check={"argv": ["sh", "-c", "echo still closed; exit 1"], "interval": 1})
            | {"timeout": 1},
        )
    )
    box.cycle()
    assert told(box) == [("waits", "done", ""), ("never", "failed", "check")]
    assert "still closed" in last(box).steps[1].detail


# -- reboots, crashes ---------------------------------------------------------------------------------
def test_reboot_goes_on_afterwards_without_the_network(box: Box) -> None:
    """The run is resumed by the next boot from what was verified before, and only then goes on."""
    box.playbook(body(touch(box, "before"), step("boot", reboot={}), touch(box, "after"), **AGENT))
    (waiting,) = box.cycle()
    assert (waiting.outcome, waiting.code, box.machine.reboots) == ("", "pending-reboot", 1)
    assert last(box).update.phase == "PENDING_REBOOT"  # type: ignore[union-attr]
    assert box.cycle()[0].code == "pending-reboot"
    assert log(box) == ["before"]
    shutil.move(box.folder / "store", box.folder / "gone")
    box.machine.boot = "boot-2"
    with box.opened() as state, pytest.raises(Outage):
        box.process(state).cycle()
    assert log(box) == ["before", "after"]
    assert told(box) == [("before", "done", ""), ("boot", "done", ""), ("after", "done", "")]


def test_nobody_reboots(box: Box) -> None:
    """A reboot that does not come in time fails the step."""
    box.playbook(body(step("boot", reboot={}), touch(box, "after"), **AGENT))
    box.cycle()
    box.machine.seconds += 21
    (result,) = box.cycle()
    assert (result.outcome, result.code, log(box)) == ("failed", "timeout", [])


def test_a_step_that_never_ends_its_process_is_given_up(box: Box) -> None:
    """Cut short again and again, a step fails; the device does not stay in a loop."""
    box.playbook(body(touch(box, "one"), **{"finally": touch(box, "end")}))

    def die(*_: object) -> None:
        raise Killed

    for _ in range(TRIES):
        with box.opened() as state:
            agent = box.process(state)
            object.__setattr__(agent.runner.steps, "take", die)
            with pytest.raises(Killed):
                agent.cycle()
    (result,) = box.cycle()
    assert (result.outcome, result.code) == ("failed", "interrupted")
    assert told(box) == [("one", "failed", "interrupted"), ("end", "done", "")]


# -- the step update -----------------------------------------------------------------------------------
UPDATE = {"update": {"component": "app", "release": "app/app-2.bin"}}


def test_update_is_the_verified_cycle(box: Box) -> None:
    """The release comes from the director; the playbook surrounds it and can not aim."""
    box.ship()
    box.cycle()
    box.world.release("app/app-2.bin", b"two")
    box.world.assign("app/app-2.bin", order="ota-app-2-aaaaaa-u1-w0-b0")
    box.playbook(body(touch(box, "drain"), step("update", **UPDATE), touch(box, "fill"), **AGENT))
    results = box.cycle()
    assert [(r.component, r.outcome) for r in results] == [("playbooks", "committed")]
    assert (box.running, log(box)) == (b"two", ["drain", "fill"])
    orders = {r.update.order for r in box.reports() if r.update and r.event == "outcome"}
    assert {"ota-app-2-aaaaaa-u1-w0-b0", ORDER} <= orders


def test_update_that_is_not_assigned_fails(box: Box) -> None:
    """A signed playbook that names a release installs nothing by itself."""
    box.ship()
    box.cycle()
    box.world.release("app/app-2.bin", b"two")
    box.playbook(body(step("update", **UPDATE) | {"timeout": 1}, **AGENT))
    (result,) = [r for r in box.cycle() if r.component == "playbooks"]
    assert (result.code, box.running) == ("not-updated", b"one")
    assert "does not assign app/app-2.bin" in result.detail


def test_update_of_a_component_that_is_not_here_fails(box: Box) -> None:
    """The step fails by name; nothing is waited for, and what comes after it is not begun."""
    elsewhere = {"update": {"component": "mcu", "release": "mcu/mcu-2.bin"}}
    box.playbook(body(step("update", **elsewhere), touch(box, "never"), **AGENT))
    (result,) = box.cycle()
    assert (result.outcome, result.code, log(box)) == ("failed", "no-component", [])


def test_update_that_goes_back_fails_the_step(box: Box) -> None:
    """An unhealthy release is reverted by the device, and the step says so."""
    box.ship()
    box.cycle()
    box.probe.sick = "fever"
    box.world.release("app/app-2.bin", b"two")
    box.world.assign("app/app-2.bin", order="ota-app-2-aaaaaa-u1-w0-b0")
    box.playbook(body(step("update", **UPDATE), touch(box, "never"), **AGENT))
    box.cycle()
    assert (box.running, log(box)) == (b"one", [])
    assert told(box)[0][:2] == ("update", "failed")


# -- the end of a device -----------------------------------------------------------------------------------
def wipe(box: Box) -> dict[str, Any]:
    return body(step("end", wipe={"receipt": str(box.folder / "receipt.json")}), **AGENT)


def test_wipe_destroys_keys_and_state_and_leaves_a_receipt(box: Box) -> None:
    """The outcome is delivered first; the receipt is signed by the key that is then gone."""
    box.playbook(wipe(box))
    (result,) = box.cycle()
    assert (result.outcome, result.code) == ("committed", "wiped")
    assert last(box).update.outcome == "committed"  # type: ignore[union-attr]
    assert [p.name for p in box.own.iterdir()] == []
    data = (box.folder / "receipt.json").read_bytes()
    found = receipt.read(statement.verify("receipt", data, [box.signer.public_key]))
    assert (found.device, found.order) == (box.device, ORDER)
    assert {"identity", "state.db", "trust"} <= set(found.destroyed)


def test_wipe_waits_until_its_report_is_taken(box: Box) -> None:
    """A device whose feed is down stays until somebody can know; then it ends."""
    box.playbook(wipe(box))

    def down(*_: object) -> None:
        raise Outage("down")

    with box.opened() as state:
        agent = box.process(state)
        agent.feed.send = down  # type: ignore[method-assign]  # the world around the device
        assert agent.cycle()[0].code == "undelivered"
    assert (box.own / "identity" / "key.pem").exists()
    assert box.cycle()[0].code == "wiped"
    assert not (box.own / "identity").exists()


def test_wipe_never_follows_a_failure(box: Box) -> None:
    """A step that failed and went on keeps the device: nothing is destroyed on the way to it."""
    bad = step("bad", exec={"argv": ["false"]}) | {"on_failure": "continue"}
    box.playbook(body(bad, *wipe(box)["steps"], **AGENT))
    assert box.cycle()[0].outcome == "failed"
    assert told(box)[-1] == ("end", "failed", "not-wiped")
    assert (box.own / "identity" / "key.pem").exists()


def test_a_receipt_is_not_destroyed_with_the_rest(box: Box) -> None:
    """A receipt within the agent's own folder is an error of the playbook."""
    inside = body(step("end", wipe={"receipt": str(box.own / "r.json")}), **AGENT)
    box.playbook(inside)
    assert box.cycle()[0].code == "receipt-inside"
    assert (box.own / "identity" / "key.pem").exists()


def test_the_owner_switched_playbooks_off(box: Box) -> None:
    """The device owner's word stands above the director's."""
    box.playbooks = False
    ordered(box)
    (result,) = box.cycle()
    assert (result.outcome, result.code, log(box)) == ("failed", "playbooks-off", [])
    assert box.cycle() == []


def test_the_interlock_puts_it_off(box: Box) -> None:
    """Not now is not never: the order stays open and is followed when the plant says so."""
    ordered(box)
    box.machine.busy = "the press runs"
    assert [(r.outcome, r.code) for r in box.cycle()] == [("", "interlock")]
    assert log(box) == []
    box.machine.busy = ""
    box.cycle()
    assert log(box) == ["one"]


def test_a_hint_of_an_order_that_was_done_is_answered_again(box: Box) -> None:
    """A report may have been lost on its way: the outcome, and every step, once more."""
    ordered(box)
    box.cycle()
    first = last(box)
    words = {"schema": 1, "device": "press-07", "order": ORDER, "rollout": "tidy-1-aaaaaa"}
    (box.spool / "orders").mkdir(parents=True, exist_ok=True)
    (box.spool / "orders" / f"{ORDER}.json").write_text(json.dumps(words))
    with box.opened() as state:
        agent = box.process(state)
        agent.look(agent.feed.next(0))
    again = last(box)
    assert again.counter > first.counter
    assert (again.update, again.steps, again.hint) == (first.update, first.steps, ORDER)
    assert log(box) == ["one"]
