"""Plans and approvals: what is approved is exactly these bytes, here, until then (rule 15)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from simulators.images import release
from simulators.signed import NOW, Signed
from tuf.api.metadata import TargetFile

from signing import statement, strict
from signing.approval import Approvers, Authorisation, approve, authorise
from signing.assignment import Assignment
from signing.enrolment import key_to_dict
from signing.errors import Malformed, NeedsHuman, NotPermitted, OtaError, Refusal
from signing.plan import DeviceRow, Gate, Plan, Wave, Workspace, read_plan, sign_plan

AUTHOR, FIRST, SECOND, STRANGER = (CryptoSigner.generate_ed25519() for _ in range(4))
HERE = Workspace(image_root="1" * 64, director_root="2" * 64)
THERE = Workspace(image_root="1" * 64, director_root="3" * 64)
END = NOW + timedelta(days=30)
RELEASE = release("app/x.bin", b"x", hardware_ids=("hw",))


def who(threshold: int = 1, authors: tuple[Any, ...] = (AUTHOR,), **more: Any) -> Approvers:
    approvers = more.get("approvers", (FIRST, SECOND))
    return Approvers(
        schema=1,
        threshold=threshold,
        authors=tuple(key_to_dict(s.public_key) for s in authors),
        approvers=tuple(key_to_dict(s.public_key) for s in approvers),
    )


def plan(**changes: Any) -> Plan:
    rows = (DeviceRow("a", 0, -1), DeviceRow("b", 0, 0))
    body: dict[str, Any] = {
        "schema": 1,
        "rollout": "app-1-abc123",
        "workspace": HERE,
        "created": strict.stamp(NOW),
        "expires": strict.stamp(END),
        "component": "app",
        "images": (RELEASE,),
        "origins": (RELEASE,),
        "couriers": ("spool",),
        "waves": (Wave(name="w", devices=rows, soak=0, deadline=1, gate=Gate()),),
        "excluded": (),
        "limits": {},
        "tail_until": strict.stamp(END),
    }
    body |= changes
    return msgspec.convert(msgspec.to_builtins(body), Plan)


PLAN = sign_plan(plan(), AUTHOR)
APPROVAL = approve(PLAN, HERE, END, FIRST)


def check(
    approvals: list[bytes],
    *,
    data: bytes = PLAN,
    approvers: Approvers | None = None,
    now: datetime = NOW,
    here: Workspace = HERE,
) -> Authorisation:
    return authorise(data, approvals, approvers or who(), here, now)


def test_an_approved_plan_is_authorised() -> None:
    """Plan, digest, author, approvers and the earliest end."""
    soon = NOW + timedelta(days=1)
    found = check([APPROVAL, approve(PLAN, HERE, soon, SECOND)], approvers=who(2))
    assert found.plan == plan()
    assert found.digest == statement.peek("plan", PLAN).digest
    assert found.author == AUTHOR.public_key.keyid
    assert set(found.approvers) == {s.public_key.keyid for s in (FIRST, SECOND)}
    assert found.expires == soon


def test_rows_find_devices_and_their_ways_back() -> None:
    """Row tables: wave index, image, origin or None."""
    wave, row = plan().rows["b"]
    assert (wave, plan().image(row), plan().origin(row)) == (0, RELEASE, RELEASE)
    assert plan().origin(plan().rows["a"][1]) is None


SHORT: dict[str, tuple[list[bytes], int]] = {
    "none": ([], 1),
    "one of two": ([APPROVAL], 2),
    "one approver twice": ([APPROVAL, approve(PLAN, HERE, END, FIRST)], 2),
    "the author's own": ([approve(PLAN, HERE, END, AUTHOR)], 1),
    "the author's own beside": ([APPROVAL, approve(PLAN, HERE, END, AUTHOR)], 2),
}


@pytest.mark.parametrize("name", SHORT)
def test_too_few_approvals_wait_for_a_human(name: str) -> None:
    """Distinct approvers count, each once; the author never does. Exit 6."""
    approvals, threshold = SHORT[name]
    for approvers in (who(threshold), who(threshold, approvers=(FIRST, SECOND, AUTHOR))):
        with pytest.raises(NeedsHuman) as caught:
            check(approvals, approvers=approvers)
        assert caught.value.exit_code == 6


def test_a_threshold_of_zero_still_needs_one() -> None:
    """A signed file that says 0 does not open the door."""
    with pytest.raises(NeedsHuman):
        check([], approvers=who(0))


OTHER = sign_plan(plan(tail_until=strict.stamp(NOW)), AUTHOR)
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "for another plan": (lambda: check([approve(OTHER, HERE, END, FIRST)]), "approval-mismatch"),
    "for another workspace": (
        lambda: check([approve(PLAN, THERE, END, FIRST)]),
        "workspace-mismatch",
    ),
    "by a stranger": (lambda: check([approve(PLAN, HERE, END, STRANGER)]), "statement-signature"),
    "ended": (lambda: check([approve(PLAN, HERE, NOW, FIRST)]), "approval-expired"),
    "plan ended": (lambda: check([APPROVAL], now=END), "approval-expired"),
    "plan of another workspace": (lambda: check([APPROVAL], here=THERE), "workspace-mismatch"),
    "a plan as approval": (lambda: check([sign_plan(plan(), FIRST)]), "statement-malformed"),
    "an approval as plan": (lambda: check([APPROVAL], data=APPROVAL), "statement-malformed"),
    "a scope that is none": (
        lambda: check([statement.sign("approval", body(scope="all"), FIRST)]),
        "statement-malformed",
    ),
    "a field more": (
        lambda: check([statement.sign("approval", body(x=1), FIRST)]),
        "statement-malformed",
    ),
    "an end that is none": (
        lambda: check([statement.sign("approval", body(expires="never"), FIRST)]),
        "statement-malformed",
    ),
}


def body(**changes: Any) -> dict[str, Any]:
    digest = statement.peek("plan", PLAN).digest
    base = {"schema": 1, "plan": digest, "workspace": msgspec.to_builtins(HERE)}
    return base | {"scope": "rollout", "expires": strict.stamp(END)} | changes


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_bind_this_plan_here_and_now_is_refused(name: str) -> None:
    """Each thing that an approval binds is compared."""
    call, code = WRONG[name]
    with pytest.raises(Refusal) as caught:
        call()
    assert caught.value.code == code


def test_a_plan_of_an_unlisted_author_is_not_permitted() -> None:
    """Exit 4; an approver is no author."""
    for signer in (STRANGER, FIRST):
        data = sign_plan(plan(), signer)
        with pytest.raises(NotPermitted) as caught:
            check([approve(data, HERE, END, SECOND)], data=data)
        assert caught.value.exit_code == 4


def test_every_flipped_byte_of_a_plan_is_refused() -> None:
    """A plan is its exact bytes."""
    for position in range(0, len(PLAN), 37):
        data = bytearray(PLAN)
        data[position] ^= 1
        with pytest.raises(OtaError) as caught:
            check([APPROVAL], data=bytes(data))
        assert caught.value.exit_code in {3, 4}


ROWS: dict[str, list[list[Any]]] = {
    "image out of range": [["a", 1, -1, 0]],
    "image negative": [["a", -1, -1, 0]],
    "origin out of range": [["a", 0, 1, 0]],
    "origin below -1": [["a", 0, -2, 0]],
    "courier out of range": [["a", 0, 0, 1]],
    "courier negative": [["a", 0, 0, -1]],
    "device twice": [["a", 0, 0, 0], ["a", 0, 0, 0]],
    "no identifier": [["../a", 0, 0, 0]],
    "too short": [["a"]],
    "a float": [["a", 0.0, 0, 0]],
}


def document(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(plan())
    return found | changes


@pytest.mark.parametrize("budget", [-1, "5", "101%", "5 %", "%", "-1%", "5%\n", 10**10])
def test_a_gate_of_another_form_is_malformed(budget: int | str) -> None:
    """A plan that the gate could not judge is refused before it begins, not in the middle."""
    refused(document(waves=[wave([["a", 0, -1, 0]]) | {"gate": {"failed": budget}}]))


def test_a_plan_of_something_else_than_releases_is_malformed() -> None:
    """A playbook is not installed (``custom.kind`` must fit the use)."""
    (image,) = document()["images"]
    refused(document(images=[image | {"kind": "playbook"}]))


def wave(rows: list[list[Any]]) -> dict[str, Any]:
    return {"name": "w", "devices": rows, "soak": 0, "deadline": 1, "gate": {}}


def refused(value: dict[str, Any]) -> None:
    data = statement.sign("plan", msgspec.json.encode(value), AUTHOR)
    with pytest.raises(Refusal) as caught:
        read_plan(statement.verify("plan", data, [AUTHOR.public_key]))
    assert caught.value.code == "statement-malformed"


@pytest.mark.parametrize("name", ROWS)
def test_a_plan_with_a_bad_row_is_malformed(name: str) -> None:
    """A signed plan is not a sound one: rows must lie in their tables, devices stand once."""
    refused(document(waves=[wave(ROWS[name])]))


def test_a_device_in_two_waves_is_malformed() -> None:
    """Each device is in exactly one wave."""
    rows = [["a", 0, -1, 0]]
    refused(document(waves=[wave(rows), wave(rows)]))


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"rollout": "a/b"},
        {"expires": "tomorrow"},
        {"tail_until": ""},
        {"on_failure": "shrug"},
        {"unknown": 1},
        {"images": [{}]},
        {"waves": [{}]},
        {"rollout": "x" * 28},
        {"rollout": "a:b"},
        {"rollout": "a\n"},
        {"component": "a/b"},
        {"component": "os"},
        {"couriers": [""]},
        {"supersedes": ["../x"]},
        {"excluded": [["a", "x" * 2000]]},
        {"groups": {"a b": "cell"}},
        {"limits": {"batch": 0}},
        {"limits": {"in_flight": -1}},
        {"limits": {"order_lifetime": 10**18}},
        {"waves": [{"name": "w", "devices": [], "soak": -1, "deadline": 1, "gate": {}}]},
        {"waves": [{"name": "w", "devices": [], "soak": 0, "deadline": 2**62, "gate": {}}]},
        {"waves": [{"name": "w w", "devices": [], "soak": 0, "deadline": 1, "gate": {}}]},
    ],
)
def test_a_plan_of_another_form_is_malformed(changes: dict[str, Any]) -> None:
    """Wrong schema, times, choices, unknown fields, broken releases."""
    refused(document(**changes))


def test_a_plan_and_its_approval_from_a_real_workspace(tmp_path: Path) -> None:
    """The same procedure with the shipped policy's author and approver."""
    place = Signed(tmp_path).created()
    release = place.released("1.0.0")
    found = place.authorised(place.plan(release, None, "gw-1"))
    assert found.author == place.keys["author"].public_key.keyid
    assert found.plan.images == (release,)


