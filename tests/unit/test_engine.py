"""The engine over a fleet that signs real reports: forward, back, stopped, and who is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulators.fleet_sim import World, outage

from ota.errors import Refusal
from signing.plan import Gate, Limits


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, devices=6)


def test_three_waves_complete(world: World) -> None:
    """Every device commits, wave after wave, and gets exactly one hint and one assignment."""
    world.start(1, 2, 3)
    assert world.drive() == "COMPLETED"
    assert set(world.runs().values()) == {"2.0.0"}
    assert sorted(d for _, d in world.courier.hints) == sorted(world.devices)
    assert len(world.desk.log) == 6
    assert [w["committed"] for w in world.status()["waves"]] == [1, 2, 3]
    assert world.journal.verify("app-2-x7k2m9") == world.status()["events"]


def test_no_later_wave_before_the_earlier_has_committed(world: World) -> None:
    """While the canary is in progress nobody else has an assignment or a hint."""
    world.devices["d000"].mood = "slow"
    world.start(1, 5)
    for _ in range(5):
        world.step()
        world.poll()
        world.tick()
    assert [d for _, d in world.courier.hints] == ["d000"]
    assert set(world.desk.current) == {"d000"}


def test_a_bad_release_is_taken_back_from_the_canary_alone(world: World) -> None:
    """The sick canary reverts by itself, the healthy one goes back, the others are untouched."""
    world.devices["d001"].mood = "sick"
    world.start(2, 4)
    assert world.drive() == "ROLLED_BACK"
    assert set(world.runs().values()) == {"1.0.0"}
    touched = {device for _, device, _ in world.desk.log}
    assert touched == {"d000", "d001"}
    assert world.outcomes()["d000"] == "returned"
    assert world.outcomes()["d001"] == "reverted"
    back = [order for verb, _, order in world.desk.log if verb == "assign" and "-r1-" in order]
    assert back == ["ota-app-2-x7k2m9-r1-w0-b0"]
    assert "app" not in world.desk.current["d001"], "a reverted device only loses its assignment"


def test_a_device_past_activating_goes_back_too(world: World) -> None:
    """A device in TRIAL when the gate stops gets a return order, and ends on the old release."""
    world.devices["d000"].mood = "slow"
    world.devices["d000"].phase = "TRIAL"
    world.devices["d001"].mood = "sick"
    world.start(2, 4)
    world.step()
    world.poll()
    world.step()
    assert world.status()["state"] == "ROLLING_BACK"
    assert world.desk.assignments("d000")["app"].kind == "rollback"
    assert world.drive() == "ROLLED_BACK"
    assert set(world.runs().values()) == {"1.0.0"}


def test_on_failure_hold_withdraws_and_waits_for_a_human(world: World) -> None:
    """HOLD: not activated devices lose their assignments, committed ones keep theirs."""
    world.devices["d000"].mood = "sick"
    world.devices["d002"].mood = "slow"
    world.start(3, 3, on_failure="hold")
    world.step()
    world.poll()
    assert world.step().state == "HELD"
    assert {d: bool(a) for d, a in world.desk.current.items()} == {
        "d000": False,
        "d001": True,
        "d002": False,
    }
    assert world.status()["held_on"] == {"d000": "reverted"}
    assert ("ota-app-2-x7k2m9-u1-w0-b0", "d002") in world.courier.cancelled
    assert list(world.status()["exposed"]) == ["d002"]


def test_refusals_always_need_a_human(world: World) -> None:
    """A signed refusal without an order holds at once, although on_failure says rollback."""
    world.devices["d000"].mood = "refuses"
    world.start(2, 4)
    world.step()
    world.poll()
    assert world.step().state == "HELD"
    assert world.status()["held_on"] == {"d000": "refused"}


def test_stale_devices_are_counted_as_stale_and_may_recover(world: World) -> None:
    """``stale`` within its budget does not stop the wave; a later commit replaces it."""
    world.devices["d000"].mood = "stale"
    world.start(2, 4, gate=Gate(stale=1))
    world.step()
    world.poll()
    world.step()
    assert world.outcomes()["d000"] == "stale"
    world.devices["d000"].mood = "ok"
    assert world.drive() == "COMPLETED"
    assert world.outcomes()["d000"] == "committed"


def test_silent_within_budget_passes_and_the_tail_waits(world: World) -> None:
    """A silent device lets its wave pass; the rollout completes only after ``tail_until``."""
    world.devices["d000"].mood = "off"
    world.start(2, 4, gate=Gate(silent=1), deadline=60)
    assert world.drive(20) == "RUNNING"
    assert world.outcomes()["d000"] == "silent"
    assert list(world.runs().values()).count("2.0.0") == 5
    world.tick(7 * 86400)
    assert world.step().state == "COMPLETED"
    assert world.desk.assignments("d000") == {}
    assert world.status()["stragglers"] == ["d000"]


def test_a_straggler_that_comes_back_completes_the_rollout(world: World) -> None:
    """Its late commit counts, and nothing is left to wait for."""
    world.devices["d000"].mood = "off"
    world.start(2, 4, gate=Gate(silent=1), deadline=60)
    world.drive(20)
    world.devices["d000"].mood = "ok"
    assert world.drive() == "COMPLETED"
    assert world.outcomes()["d000"] == "committed"


def test_a_straggler_that_fails_late_still_stops_the_rollout(world: World) -> None:
    """Budgets of earlier waves are watched until the tail closes."""
    world.devices["d000"].mood = "off"
    world.start(2, 4, gate=Gate(silent=1), deadline=60)
    world.drive(20)
    world.devices["d000"].mood = "sick"
    assert world.drive() == "ROLLED_BACK"
    assert set(world.runs().values()) == {"1.0.0"}


def test_silent_over_budget_goes_back(world: World) -> None:
    """The deadline turns a device that never reported into ``silent``."""
    world.devices["d000"].mood = "off"
    world.start(2, 4, deadline=60)
    assert world.drive(20) == "ROLLED_BACK"
    assert set(world.runs().values()) == {"1.0.0"}


def test_unreachable_is_not_failed(world: World) -> None:
    """A device that the courier could not reach has its own budget and may still come."""
    world.courier.away["d000"] = "no route"
    world.devices["d000"].mood = "off"
    world.start(2, 4, gate=Gate(unreachable=1))
    world.drive(10)
    assert world.outcomes()["d000"] == "unreachable"
    world.devices["d000"].mood = "ok"
    assert world.drive() == "COMPLETED"


def test_soak_counts_from_the_last_commit(world: World) -> None:
    """No order for the next wave before the soak time has passed since the last commit."""
    world.start(1, 5, soak=100)
    world.step()
    world.tick(50)
    world.poll()
    world.step()
    world.tick(99)
    world.step()
    assert len(world.courier.hints) == 1
    world.tick(1)
    world.step()
    assert len(world.courier.hints) == 6


def test_a_device_that_differs_from_the_plan_is_left_out(world: World) -> None:
    """Rule 7: what it runs now is not what the plan froze, so it gets no order."""
    world.devices["d003"].runs = world.catalogue.listed["app/app-2.0.0.bin"]
    world.courier.inbox.append(world.devices["d003"].send())
    world.registry.retire("d004", world.now)
    world.start(2, 4)
    assert world.drive() == "COMPLETED"
    assert set(world.status()["left_out"]) == {"d003", "d004"}
    assert {d for _, d in world.courier.hints} == {"d000", "d001", "d002", "d005"}


def test_the_cap_on_devices_in_flight_holds(world: World) -> None:
    """Never more than two unfinished devices, and batches of at most one."""
    world.start(6, limits=Limits(in_flight=2, batch=1))
    most = 0
    for _ in range(20):
        if world.step().state != "RUNNING":
            break
        unfinished = [d for d, o in world.outcomes().items() if o in {"pending", "in_progress"}]
        most = max(most, len(unfinished))
        world.poll(*unfinished[:1])
        world.tick()
    assert most == 2
    assert world.status()["state"] == "COMPLETED"
    assert len({o for o, _ in world.courier.hints}) == 6


def test_one_device_of_a_group_at_a_time(world: World) -> None:
    """``max_unavailable``: redundant machines of one cell never go down together."""
    groups = {d: f"cell-{int(d[1:]) % 2}" for d in world.devices}
    limits = Limits(group_by="cell", max_unavailable=1)
    world.start(6, limits=limits, groups=groups)
    for _ in range(20):
        if world.step().state != "RUNNING":
            break
        open_ = [d for d, o in world.outcomes().items() if o in {"pending", "in_progress"}]
        cells = [groups[d] for d in open_]
        assert len(cells) == len(set(cells))
        world.poll()
        world.tick()
    assert world.status()["state"] == "COMPLETED"


def test_an_expired_approval_stops_before_the_next_order(world: World) -> None:
    """Rule 15 before every order: held, nothing more ordered; a new approval lets it go on."""
    plan = world.start(1, 5, days=1)
    world.step()
    world.poll()
    world.tick(2 * 86400)
    assert world.step().state == "HELD"
    assert len(world.courier.hints) == 1
    assert "approval-expired" in world.status()["reasons"][0]
    data, renewed = world.signed(plan)
    again = world.campaign.approve(data, renewed, world.now)
    assert again["missing"] == ""
    world.campaign.resume(plan.rollout, world.now)
    assert world.drive() == "COMPLETED"


def test_a_yanked_release_stops_the_next_order(world: World) -> None:
    """What is no longer listed as the plan froze it is not sent out."""
    world.start(1, 5)
    world.step()
    world.poll()
    world.catalogue.listed.pop("app/app-2.0.0.bin")
    assert world.step().state == "HELD"
    assert len(world.courier.hints) == 1


def test_an_outage_of_the_catalogue_only_delays(world: World) -> None:
    """Nothing is ordered, nothing is held, and the next step goes on."""
    world.start(2, 4)
    world.catalogue.fault = outage()
    step = world.step()
    assert (step.state, world.courier.hints) == ("RUNNING", [])
    assert "simulated outage" in step.problems[0]
    world.catalogue.fault = None
    assert world.drive() == "COMPLETED"


def test_one_device_that_can_not_be_assigned_does_not_stop_the_others(world: World) -> None:
    """Its assignment is retried; the order is dispatched once."""
    world.desk.faults["d001"] = outage()
    world.start(2, 4)
    world.step()
    assert set(world.desk.current) == {"d000"}
    assert {d for _, d in world.courier.hints} == {"d000", "d001"}
    del world.desk.faults["d001"]
    world.step()
    assert set(world.desk.current) == {"d000", "d001"}
    assert len(world.courier.hints) == 2
    assert world.drive() == "COMPLETED"


def test_a_refusal_by_the_desk_holds_the_rollout(world: World) -> None:
    """Tampered director metadata of one device: held with the reason, the device left out."""
    world.desk.faults["d001"] = Refusal("signature", "director metadata is not signed")
    world.start(2, 4)
    assert world.step().state == "HELD"
    assert "signature" in world.status()["reasons"][0]
    assert "d001" in world.status()["left_out"]


def test_a_courier_that_is_down_delays_the_order(world: World) -> None:
    """The order stays recorded and is dispatched once, under its one id, later."""
    world.start(2, 4)
    world.courier.fault = outage()
    world.step()
    assert world.courier.hints == []
    world.courier.fault = None
    world.step()
    assert {o for o, _ in world.courier.hints} == {"ota-app-2-x7k2m9-u1-w0-b0"}
    assert world.drive() == "COMPLETED"


def test_tampered_plan_bytes_in_the_database_are_refused(world: World) -> None:
    """The database is not believed: other bytes under the plan's digest stop everything."""
    world.start(1, 5)
    with world.registry.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER rollout_documents_UPDATE")
        connection.exec_driver_sql(
            "UPDATE rollout_documents SET data = CAST(replace(CAST(data AS TEXT), 'a', 'b') AS BLOB)"
        )
    with pytest.raises(Refusal) as caught:
        world.step()
    assert caught.value.code == "journal-broken"
    assert world.courier.hints == []
