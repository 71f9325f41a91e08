"""Playbooks refused on the device: changed, aimed elsewhere, outside their patterns, replayed.

Each refusal has its own code, is reported, and leaves everything as it was; the honest order works
afterwards.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from simulators.agentbox import Box
from simulators.boxplaybooks import ORDER, body, disk, log, ordered, step, touch
from simulators.repos import assignment_target
from tuf.api.metadata import Signed, TargetFile

from ota.agent import hints
from ota.agent.agent import Agent
from ota.ports_device import Hint
from signing import strict
from signing.errors import OtaError, Refusal


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


# -- refusals: nothing is done -----------------------------------------------------------------------------
def _other_text(box: Box) -> None:
    """Somebody who can write to the store changes the text."""
    for path in (box.folder / "store" / "image" / "targets" / "playbooks").iterdir():
        path.write_bytes(path.read_bytes().replace(b'"one"', b'"0ne"'))


def _longer_text(box: Box) -> None:
    for path in (box.folder / "store" / "image" / "targets" / "playbooks").iterdir():
        path.write_bytes(path.read_bytes() + b" ")


def _lied_targets(change: Callable[[dict[str, Any]], None]) -> Callable[[Box], None]:
    """A thief of the director's key signs another order."""

    def lie(signed: Signed) -> None:
        for path, target in signed.targets.items():  # type: ignore[attr-defined]
            if path.startswith("playbooks/"):
                change(target.unrecognized_fields["custom"])

    def apply(box: Box) -> None:
        box.world.director.publish({"targets": lie})
        box.publish()

    return apply


def _set(**values: Any) -> Callable[[Box], None]:
    return _lied_targets(lambda custom: custom.update(values))


def _target(box: Box) -> TargetFile:
    """The order in the director's targets."""
    return next(t for p, t in box.world.director.targets.targets.items() if "tidy" in p)


def _other_hash(box: Box) -> None:
    _target(box).hashes["sha256"] = "0" * 64
    box.world.director.publish()
    box.publish()


def _release_as_playbook(box: Box) -> None:
    """The director orders a release to be run."""
    box.world.release("app/evil.bin", b"evil")
    listed = box.world.listed("app/evil.bin")
    custom = _target(box).unrecognized_fields["custom"]
    box.world.director.targets.targets = {
        listed.path: TargetFile(listed.length, listed.hashes, listed.path, {"custom": custom})
    }
    box.world.director.publish()
    box.publish()


def _playbook_as_release(box: Box) -> None:
    """The director assigns a playbook to be installed."""
    target = _target(box)
    box.world.director.targets.targets = {target.path: assignment_target(target)}
    box.world.director.publish()
    box.publish()


def _not_a_playbook(box: Box) -> None:
    """The playbooks' own keyholders sign something that is none."""
    custom = box.world.image.delegated["playbooks"].targets
    for target in custom.values():
        target.unrecognized_fields["custom"]["kind"] = "release"
    box.world.image.publish()
    box.publish()


REFUSALS: dict[str, tuple[str, Callable[[Box], None]]] = {
    "the text was changed": ("image-mismatch", _other_text),
    "the text is longer": ("oversize", _longer_text),
    "a value outside its pattern": ("playbook-parameter", _set(parameters={"who": "a;b"})),
    "a value too many": ("playbook-parameter", _set(parameters={"who": "ab", "x": "1"})),
    "a value too few": ("playbook-parameter", _set(parameters={})),
    "another hash": ("target-mismatch", _other_hash),
    "an unknown word": ("assignment-malformed", _set(script="reboot")),
    "a release to be run": ("assignment-malformed", _release_as_playbook),
    "a playbook to be installed": ("assignment-malformed", _playbook_as_release),
    "not a playbook": ("kind-mismatch", _not_a_playbook),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_and_nothing_is_done(box: Box, case: str) -> None:
    """By its own code, reported; no step ran, nothing changed, and the honest order works after."""
    code, lie = REFUSALS[case]
    ordered(box)
    before = disk(box)
    lie(box)
    with contextlib.suppress(Refusal):  # its code stands in the report
        results = box.cycle()
        assert [r.outcome for r in results if r.component == "playbooks"] in ([], ["refused"])
    assert disk(box) == before
    assert log(box) == []
    assert code in {r.code for r in box.reports()}
    box.world.playbook(body(touch(box, "fine"), version="3"))
    box.world.director.targets.targets = {}
    box.world.run(body(version="3"), {}, order="ota-tidy-3-aaaaaa-u1-w0-b0")
    box.publish()
    box.cycle()
    assert log(box) == ["fine"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"platforms": ["windows"]}, "playbook-platform"),
        ({"roads": ["native"]}, "playbook-platform"),
    ],
)
def test_wrong_platform_or_road(box: Box, more: dict[str, Any], code: str) -> None:
    """A playbook for other machines does nothing here."""
    ordered(box, **more)
    before = disk(box)
    (result,) = box.cycle()
    assert (result.outcome, result.code, disk(box), log(box)) == ("refused", code, before, [])


