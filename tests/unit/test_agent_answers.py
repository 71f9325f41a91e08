"""Hints are answered, signed, and reports that wait go out between two looks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from simulators.agentbox import Box, PlayedMachine

from ota.agent import answers, waiting
from ota.agent.agent import Agent
from ota.agent.endings import Result
from ota.agent.report import NOT_ASSIGNED
from ota.ports_device import Hint
from signing.errors import OtaError, Outage
from signing.report import Report

FIRST = "ota-app-1-aaaaaa-u1-w1-b1"
OTHER = "ota-app-9-zzzzzz-u1-w0-b0"


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def hinted(box: Box, order: str) -> list[Report]:
    """Look because of a hint that names this order; the reports that this led to."""
    before = len(box.reports())
    name = box.spool / "orders" / f"{order}.json"
    name.parent.mkdir(parents=True, exist_ok=True)
    name.write_text(json.dumps({"schema": 2, "order": order, "rollout": "app"}))
    with box.opened() as state:
        agent = box.process(state)
        agent.look(agent.feed.next(0.0))
    return box.reports()[before:]


def test_hint_of_a_new_order_is_answered_by_the_order(box: Box) -> None:
    """No report is added to those of the update itself."""
    box.ship()
    found = hinted(box, FIRST)
    assert [(r.event, r.update.outcome if r.update else "") for r in found] == [
        ("progress", "in_progress"),
        ("progress", "in_progress"),
        ("outcome", "committed"),
        ("inventory", ""),
    ]


def test_hint_of_a_finished_order_tells_its_end_again(box: Box) -> None:
    """A courier that lost the report, or came late, gets it in a new one; the timer says nothing."""
    box.ship()
    box.cycle()
    for _ in range(2):
        (again,) = hinted(box, FIRST)
        assert again.update is not None
        assert (again.update.order, again.update.outcome, again.update.phase, again.hint) == (
            FIRST,
            "committed",
            "DONE",
            FIRST,
        )
        assert again.update.targets_version == again.director.targets
    before = box.reports()
    box.cycle()
    assert box.reports() == before


def test_release_that_failed_here_is_told_again_as_it_ended(box: Box) -> None:
    """Taken back, then denied under the next order: each with its own code and phase."""
    box.ship()
    box.cycle()
    box.probe.sick = "answers 500"
    box.ship("app/app-2.bin", b"two", release_counter=2, order="ota-app-2-bbbbbb-u1-w0-b0")
    box.cycle()
    (again,) = hinted(box, "ota-app-2-bbbbbb-u1-w0-b0")
    assert again.update is not None
    assert (again.update.outcome, again.update.phase, again.code) == (
        "reverted",
        "ROLLED_BACK",
        "unhealthy",
    )
    box.order("app/app-2.bin", release_counter=2, order="ota-app-2-bbbbbb-u2-w0-b0")
    box.cycle()
    (again,) = hinted(box, "ota-app-2-bbbbbb-u2-w0-b0")
    assert again.update is not None
    assert (again.update.outcome, again.code) == ("failed", "denied")


def test_order_whose_image_runs_already_is_committed(box: Box) -> None:
    """Nothing is installed, and the hint is answered with what runs."""
    box.ship()
    box.cycle()
    box.order("app/app-1.bin", order="ota-app-1-aaaaaa-u2-w0-b0")
    (again,) = hinted(box, "ota-app-1-aaaaaa-u2-w0-b0")
    assert again.update is not None
    assert (again.update.order, again.update.outcome) == ("ota-app-1-aaaaaa-u2-w0-b0", "committed")
    assert box.running == b"one"


def test_order_that_waits_says_so(box: Box) -> None:
    """Behind the interlock a hint gets the phase, as often as it comes."""
    box.machine.busy = "press is closed"
    box.ship()
    box.cycle()
    for _ in range(2):
        (still,) = hinted(box, FIRST)
        assert still.update is not None
        assert (still.event, still.update.outcome, still.code) == (
            "progress",
            "in_progress",
            "interlock",
        )


def test_hint_without_an_assignment_is_answered(box: Box) -> None:
    """A forged order, or one that was withdrawn, changes nothing and is said to be unknown."""
    box.ship()
    box.cycle()
    (found,) = hinted(box, OTHER)
    assert (found.event, found.code, found.hint, found.update) == (
        "inventory",
        NOT_ASSIGNED,
        OTHER,
        None,
    )
    assert box.running == b"one"


def test_answer_waits_for_a_cycle_that_works(box: Box) -> None:
    """A store that is away is no answer; the next cycle that reaches it gives one."""
    store, away = box.folder / "store", box.folder / "away"
    box.ship()
    with box.opened() as state:
        agent = box.process(state)
        shutil.move(store, away)
        orders = box.spool / "orders"
        orders.mkdir(parents=True)
        (orders / "x.json").write_text(json.dumps({"schema": 2, "order": OTHER, "rollout": "a"}))
        with pytest.raises(Outage):
            agent.look(agent.feed.next(0.0))
        shutil.move(away, store)
        agent.look()
        agent.look()
    assert [r.code for r in box.reports() if r.hint == OTHER and r.event == "inventory"] == [
        NOT_ASSIGNED
    ]


def test_answers_are_bounded(box: Box) -> None:
    """Whoever floods a device with hints gets so many answers and no more memory."""
    with box.opened() as state:
        reporter = box.process(state).reporter
        for number in range(3 * answers.MOST):
            answers.asked(reporter, f"ota-app-{number}-aaaaaa-u1-w0-b0")
        assert len(reporter.asked) == answers.MOST
        assert f"ota-app-{3 * answers.MOST - 1}-aaaaaa-u1-w0-b0" in reporter.asked


# -- between two looks ---------------------------------------------------------------------------
class Flaky:
    """A feed that is away for so many calls; waiting passes the played machine's time."""

    def __init__(self, machine: PlayedMachine, away: int) -> None:
        self._machine = machine
        self.away = away
        self.sent: list[int] = []
        self.asked = 0

    def next(self, timeout: float) -> Hint | None:
        self.asked += 1
        self._try()
        self._machine.sleep(timeout)
        return None

    def done(self, hint: Hint) -> None: ...

    def send(self, counter: int, report: bytes) -> None:
        del report
        self._try()
        self.sent.append(counter)

    def close(self) -> None: ...

    def _try(self) -> None:
        if self.away:
            self.away -= 1
            raise Outage("nobody is there", code="feed-unreachable")


