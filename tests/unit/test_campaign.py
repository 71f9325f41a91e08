"""The use cases of ``ota rollout``: what they ask for, what they leave behind, how they end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from simulators.fleet_sim import WORKSPACE, World, stepping

from ota.errors import (
    Busy,
    Misuse,
    NeedsHuman,
    NotFound,
    NotPermitted,
    OtaError,
    Refusal,
)
from signing.approval import Approvers, approve
from signing.enrolment import key_to_dict
from signing.plan import Gate, Workspace, sign_plan

R = "app-2-x7k2m9"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, devices=4)


# -- beginning -----------------------------------------------------------------------------------
def test_approve_then_start(world: World) -> None:
    """The first approval drafts the rollout; start needs no file then."""
    data, approval = world.signed(world.plan(1, 3))
    found = world.campaign.approve(data, approval, world.now)
    assert found == {"rollout": R, "state": "APPROVED", "approvals": 1, "missing": ""}
    assert world.campaign.start(data, [], world.now)["state"] == "RUNNING"
    assert world.kinds() == ["drafted", "approval", "approved", "started"]


def test_two_of_two(world: World) -> None:
    """While an approval is missing: DRAFT, a human is needed, and nothing is started."""
    other = CryptoSigner.generate_ed25519()
    keys = (key_to_dict(world.approver.public_key), key_to_dict(other.public_key))
    authors = world.catalogue.who.authors
    world.catalogue.who = Approvers(schema=1, threshold=2, authors=authors, approvers=keys)
    data, approval = world.signed(world.plan(4))
    found = world.campaign.approve(data, approval, world.now)
    assert (found["state"], found["missing"]) == ("DRAFT", "1 of 2 approvals")
    with pytest.raises(NeedsHuman):
        world.campaign.start(data, [approval], world.now)
    second = approve(data, WORKSPACE, world.now + timedelta(days=1), other)
    assert world.campaign.approve(data, second, world.now)["state"] == "APPROVED"
    assert world.campaign.start(data, [], world.now)["state"] == "RUNNING"


def test_the_author_can_not_approve(world: World) -> None:
    """Rule 15: also not when the author stands among the approvers."""
    both = (key_to_dict(world.author.public_key),)
    world.catalogue.who = Approvers(schema=1, threshold=1, authors=both, approvers=both)
    data = sign_plan(world.plan(4), world.author)
    mine = approve(data, WORKSPACE, world.now + timedelta(days=1), world.author)
    with pytest.raises(NotPermitted):
        world.campaign.approve(data, mine, world.now)
    with pytest.raises((NeedsHuman, Refusal)):
        world.campaign.start(data, [mine], world.now)
    assert world.journal.rollouts() == []


def refused(world: World, case: str) -> tuple[bytes, list[bytes]]:
    """A plan and approvals with one fault."""
    plan = world.plan(4)
    data, approval = world.signed(plan)
    ends = world.now + timedelta(days=1)
    thief = CryptoSigner.generate_ed25519()
    there = Workspace(image_root="0" * 64, director_root="b" * 64)
    other, _ = world.signed(world.plan(3, rollout="app-2-aaaaaa"))
    faults: dict[str, tuple[bytes, list[bytes]]] = {
        "no approval": (data, []),
        "thief's approval": (data, [approve(data, WORKSPACE, ends, thief)]),
        "other workspace": (data, [approve(data, there, ends, world.approver)]),
        "other plan": (data, [approve(other, WORKSPACE, ends, world.approver)]),
        "expired": (data, [approve(data, WORKSPACE, world.now, world.approver)]),
        "thief's plan": (sign_plan(plan, thief), [approval]),
        "flipped": (data.replace(b'"sig":"', b'"sig":"00', 1), [approval]),
        "truncated": (data[:-9], [approval]),
        "not a plan": (approval, [approval]),
        "not an approval": (data, [data]),
    }
    return faults[case]


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("no approval", "unapproved"),
        ("thief's approval", "statement-signature"),
        ("other workspace", "workspace-mismatch"),
        ("other plan", "approval-mismatch"),
        ("expired", "approval-expired"),
        ("thief's plan", "author-unlisted"),
        ("flipped", "statement-signature"),
        ("truncated", "statement-malformed"),
        ("not a plan", "statement-malformed"),
        ("not an approval", "statement-malformed"),
    ],
)
def test_what_does_not_stand_is_not_started(world: World, case: str, code: str) -> None:
    """Named, and nothing is written: no journal, no assignment, no hint."""
    data, approvals = refused(world, case)
    with pytest.raises(OtaError) as caught:
        world.campaign.start(data, approvals, world.now)
    assert caught.value.code == code
    assert world.journal.rollouts() == []
    assert world.desk.log == []
    assert world.courier.hints == []


def test_a_second_start_is_refused(world: World) -> None:
    """Started once; and another plan can not take the same name."""
    data, approval = world.signed(world.start(4))
    with pytest.raises(Misuse) as caught:
        world.campaign.start(data, [approval], world.now)
    assert caught.value.code == "illegal-move"
    assert world.kinds().count("started") == 1


def test_one_name_one_plan(world: World) -> None:
    """A drafted rollout keeps its plan: other bytes under its name are refused."""
    data, approval = world.signed(world.plan(1, 3))
    world.campaign.approve(data, approval, world.now)
    other, approved = world.signed(world.plan(4))
    with pytest.raises(Refusal) as caught:
        world.campaign.start(other, [approved], world.now)
    assert caught.value.code == "approval-mismatch"
    assert world.kinds() == ["drafted", "approval", "approved"]


def test_an_unknown_courier_is_named(world: World) -> None:
    """The plan names a courier that this workspace does not have."""
    data, approval = world.signed(world.plan(4, couriers=("pigeon",)))
    with pytest.raises(Misuse, match="pigeon"):
        world.campaign.start(data, [approval], world.now)


def test_one_open_rollout_for_a_device_and_component(world: World) -> None:
    """A second plan with one of the devices is not started, unless it supersedes the first."""
    world.start(4)
    world.step()
    world.poll("d000")
    newer = {"rollout": "app-2-bbbbbb", "names": ["d001", "d002"]}
    data, approval = world.signed(world.plan(2, **newer))
    with pytest.raises(NotPermitted, match=R):
        world.campaign.start(data, [approval], world.now)
    data, approval = world.signed(world.plan(2, supersedes=(R,), **newer))
    world.campaign.start(data, [approval], world.now)
    assert world.status()["state"] == "ABORTED"
    assert world.desk.assignments("d001") == {}
    assert world.desk.assignments("d000"), "what had committed keeps its assignment"
    assert world.drive(rollout="app-2-bbbbbb") == "COMPLETED"
    assert world.runs() == {"d000": "2.0.0", "d001": "2.0.0", "d002": "2.0.0", "d003": "1.0.0"}


# -- looking -------------------------------------------------------------------------------------
def test_status_tells_the_last_steps_age(world: World) -> None:
    """None before the first step, then seconds."""
    world.start(4)
    assert world.status()["last_step_age"] is None
    world.step()
    world.tick(90)
    assert world.status()["last_step_age"] == 90


def test_what_is_open_and_in_use(world: World) -> None:
    """For planning (one rollout per device) and for yanking (rule 9)."""
    world.start(2, 2)
    assert world.campaign.open_devices("app") == {R: frozenset(world.devices)}
    assert world.campaign.open_devices("os") == {}
    assert len(world.campaign.in_use("app/app-1.0.0.bin")) == 1
    assert len(world.campaign.in_use("app/app-2.0.0.bin")) == 1
    assert world.drive() == "COMPLETED"
    assert world.campaign.open_devices("app") == {}
    assert world.campaign.in_use("app/app-1.0.0.bin") == []


def test_list_and_history(world: World) -> None:
    """One row each; the history is the journal."""
    world.start(2, 2)
    world.drive()
    (row,) = world.campaign.rollouts(world.now)
    assert (row["rollout"], row["state"], row["committed"], row["wave"]) == (
        R,
        "COMPLETED",
        4,
        "2/2",
    )
    history = world.campaign.history(R)
    assert [e["version"] for e in history] == list(range(1, len(history) + 1))


@pytest.mark.parametrize("verb", ["step", "pause", "resume", "rollback", "status"])
def test_an_unknown_rollout(world: World, verb: str) -> None:
    """``NotFound``, with the command that lists them."""
    with pytest.raises(NotFound) as caught:
        getattr(world.campaign, verb)("nope", world.now)
    assert caught.value.remedy == "ota rollout list"


def test_two_engines_never_step_at_once(world: World) -> None:
    """The workspace's lock: the second gets ``Busy`` and changes nothing."""
    world.start(4)
    with stepping(world):
        with pytest.raises(Busy) as caught:
            world.step()
        assert caught.value.exit_code == 7
        assert world.courier.hints == []
    assert world.step().state == "RUNNING"