def test_signed_text_that_is_no_playbook(box: Box) -> None:
    """Even what all keyholders sign must be a playbook by its format."""
    broken = body(step("x", exec={"argv": ["sh", "-c", "${who}"]}))
    broken["parameters"] = {"who": {"type": "string", "pattern": "^.*$"}}
    box.playbook(broken, {"who": "reboot"})
    (result,) = box.cycle()
    assert (result.outcome, result.code) == ("refused", "playbook-malformed")


def test_past_its_end(box: Box) -> None:
    """An order that ended is stale, not refused, and is not followed."""
    ordered(box)
    box.now += timedelta(days=8)
    for repo in (box.world.director, box.world.image):
        repo.timestamp.expires = repo.snapshot.expires = box.now + timedelta(days=3)
        repo.publish()
    box.publish()
    assert box.cycle() == []
    assert log(box) == []
    assert box.said()[-1][2] == "assignment-expired"


# -- what a hint, a document or a command says besides ----------------------------------------------------
def asked(name: str = "tidy@1.0.0", **parameters: str) -> hints.Body:
    words = {"schema": 1, "device": "press-07", "order": "here-1", "rollout": "here"}
    return hints.parse(strict.compact(words | {"playbook": name, "parameters": parameters}))


def run(box: Box, what: hints.Body) -> str:
    """``ota-agent playbook run``: the outcome, or the code of what it raised."""
    with box.opened() as state:
        agent: Agent = box.process(state)
        try:
            result = agent.playbook(what)
        except OtaError as e:
            return e.code
        return result.outcome or result.code


@pytest.mark.parametrize(
    "what",
    [
        asked("tidy@1.0.0", who="bob"),
        asked("tidy@1.0.0", who="anna; reboot"),
        asked("tidy@1.0.0", other="anna"),
        asked("tidy@2.0.0"),
        asked("evil@1.0.0"),
    ],
    ids=str,
)
def test_a_command_that_says_otherwise_is_refused(box: Box, what: hints.Body) -> None:
    """A changed document or script: nothing runs, not even what is ordered, and it is reported."""
    ordered(box)
    before = disk(box)
    assert run(box, what) == "hint-playbook"
    assert (disk(box), log(box)) == (before, [])
    assert box.said()[-1] == ("refusal", "", "hint-playbook")
    assert run(box, asked("tidy@1.0.0", who="anna")) == "committed"
    assert log(box) == ["one"]


def test_a_command_on_a_device_that_was_not_chosen(box: Box) -> None:
    """A signed playbook starts nowhere by itself, whoever carries the command there."""
    box.world.playbook(body(touch(box, "one")))
    box.publish()
    assert run(box, asked()) == "hint-playbook"
    assert log(box) == []


def test_a_command_twice(box: Box) -> None:
    """Delivered again, after the order was done: the outcome of then, and nothing runs."""
    ordered(box)
    assert [run(box, asked()) for _ in range(3)] == ["committed"] * 3
    assert log(box) == ["one"]


def test_a_command_runs_the_playbook_and_nothing_else(box: Box) -> None:
    """An update that waits stays for the next cycle."""
    ordered(box)
    box.world.release("app/app-2.bin", b"two")
    run_target = dict(box.world.director.targets.targets)
    box.world.assign("app/app-2.bin", order="ota-app-2-aaaaaa-u1-w0-b0")
    box.world.director.targets.targets |= {p: t for p, t in run_target.items() if "tidy" in p}
    box.world.director.publish()
    box.publish()
    assert run(box, asked()) == "committed"
    assert box.running == b"one"
    box.cycle()
    assert box.running == b"two"


def test_a_hint_that_says_otherwise_is_reported_and_the_order_is_followed(box: Box) -> None:
    """A running agent refuses what the hint says; the hint still wakes it, and nothing more."""
    ordered(box)
    words = {"schema": 1, "device": "press-07", "order": ORDER, "rollout": "tidy-1-aaaaaa"}
    lying = words | {"playbook": "tidy@1.0.0", "parameters": {"who": "bob"}}
    orders = box.spool / "orders"
    orders.mkdir(parents=True, exist_ok=True)
    (orders / f"{ORDER}.json").write_text(json.dumps(lying))
    with box.opened() as state:
        agent = box.process(state)
        hint = agent.feed.next(0)
        assert isinstance(hint, Hint)
        agent.look(hint)
    assert ("refusal", "", "hint-playbook") in box.said()
    assert log(box) == ["one"]