# -- assignments, which plans allow --------------------------------------------------------------
ASSIGNED: dict[str, Any] = {
    "path": "app/x.bin",
    "length": 1,
    "hashes": {"sha256": "0" * 64},
    "component": "app",
    "hardware_id": "hw",
    "release_counter": 1,
    "rollout": "r",
    "wave": 0,
    "order": "ota-r-u1-w0-b0",
    "kind": "update",
    "least_image_snapshot": 1,
    "not_after": "2026-12-01T00:00:00Z",
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", "x.bin"),
        ("path", "os/x.bin"),
        ("path", "app/../x"),
        ("hardware_id", ""),
        ("rollout", "a b"),
        ("order", "a/b"),
        ("order", "x" * 65),
        ("order", ""),
        ("wave", -1),
        ("least_image_snapshot", 0),
        ("release_counter", -1),
        ("not_after", "later"),
        ("hashes", {"sha256": ""}),
    ],
)
def test_a_malformed_assignment_can_not_be_made(field: str, value: object) -> None:
    """Neither made, nor read from a signed target."""
    with pytest.raises(Malformed):
        Assignment(**(ASSIGNED | {field: value}))


@pytest.mark.parametrize("change", [{"order": None}, {"wave": "0"}, {"extra": 1}, {"kind": "x"}])
def test_an_assignment_is_read_strictly(change: dict[str, Any]) -> None:
    """Missing, unknown and mistyped fields are malformed."""
    target = Assignment(**ASSIGNED).to_target().to_dict()
    for name, value in change.items():
        if value is None:
            del target["custom"][name]
        else:
            target["custom"][name] = value
    with pytest.raises(Malformed):
        Assignment.from_target(TargetFile.from_dict(target, "app/x.bin"))
