"""Plans and approvals: an author and an approver who sign anything at all stop nothing but themselves.

Each example is a whole workspace: a fleet that signs real reports, a director's desk that refuses
what the plan does not say, a journal in memory. A plan that is refused leaves the journal empty;
one that starts is driven to where it ends, and meanwhile every command that looks at it works.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from simulators.fleet_sim import WORKSPACE, World
from simulators.mutations import budget, damaged, dumps, mutated

from ota.cli import output
from ota.errors import OtaError, Refusal
from ota.rollout import plan_view
from ota.rollout.authority import read
from signing import statement, strict
from signing.approval import Approval, approve
from signing.plan import Gate, Limits
from signing.statement import Kind

BASE = World(Path(tempfile.mkdtemp(prefix="fuzz-plans-")), devices=0)
"""Keys and releases that the example plan is made of; its fleet is empty."""
BODY: dict[str, Any] = msgspec.to_builtins(
    BASE.plan(
        *(1, 2),
        names=["d000", "d001", "d002"],
        gate=Gate(stale="50%"),
        limits=Limits(in_flight=2, batch=1, group_by="cell", max_unavailable=1),
        groups={"d000": "a", "d001": "a", "d002": "b"},
        supersedes=("app-1-aaaaaa",),
        clear_denials=True,
    )
)
BODY["excluded"] = [["d009", "silent: since yesterday"]]


def world(folder: Path) -> World:
    """Three devices, and the author, approver and releases of the example plan."""
    made = World(folder, devices=3)
    made.author, made.approver = BASE.author, BASE.approver
    made.catalogue.who = BASE.catalogue.who
    return made


def signed(body: Any) -> bytes:
    """Any plan, signed by a listed author."""
    return statement.sign("plan", dumps(body), BASE.author)


def started(made: World, plan: bytes, approvals: list[bytes]) -> bool:
    """Set running; what was refused has left nothing in the journal."""
    try:
        made.campaign.start(plan, approvals, made.now)
    except OtaError as error:
        assert error.code
        assert made.journal.rollouts() == []
        assert made.desk.log == made.courier.hints == []
        return False
    return True


def looked_at(made: World, plan: bytes) -> None:
    """Every form of every look at a plan that has started."""
    (rollout,) = made.journal.rollouts()
    views = [
        plan_view.describe(read(plan)),
        made.status(rollout),
        *made.campaign.rollouts(made.now),
        *made.campaign.history(rollout),
    ]
    for form in ("table", "json", "csv"):
        for view in views:
            text = output.details(form, view)
            assert all(c.isprintable() or c == "\n" for c in text)
            text.encode()


def driven(made: World) -> None:
    """A fleet that obeys; whatever happens, nobody outside of the plan gets anything."""
    (rollout,) = made.journal.rollouts()
    plan = made.campaign._engine.case(rollout, made.now).plan
    for _ in range(6):
        step = made.step(rollout)
        if step.state not in {"RUNNING", "ROLLING_BACK"}:
            break
        made.poll()
        made.tick(7200)
    assert {device for _, device in made.courier.hints} <= set(plan.rows)
    assert len(set(made.courier.hints)) == len(made.courier.hints)
    assert set(made.runs().values()) <= {"1.0.0", "2.0.0"}


def run(plan: bytes, approvals: list[bytes]) -> bool:
    """One plan from its start to its end; False when it was refused."""
    with tempfile.TemporaryDirectory() as folder:
        made = world(Path(folder))
        if not started(made, plan, approvals):
            return False
        looked_at(made, plan)
        driven(made)
        looked_at(made, plan)
        made.registry.close()
    return True


def approval_of(plan: bytes) -> bytes | None:
    """An honest approval of these bytes, where there is something to approve."""
    try:
        return approve(plan, WORKSPACE, strict.instant(BODY["expires"]), BASE.approver)
    except Refusal:
        return None


@budget(1.5)
@given(mutated(BODY, changes=2))
def test_signed_nonsense(body: Any) -> None:
    """Signed and approved, whatever it says: refused by name, or driven without a surprise."""
    plan = signed(body)
    approval = approval_of(plan)
    if approval is not None:
        run(plan, [approval])


PLAN = signed(BODY)
APPROVAL = approval_of(PLAN)
assert APPROVAL is not None
APPROVED = json.loads(statement.peek("approval", APPROVAL).payload)


def test_the_example_runs() -> None:
    """What the examples begin with is a plan that completes."""
    assert APPROVAL is not None
    assert run(PLAN, [APPROVAL])


@budget(0.5)
@given(st.data())
def test_damaged_bytes(data: st.DataObject) -> None:
    """A plan or an approval changed on its way does not start."""
    assert APPROVAL is not None
    plan, approval = PLAN, APPROVAL
    if data.draw(st.booleans()):
        plan = data.draw(damaged(PLAN, others=APPROVAL))
    else:
        approval = data.draw(damaged(APPROVAL, others=PLAN))
    if run(plan, [approval]):
        for kind, was, now in (("plan", PLAN, plan), ("approval", APPROVAL, approval)):
            assert payload(kind, was) == payload(kind, now)


def payload(kind: Any, data: bytes) -> bytes:
    """What was signed."""
    return statement.peek(kind, data).payload


@budget(0.7)
@given(st.data())
def test_mutated_envelopes(data: st.DataObject) -> None:
    """Signatures moved, repeated or renamed: only the very same plan starts."""
    assert APPROVAL is not None
    envelopes: dict[Kind, bytes] = {"plan": PLAN, "approval": APPROVAL}
    kind: Kind = data.draw(st.sampled_from(["plan", "approval"]))
    changed = dumps(data.draw(mutated(json.loads(envelopes[kind]))))
    if run(
        **{"plan": PLAN, "approvals": [APPROVAL]}
        | {  # type: ignore[arg-type]  # one of two
            "plan" if kind == "plan" else "approvals": changed if kind == "plan" else [changed]
        }
    ):
        assert payload(kind, changed) == payload(kind, envelopes[kind])


@budget(1)
@given(mutated(APPROVED))
def test_signed_nonsense_as_an_approval(body: Any) -> None:
    """An approver who signs anything: it counts only if it says what an approval of this says."""
    approval = statement.sign("approval", dumps(body), BASE.approver)
    if run(PLAN, [approval]):
        found = msgspec.convert(json.loads(dumps(body)), Approval)
        assert (found.plan, found.scope) == (APPROVED["plan"], "rollout")
        assert msgspec.to_builtins(found.workspace) == APPROVED["workspace"]
