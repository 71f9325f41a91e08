"""From ACTIVATING on: reboots, fall-backs, loops, and ways back that fail, on an A/B device."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from simulators.agentbox import Box
from simulators.played_ab import PlayedAB, sha
from simulators.stopping import Killed

from ota.agent.endings import Result


@pytest.fixture
def ab() -> PlayedAB:
    return PlayedAB()


@pytest.fixture
def box(tmp_path: Path, ab: PlayedAB) -> Box:
    """Release one is committed in one slot; the other is empty."""
    box = Box(tmp_path)
    box.installer, box.keeps = ab, False
    box.ship()
    assert one(box).code == "pending-reboot"
    restart(box, ab)
    assert one(box).outcome == "committed"
    return box


def one(box: Box) -> Result:
    """One cycle of a new process, with one result."""
    (result,) = box.process().cycle()
    return result


def restart(box: Box, ab: PlayedAB, *, falls_back: bool = False) -> None:
    box.machine.boot += "'"
    box.machine.seconds = 5.0
    ab.boot(falls_back=falls_back)


def two(box: Box, **custom: object) -> None:
    box.ship("app/app-2.bin", b"two", order="o-2", **{"release_counter": 2} | custom)


def last_outcome(box: Box) -> tuple[str, str, str, str]:
    report = [r for r in box.reports() if r.event == "outcome"][-1]
    assert report.update is not None
    return report.update.order, report.update.outcome, report.update.phase, report.code


def test_reboot_is_asked_for_until_it_happens(box: Box, ab: PlayedAB) -> None:
    """PENDING_REBOOT asks at every cycle, changes nothing, and then the trial begins."""
    two(box)
    asked = box.machine.reboots
    for _ in range(3):
        assert one(box).code == "pending-reboot"
    assert box.machine.reboots == asked + 3
    assert ab.running == b"one"
    restart(box, ab)
    assert one(box).outcome == "committed"
    assert (ab.running, ab.trial) == (b"two", False)


def test_boot_loader_fell_back(box: Box, ab: PlayedAB) -> None:
    """Another boot and the old image runs: reverted, denied, reported as what it was."""
    two(box)
    one(box)
    restart(box, ab, falls_back=True)
    assert one(box).code == "fell-back"
    assert last_outcome(box) == ("o-2", "reverted", "ROLLED_BACK", "fell-back")
    assert ab.running == b"one"
    with box.opened() as state:
        assert ("app", sha(b"two")) in state.denials()


def test_trial_that_a_watchdog_ended(box: Box, ab: PlayedAB) -> None:
    """A device that fell back during its trial finds that out at its next start."""
    two(box)
    one(box)
    restart(box, ab)
    crash_in_probe(box)
    restart(box, ab, falls_back=True)
    assert one(box).code == "fell-back"
    assert last_outcome(box)[1] == "reverted"


def die(*_: object) -> None:
    raise Killed


def crash_in_probe(box: Box) -> None:
    """The process dies while the probe runs."""
    check, box.probe.check = box.probe.check, die  # type: ignore[method-assign, assignment]  # it dies
    with pytest.raises(Killed):
        box.process().cycle()
    box.probe.check = check  # type: ignore[method-assign]  # it lives


def test_trial_in_a_loop_is_taken_back(box: Box, ab: PlayedAB) -> None:
    """An image that kills the agent in every trial is taken back after three starts."""
    two(box)
    one(box)
    restart(box, ab)
    for _ in range(3):
        crash_in_probe(box)
        box.machine.boot += "'"
    result = one(box)
    assert result.code == "pending-reboot"
    restart(box, ab)
    assert one(box).code == "trial-loop"
    assert last_outcome(box) == ("o-2", "reverted", "ROLLED_BACK", "trial-loop")
    assert (ab.running, ab.trial) == (b"one", False)


def test_trial_goes_on_after_a_crash(box: Box, ab: PlayedAB) -> None:
    """A crash of the agent alone is no verdict: the trial goes on with what is left of it."""
    two(box)
    one(box)
    restart(box, ab)
    crash_in_probe(box)
    box.machine.seconds += 12.0
    assert one(box).outcome == "committed"
    assert box.probe.asked[-1] == pytest.approx(18.0)


def test_deadline_is_not_the_wall_clocks(box: Box, ab: PlayedAB) -> None:
    """A clock that jumps during the trial neither ends nor prolongs it."""
    two(box)
    one(box)
    restart(box, ab)
    crash_in_probe(box)
    box.now += timedelta(days=3650)
    with pytest.raises(Exception, match="expired"):
        box.process().cycle()
    assert box.probe.asked[-1] == pytest.approx(30.0)
    assert ab.running == b"two"
    assert last_outcome(box)[:2] == ("o-2", "committed")


def test_agent_that_was_away_gets_one_last_look(box: Box, ab: PlayedAB) -> None:
    """After the deadline the probe still gets ten seconds, and its word is final."""
    two(box)
    one(box)
    restart(box, ab)
    crash_in_probe(box)
    box.machine.seconds += 500.0
    box.probe.sick = "still starting"
    assert one(box).code == "pending-reboot"
    assert box.probe.asked[-1] == pytest.approx(10.0)
    restart(box, ab)
    assert one(box).code == "unhealthy"


def test_unhealthy_needs_a_reboot_to_go_back(box: Box, ab: PlayedAB) -> None:
    """The way back is stored before it is taken, and ends after the reboot."""
    two(box)
    one(box)
    restart(box, ab)
    box.probe.sick = "no"
    assert one(box).code == "pending-reboot"
    assert one(box).code == "pending-reboot"
    restart(box, ab)
    assert one(box).outcome == "reverted"
    assert ab.running == b"one"


@pytest.mark.parametrize("failures", [1, 2])
def test_way_back_is_tried_again(box: Box, ab: PlayedAB, failures: int) -> None:
    """A way back that fails once or twice is still taken."""
    ab.needs_reboot = False
    box.probe.sick = "no"
    ab.fails["rollback"] = failures
    two(box)
    assert one(box).outcome == "reverted"
    assert ab.running == b"one"


def test_way_back_that_fails_needs_a_human(box: Box, ab: PlayedAB) -> None:
    """It stops after three tries, says so, signed, and knows when a human has mended it."""
    ab.needs_reboot = False
    box.probe.sick = "no"
    ab.fails["rollback"] = 3
    two(box)
    result = one(box)
    assert (result.outcome, result.code) == ("failed", "needs-human")
    assert last_outcome(box) == ("o-2", "failed", "NEEDS_HUMAN", "needs-human")
    with box.opened() as state:
        assert "rollback failed" in state.get("needs_human app")
    ab.running, ab.other, ab.trial = b"one", b"", False
    assert box.process().cycle() == []
    with box.opened() as state:
        assert state.get("needs_human app") == ""


def test_way_back_that_kills_the_agent_needs_a_human(box: Box, ab: PlayedAB) -> None:
    """Cut short three times, it is not begun a fourth time: a person is asked, signed."""
    ab.needs_reboot = False
    box.probe.sick = "no"
    back, ab.rollback = ab.rollback, die  # type: ignore[method-assign, assignment]  # it dies
    two(box)
    for _ in range(3):
        with pytest.raises(Killed):
            box.process().cycle()
    ab.rollback = back  # type: ignore[method-assign]  # it lives
    ab.called.clear()
    assert one(box).code == "needs-human"
    assert "rollback" not in ab.called
    assert last_outcome(box) == ("o-2", "failed", "NEEDS_HUMAN", "needs-human")
    with box.opened() as state:
        assert "rollback-loop" in state.get("needs_human app")


def test_way_back_that_leads_nowhere_needs_a_human(box: Box, ab: PlayedAB) -> None:
    """The installer says that it went back, and the new image still runs: never "reverted"."""
    ab.needs_reboot = False
    box.probe.sick = "no"
    ab.rollback = lambda: "active"  # type: ignore[method-assign]  # it lies
    two(box)
    assert one(box).code == "needs-human"
    assert last_outcome(box) == ("o-2", "failed", "NEEDS_HUMAN", "needs-human")
    with box.opened() as state:
        assert "rollback-failed" in state.get("needs_human app")
        assert ("app", sha(b"two")) in state.denials()


def test_unfinished_commit_is_tried_again(box: Box, ab: PlayedAB) -> None:
    """A commit that fails is tried by the next cycles; the image that runs is not taken back."""
    ab.needs_reboot = False
    ab.fails["commit"] = 2
    two(box)
    assert [one(box).outcome for _ in range(3)] == ["", "", "committed"]
    assert ab.running == b"two"


def test_commit_that_never_works_needs_a_human(box: Box, ab: PlayedAB) -> None:
    """After three tries it stops and says so."""
    ab.needs_reboot = False
    ab.fails["commit"] = 3
    two(box)
    assert [one(box).code for _ in range(3)][-1] == "needs-human"
    assert last_outcome(box)[2] == "NEEDS_HUMAN"


def test_activation_that_fails_is_taken_back(box: Box, ab: PlayedAB) -> None:
    """A failing switch is not tried for ever: reverted, and its order is over."""
    ab.fails["activate"] = 1
    two(box)
    assert one(box).outcome == "reverted"
    assert box.process().cycle() == []
    assert ab.running == b"one"


def test_slot_that_does_not_hold_the_image_is_taken_back(box: Box, ab: PlayedAB) -> None:
    """What was switched to is looked at before it is asked how it feels."""
    ab.needs_reboot = False
    ab.verify_active = lambda _sha256: False  # type: ignore[method-assign]  # a damaged slot
    two(box)
    asked = len(box.probe.asked)
    assert one(box).code == "not-active"
    assert len(box.probe.asked) == asked
    assert ab.running == b"one"


def test_trial_that_no_journal_knows_is_taken_back_first(box: Box, ab: PlayedAB) -> None:
    """An uncommitted stranger is never taken for the old version that is to be kept."""
    ab.needs_reboot = False
    ab.running, ab.other, ab.trial = b"stranger", b"one", True
    two(box)
    assert one(box).outcome == "committed"
    assert (ab.running, ab.other) == (b"two", b"one")


# -- floors (rules 4, 5) -----------------------------------------------------------------------
def floor(box: Box) -> int:
    with box.opened() as state:
        return state.floors().get("app", 0)


def test_floor_follows_the_lowest_bootable_counter(box: Box, ab: PlayedAB) -> None:
    """The floor rises only when no slot with a lower counter can be booted any more."""
    ab.needs_reboot = False
    assert floor(box) == 1
    two(box)
    one(box)
    assert floor(box) == 1
    box.ship("app/app-3.bin", b"three", release_counter=3, order="o-3")
    one(box)
    assert floor(box) == 2
    assert (ab.running, ab.other) == (b"three", b"two")


def test_reverted_update_leaves_the_floor(box: Box, ab: PlayedAB) -> None:
    """Nothing but a commit raises a floor."""
    ab.needs_reboot = False
    box.probe.sick = "no"
    two(box, release_counter=9)
    one(box)
    assert floor(box) == 1


def test_content_of_unknown_counter_keeps_the_floor(box: Box, ab: PlayedAB) -> None:
    """A bootable slot that nobody can judge keeps the floor where it is."""
    ab.needs_reboot = False
    ab.running = b"from the workshop"
    two(box)
    one(box)
    assert ab.other == b"from the workshop"
    assert floor(box) == 1


def test_floor_outlives_everything(box: Box, ab: PlayedAB) -> None:
    """No later, lower counter lowers a floor."""
    with box.opened() as state:
        state.raise_floor("app", 7)
        state.raise_floor("app", 3)
        assert state.floors() == {"app": 7}
    two(box)
    assert box.process().cycle() == []
    assert [r.code for r in box.reports() if r.event == "refusal"] == ["below-floor"]
    assert ab.running == b"one"


def test_security_fix_closes_its_way_back_after_its_soak(box: Box, ab: PlayedAB) -> None:
    """Not before the soak has passed in monotonic time; then the lower previous is gone."""
    ab.needs_reboot = False
    two(box, security_fix=True)
    one(box)
    box.machine.seconds += 3599
    box.process().cycle()
    assert (floor(box), ab.other) == (1, b"one")
    box.machine.seconds += 2
    box.process().cycle()
    assert (floor(box), ab.other) == (2, b"")
    state = box.reports()[-1].components["app"]
    assert (state.floor, state.previous) == (2, None)


def test_soak_is_not_the_wall_clocks(box: Box, ab: PlayedAB) -> None:
    """A clock ten years ahead for one cycle does not close the way back early (rule 11)."""
    ab.needs_reboot = False
    two(box, security_fix=True)
    one(box)
    box.now += timedelta(days=3650)
    with pytest.raises(Exception, match="expired"):
        box.process().cycle()
    box.now -= timedelta(days=3650)
    box.process().cycle()
    assert (floor(box), ab.other) == (1, b"one")


def test_soak_over_many_boots_goes_by_trusted_time(box: Box, ab: PlayedAB) -> None:
    """A device that reboots often still gets there, by the time that metadata proves."""
    ab.needs_reboot = False
    two(box, security_fix=True)
    one(box)
    restart(box, ab)
    box.now += timedelta(hours=2)
    box.process().cycle()
    assert floor(box) == 1
    box.world.director.now += timedelta(hours=2)
    box.world.director.publish()
    box.publish()
    box.process().cycle()
    assert (floor(box), ab.other) == (2, b"")


def test_ordinary_update_keeps_its_way_back(box: Box, ab: PlayedAB) -> None:
    """Only a security fix drops the previous slot."""
    ab.needs_reboot = False
    two(box)
    one(box)
    box.machine.seconds += 10**6
    box.process().cycle()
    assert (floor(box), ab.other) == (1, b"one")
