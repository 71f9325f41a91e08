"""Cycles of a whole device over real repositories, installer and journal."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.agentbox import Box, sha

from ota.agent.agent import delay
from ota.agent.allowance import BURST
from ota.agent.endings import Result
from ota.ports_device import Hint
from signing import strict
from signing.errors import OtaError, Outage, Refusal, Stale

FIRST = "ota-app-1-aaaaaa-u1-w1-b1"


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def installed(box: Box) -> None:
    """Release one, counter 1, runs and is committed."""
    box.ship()
    (result,) = box.process().cycle()
    assert result.outcome == "committed"


def test_update_is_installed_and_reported(box: Box) -> None:
    """The signed report says what runs, under which order, by which metadata."""
    installed(box)
    assert box.running == b"one"
    done = next(r for r in box.reports() if r.event == "outcome")
    assert done.update is not None
    assert (done.update.order, done.update.outcome, done.update.phase) == (
        FIRST,
        "committed",
        "DONE",
    )
    assert done.update.targets_version == done.director.targets == 3
    state = done.components["app"]
    assert state.current is not None
    assert (state.current.sha256, state.current.path) == (sha(b"one"), "app/app-1.bin")
    assert state.floor == 1
    assert [r.counter for r in box.reports()] == [1, 2, 3, 4]
    assert {r.state_id for r in box.reports()} == {"incarnation-1"}


def test_idle_cycles_say_nothing(box: Box) -> None:
    """A device at rest sends no report for each poll."""
    installed(box)
    before = box.reports()
    for _ in range(3):
        assert box.process().cycle() == []
    assert box.reports() == before


def test_unhealthy_release_is_taken_back_and_denied(box: Box) -> None:
    """The old version runs again; the release is not tried again, under no order (rule 8)."""
    installed(box)
    box.probe.sick = "answers 500"
    box.ship("app/app-2.bin", b"two", release_counter=2, order="ota-app-2-bbbbbb-u1-w0-b0")
    (result,) = box.process().cycle()
    assert (result.outcome, result.code) == ("reverted", "unhealthy")
    assert box.running == b"one"
    asked = len(box.probe.asked)
    box.order("app/app-2.bin", release_counter=2, order="ota-app-2-bbbbbb-u2-w0-b0")
    for _ in range(3):
        assert box.process().cycle() == []
    assert len(box.probe.asked) == asked
    last = [r for r in box.reports() if r.event == "outcome"]
    assert [(r.code, r.update.outcome if r.update else "") for r in last] == [
        ("", "committed"),
        ("unhealthy", "reverted"),
        ("denied", "failed"),
    ]
    assert last[1].health == "answers 500"
    assert last[1].components["app"].floor == 1


def test_denial_ends_with_a_signed_clearance(box: Box) -> None:
    """An assignment that clears the denial is tried, and a commit ends the denial for good."""
    installed(box)
    box.probe.sick = "no"
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-1")
    box.process().cycle()
    box.probe.sick = ""
    box.order("app/app-2.bin", release_counter=2, order="o-2", clear_denial=True)
    (result,) = box.process().cycle()
    assert result.outcome == "committed"
    with box.opened() as state:
        assert state.denials() == {}


def test_failed_again_after_clearance_is_denied_again(box: Box) -> None:
    """A clearance is for one more try, not for ever."""
    installed(box)
    box.probe.sick = "no"
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-1")
    box.process().cycle()
    box.order("app/app-2.bin", release_counter=2, order="o-2", clear_denial=True)
    assert box.process().cycle()[0].outcome == "reverted"
    assert box.process().cycle() == []
    with box.opened() as state:
        assert state.denials() == {("app", sha(b"two")): "o-2"}


def test_previous_slot_is_the_way_back_without_a_download(box: Box) -> None:
    """Going back to what the previous slot holds fetches no image."""
    installed(box)
    box.ship("app/app-2.bin", b"two", release_counter=1, order="o-2")
    box.process().cycle()
    store = box.folder / "store" / "image" / "targets" / "app"
    (store / f"{sha(b'one')}.app-1.bin").unlink()
    box.world.assign("app/app-1.bin", order="o-3", kind="rollback")
    for file, data in box.world.director.files.items():
        name = "director/root" if "root" in file else "director/devices/press-07"
        (box.folder / "store" / name / file).write_bytes(data)
    (result,) = box.process().cycle()
    assert result.outcome == "committed"
    assert box.running == b"one"


def test_damaged_previous_slot_is_fetched_anew(box: Box) -> None:
    """A kept slot whose bytes have changed is not made active, and not the release's fault."""
    installed(box)
    box.ship("app/app-2.bin", b"two", release_counter=1, order="o-2")
    box.process().cycle()
    previous = box.slot.with_name("app.bin.previous")
    stat = previous.stat()
    previous.write_bytes(b"0ne")
    os.utime(previous, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    box.order("app/app-1.bin", order="o-3", kind="rollback")
    for _ in range(3):
        box.process().cycle()
    assert box.running == b"one"
    with box.opened() as state:
        assert state.denials() == {}
    assert "kept-unusable" in [c for _, _, c in box.said()]
    orders = [r.update.order for r in box.reports() if r.event == "outcome" and r.update]
    assert orders == [FIRST, "o-2", "o-3"]


def test_withdrawn_just_before_activation_is_left(box: Box) -> None:
    """The director is read once more before the switch; a withdrawal then wins."""
    installed(box)
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-2")
    agent = box.process()
    stage = box.installer.stage

    def withdraw_then_stage(image: object) -> None:
        stage(image)
        box.withdraw()

    box.installer.stage = withdraw_then_stage
    (result,) = agent.cycle()
    assert (result.outcome, result.code) == ("failed", "withdrawn")
    assert box.running == b"one"
    assert box.installer.inspect().staged == ""
    assert ("outcome", "failed", "withdrawn") in box.said()


def test_interlock_waits_without_failing(box: Box) -> None:
    """While the plant says no nothing is switched, the wait is told once, and then it goes on."""
    installed(box)
    box.machine.busy = "press is closed"
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-2")
    for _ in range(6):
        (result,) = box.process().cycle()
        assert (result.outcome, result.code) == ("", "interlock")
    assert box.running == b"one"
    assert box.said().count(("progress", "in_progress", "interlock")) == 1
    box.machine.busy = ""
    (result,) = box.process().cycle()
    assert result.outcome == "committed"


def test_interlock_between_staging_and_activation(box: Box) -> None:
    """The interlock is asked again right before the switch, and no image is fetched twice."""
    installed(box)
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-2")
    stage = box.installer.stage

    def busy_after(image: object) -> None:
        stage(image)
        box.machine.busy = "now it is not"

    box.installer.stage = busy_after
    (result,) = box.process().cycle()
    assert result.code == "interlock"
    assert box.running == b"one"
    with box.opened() as state:
        assert [u.state for u in state.updates()] == ["STAGED"]
    (box.folder / "store" / "image" / "targets" / "app" / f"{sha(b'two')}.app-2.bin").unlink()
    box.machine.busy = ""
    box.installer.stage = stage
    (result,) = box.process().cycle()
    assert result.outcome == "committed"


def test_changed_bytes_are_refused_and_honest_ones_taken(box: Box) -> None:
    """Refused, told once, nothing changed; the next honest cycle installs under the same order."""
    installed(box)
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-2")
    file = box.folder / "store" / "image" / "targets" / "app" / f"{sha(b'two')}.app-2.bin"
    file.write_bytes(b"2wo")
    for _ in range(4):
        (result,) = box.process().cycle()
        assert (result.outcome, result.code) == ("refused", "image-mismatch")
    assert box.running == b"one"
    refused = [r for r in box.reports() if r.event == "refusal"]
    assert len(refused) == 1
    assert refused[0].update is not None
    assert (refused[0].update.order, refused[0].update.outcome) == ("o-2", "refused")
    file.write_bytes(b"two")
    (result,) = box.process().cycle()
    assert result.outcome == "committed"


def test_refused_bytes_are_not_fetched_at_every_poll(box: Box) -> None:
    """One running agent waits longer and longer, but never past a hint."""
    installed(box)
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-2")
    file = box.folder / "store" / "image" / "targets" / "app" / f"{sha(b'two')}.app-2.bin"
    file.write_bytes(b"2wo")
    agent = box.process()
    assert agent.cycle()[0].outcome == "refused"
    assert agent.cycle() == []
    box.machine.seconds += 31
    assert agent.cycle()[0].outcome == "refused"
    box.machine.seconds += 31
    assert agent.cycle() == []
    file.write_bytes(b"two")
    agent.reporter.hint = "o-2"
    assert agent.cycle()[0].outcome == "committed"


def test_refusal_of_a_cycle_is_told_once_and_healed(box: Box) -> None:
    """A tampered director: reported with its code, once; then an inventory says it is over."""
    installed(box)
    target = box.folder / "store" / "director" / "devices" / "press-07" / "timestamp.json"
    honest = target.read_bytes()
    target.write_bytes(honest.replace(b"2026", b"2027"))
    count = len(box.reports())
    for _ in range(3):
        with pytest.raises(Refusal) as caught:
            box.process().cycle()
        assert caught.value.code == "signature"
    target.write_bytes(honest)
    assert box.process().cycle() == []
    new = box.reports()[count:]
    assert [(r.event, r.code) for r in new] == [("refusal", "signature"), ("inventory", "")]
    assert box.running == b"one"


def test_expired_metadata_is_stale_once(box: Box) -> None:
    """Stale is signed, told once, and stops nothing that runs (rule 11)."""
    installed(box)
    box.now += timedelta(days=400)
    for _ in range(3):
        with pytest.raises(Stale):
            box.process().cycle()
    assert [r.event for r in box.reports()].count("stale") == 1
    assert box.running == b"one"
    box.now -= timedelta(days=400)
    assert box.process().cycle() == []
    assert box.said()[-1][0] == "inventory"


def test_outage_is_told_once(box: Box) -> None:
    """A store that is away is an outage, not a refusal, and is over when it is back."""
    installed(box)
    store = box.folder / "store"
    store.rename(box.folder / "away")
    for _ in range(3):
        with pytest.raises((Outage, Refusal)) as caught:
            box.process().cycle()
        assert isinstance(caught.value, Outage)
    (box.folder / "away").rename(store)
    assert box.process().cycle() == []
    assert [r.event for r in box.reports()].count("outage") == 1


def test_assignment_for_other_hardware_is_refused(box: Box) -> None:
    """Held assignments are reported with order and code, once, and other work goes on."""
    installed(box)
    box.ship("app/app-2.bin", b"two", hardware_ids=["other"], hardware_id="other", order="o-2")
    for _ in range(2):
        assert box.process().cycle() == []
    refused = [r for r in box.reports() if r.event == "refusal"]
    assert [(r.code, r.update.order if r.update else "") for r in refused] == [
        ("hardware-mismatch", "o-2")
    ]
    assert box.running == b"one"


def test_reports_wait_and_the_same_bytes_are_sent(box: Box) -> None:
    """A report that could not be handed over is sent later, byte for byte (rule 13)."""
    box.spool.write_text("in the way")
    installed(box)
    with box.opened() as state:
        waiting = state.outbox()
    assert [c for c, _ in waiting] == [1, 2, 3, 4]
    box.spool.unlink()
    box.process().flush()
    sent = [p.read_bytes() for p in sorted((box.spool / "reports").iterdir())]
    assert sent == [envelope for _, envelope in waiting]
    with box.opened() as state:
        assert state.outbox() == []


def test_outbox_keeps_outcomes_longest(box: Box) -> None:
    """A device that was out of reach for long drops progress first, never the outcome."""
    box.spool.write_text("in the way")
    installed(box)
    with box.opened() as state:
        (outcome,) = (c for c, _ in state.outbox() if c == 3)
        for _ in range(600):
            state.queue(lambda counter: b"%d" % counter)
        kept = [c for c, _ in state.outbox()]
    assert len(kept) == 500
    assert outcome in kept
    assert kept[-1] == 604


def test_hint_only_wakes(box: Box) -> None:
    """A hint of an order nobody assigned causes one cycle and is no refusal."""
    installed(box)
    orders = box.spool / "orders"
    orders.mkdir()
    body = '{"schema":1,"device":"%s","order":"%s","rollout":"r-1"}'
    (orders / "x.json").write_text(body % ("press-07", "nobody-assigned-this"))
    agent = box.process()
    assert agent.look(agent.feed.next(0.0)) == []
    assert not [r for r in box.reports() if r.event == "refusal"]
    assert list(orders.iterdir()) == []


def test_bad_hints_are_refused_each_time(box: Box) -> None:
    """Every foreign or malformed hint is a signed refusal that names the order it named."""
    installed(box)
    orders = box.spool / "orders"
    orders.mkdir()
    body = '{"schema":1,"device":"%s","order":"%s","rollout":"r-1"}'
    for _ in range(2):
        (orders / "a.json").write_text(body % ("press-08", FIRST))
        (orders / "b.json").write_text("{")
        agent = box.process()
        assert agent.look(agent.feed.next(0.0)) == []
    refused = [(r.code, r.hint) for r in box.reports() if r.event == "refusal"]
    assert refused == [("hint-wrong-device", FIRST), ("hint-malformed", "")] * 2
    assert len(list((box.spool / "quarantine").iterdir())) == 8


def test_superseded_update_ends_before_the_new_one(box: Box) -> None:
    """A newer assignment ends the older update, with its own outcome, and is installed."""
    installed(box)
    box.machine.busy = "no"
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-2")
    box.process().cycle()
    box.machine.busy = ""
    box.ship("app/app-3.bin", b"three", release_counter=2, order="o-3")
    results = box.process().cycle()
    assert [(r.order, r.outcome) for r in results] == [("o-3", "committed")]
    assert ("outcome", "failed", "withdrawn") in box.said()
    assert box.running == b"three"


def test_withdrawn_update_is_cleaned_up(box: Box) -> None:
    """What was fetched for a withdrawn order does not stay."""
    installed(box)
    box.machine.busy = "no"
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-2")
    box.process().cycle()
    assert list((box.own / "downloads").glob("*.part"))
    box.withdraw()
    box.process().cycle()
    assert not list((box.own / "downloads").glob("*.part"))
    with box.opened() as state:
        assert state.updates() == []
    assert ("outcome", "failed", "withdrawn") in box.said()


def test_local_trouble_is_tried_five_times(box: Box) -> None:
    """A device that can not install says so after five tries, and a new order starts anew."""
    installed(box)
    box.limits = replace(box.limits, max_image=2)
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-2")
    codes = [box.process().cycle()[0] for _ in range(5)]
    assert [c.outcome for c in codes] == ["", "", "", "", "failed"]
    assert {c.code for c in codes} == {"too-large"}
    assert box.process().cycle() == []
    assert box.running == b"one"
    box.limits = replace(box.limits, max_image=2**20)
    assert box.process().cycle() == []
    box.order("app/app-2.bin", release_counter=2, order="o-3")
    assert box.process().cycle()[0].outcome == "committed"


def test_missing_image_is_tried_for_ever(box: Box) -> None:
    """A store that lacks the image is not this device's failure."""
    installed(box)
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-2")
    file = box.folder / "store" / "image" / "targets" / "app" / f"{sha(b'two')}.app-2.bin"
    data = file.read_bytes()
    file.unlink()
    for _ in range(8):
        assert box.process().cycle()[0].code == "missing"
    assert box.said().count(("progress", "in_progress", "missing")) == 1
    file.write_bytes(data)
    assert box.process().cycle()[0].outcome == "committed"


def test_clock_ten_years_ahead_heals(box: Box) -> None:
    """One cycle with a clock far ahead leaves nothing behind (rule 11)."""
    installed(box)
    box.now += timedelta(days=3650)
    with pytest.raises(Stale):
        box.process().cycle()
    box.now -= timedelta(days=3650)
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-2")
    assert box.process().cycle()[0].outcome == "committed"


def test_clock_ten_years_behind_is_lifted(box: Box) -> None:
    """A clock far behind is lifted to what signed metadata has proven."""
    installed(box)
    with box.opened() as state:
        floor = state.clock_floor
    assert strict.stamp(floor) == "2026-11-23T08:00:00Z"
    box.now -= timedelta(days=3650)
    assert box.process().cycle() == []
    assert box.reports()[-1].time >= "2026-11-23T08:00:00Z"


def test_stopping_leaves_a_download_for_later(box: Box) -> None:
    """An agent told to stop leaves a download where it is; that is no failure."""
    installed(box)
    box.ship("app/app-2.bin", b"two", release_counter=2, order="o-2")
    agent = box.process()
    agent.applier.stopping = lambda: True
    (result,) = agent.cycle()
    assert result.code == "stopping"
    assert not [r for r in box.reports() if r.code == "stopping"]
    assert box.process().cycle()[0].outcome == "committed"


def test_hint_that_can_not_be_removed_stops_no_cycle(box: Box) -> None:
    """A spool that fails while a hint is looked at does not keep the device from its update."""
    box.ship()
    agent = box.process()

    def broken(_hint: object) -> None:
        raise Outage("read-only", code="feed")

    agent.feed.done = broken  # type: ignore[method-assign]  # the folder became read-only
    body = b'{"schema":1,"device":"press-07","order":"o-1","rollout":"r-1"}'
    (result,) = agent.look(Hint(body, None))
    assert result.outcome == "committed"


def test_loop_goes_on_after_errors(box: Box) -> None:
    """Neither outage nor tampering ends the loop, and after trouble it looks again sooner."""
    installed(box)
    (box.folder / "store").rename(box.folder / "away")
    agent = box.process()
    told: list[object] = []
    looks: list[float] = []

    def log(found: object) -> None:
        told.append(found)
        looks.append(box.machine.seconds)
        if len(told) == 3:
            (box.folder / "away").rename(box.folder / "store")

    feed_next = agent.feed.next

    def passing(timeout: float) -> Hint | None:
        box.machine.seconds += max(timeout, 0.01)
        return feed_next(0.0)

    agent.feed.next = passing  # type: ignore[method-assign]  # time passes by itself
    agent.run(300.0, 0.0, lambda: len(told) == 5, log)
    assert [isinstance(t, Outage) for t in told] == [True, True, True, False, False]
    pauses = [round(b - a) for a, b in itertools.pairwise(looks)]
    assert pauses == [15, 30, 60, 300]


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 300.0), (1, 15.0), (2, 30.0), (5, 240.0), (6, 300.0), (99, 300.0)]
)
def test_retries_slow_down_to_the_interval(failures: int, seconds: float) -> None:
    """Trouble is looked at again soon, then later and later, never later than the interval."""
    assert delay(300.0, failures) == seconds
    assert delay(5.0, failures) == 5.0