def test_two_engines_on_two_machines_meet_in_the_journal(world: World) -> None:
    """Without a common lock the journal's version decides: one order, not two."""
    world.start(4)
    engine = world.campaign._engine
    case = engine.case(R, world.now)
    world.step()
    with pytest.raises(Busy):
        case.add("advanced", {"wave": 1})
    assert len(world.courier.hints) == 4


def test_gate_budgets_of_the_plan_are_used(world: World) -> None:
    """Two sick devices within a budget of two do not stop it."""
    world.devices["d000"].mood = world.devices["d002"].mood = "sick"
    world.start(4, gate=Gate(reverted="50%", min_sample=2))
    assert world.drive() == "COMPLETED"
    assert world.status()["waves"][0]["reverted"] == 2
    assert not any(world.desk.current[d] for d in ("d000", "d002"))


def test_a_broken_journal_hides_nothing(world: World) -> None:
    """Its devices must not look free, nor its releases unused; the others can still be paused."""
    world.start(2, 0)
    world.start(2, rollout="app-2-dddddd", names=["d002", "d003"])
    with world.registry.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER rollout_journal_DELETE")
        connection.exec_driver_sql(
            "DELETE FROM rollout_journal WHERE rollout = 'app-2-x7k2m9' AND version = 2"
        )
    for look in (world.campaign.open_devices, world.campaign.in_use):
        with pytest.raises(Refusal) as caught:
            look("app")
        assert caught.value.code == "journal-broken"
    assert [s.rollout for s in world.campaign.pause_all(world.now)] == ["app-2-dddddd"]