def waits(box: Box, feed: Flaky, work: Callable[[Agent, waiting.Waiting], None]) -> list[str]:
    """What was logged while ``work`` used a waiting agent."""
    logged: list[str] = []

    def log(found: Iterable[Result] | OtaError) -> None:
        if isinstance(found, OtaError):
            logged.append(found.code)

    with box.opened() as state:
        agent = box.process(state)
        agent.feed = feed
        work(agent, waiting.Waiting(feed, state, agent.machine, agent.flush, log))
    return logged


def test_reports_go_out_before_the_next_look(box: Box) -> None:
    """A device that was offline when its update ended says so soon after it is back."""
    box.ship()
    feed = Flaky(box.machine, away=9)

    def work(agent: Agent, wait: waiting.Waiting) -> None:
        agent.cycle()
        assert feed.sent == []
        assert wait.hint(60.0, lambda: feed.away == 0 and not agent.state.waits()) is None
        assert feed.sent == [1, 2, 3, 4]
        assert agent.machine.monotonic() < 1060

    waits(box, feed, work)


def test_feed_trouble_is_logged_once_and_remembered(box: Box) -> None:
    """``status`` shows it until the feed works again; a failing feed is asked once a second."""
    feed = Flaky(box.machine, away=5)

    def work(agent: Agent, wait: waiting.Waiting) -> None:
        wait.hint(4.0, lambda: False)
        assert agent.state.get(waiting.TROUBLE) == "feed-unreachable: nobody is there"
        assert feed.asked <= 5
        wait.hint(100.0, lambda: feed.asked > 6)
        assert agent.state.get(waiting.TROUBLE) == ""

    assert waits(box, feed, work) == ["feed-unreachable"]