def test_a_flood_of_hints_wears_nothing_out(box: Box) -> None:
    """Whoever holds the broker sends hints without end: ten minutes cost a burst and sixty.

    An order that arrives meanwhile is followed all the same.
    """
    installed(box)
    agent = box.process()
    end = box.machine.seconds + 600
    body = b'{"schema":1,"device":"press-07","order":"nobody-assigned-%d","rollout":"r-1"}'
    taken: list[int] = []
    results: list[Result] = []

    def flood(timeout: float) -> Hint | None:
        del timeout
        box.machine.seconds += 0.2
        taken.append(len(taken))
        return Hint(body % len(taken), None)

    def log(found: Iterable[Result] | OtaError) -> None:
        assert not isinstance(found, OtaError), found
        results.extend(found)
        if len(taken) == BURST + 10:
            box.ship("app/app-2.bin", b"two", order="ota-app-2-aaaaaa-u1-w1-b1")

    agent.feed.next = flood  # type: ignore[method-assign]  # a hostile broker
    agent.feed.done = lambda _hint: None  # type: ignore[method-assign]  # which takes the answer
    agent.run(300.0, 0.0, lambda: box.machine.seconds > end, log)
    assert BURST < len(taken) < BURST + 62
    assert [r.outcome for r in results] == ["committed"]
