"""What an approved plan allows the director to sign, checked before anything is signed.

>>> check(authorisation, "gw-1", assignment, now)    # returns nothing, or raises Refusal
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from signing import strict
from signing.approval import Authorisation
from signing.assignment import Assignment
from signing.errors import Refusal
from signing.plan import DeviceRow, Plan
from signing.playbooks.run import Assigned, PlaybookRun
from signing.release import Release

_TAIL = re.compile(r"(?P<kind>[ur])(?P<attempt>[0-9]{1,6})-w(?P<wave>[0-9]{1,6})-b[0-9]{1,9}")
_KINDS = {"u": frozenset({"update", "playbook"}), "r": frozenset({"rollback"})}


def check(authorisation: Authorisation, device: str, assignment: Assigned, now: datetime) -> None:
    """Compare every word of an assignment with the plan, in this order (rule 15).

    1. The approval still holds.
    2. The device is in the plan, in this wave; the order id is of this rollout, wave and kind; it
       clears a denial only where the plan says so.
    3. Path, length, hashes, counter and component are the plan's: for an update what the device
       is to get, for a way back the frozen ``from`` (rule 7); the hardware id is the release's.
       For a run: path, length, hashes and every parameter.
    4. It ends, within the approval and the plan's order lifetime.

    Raises ``Refusal`` ``approval-expired`` or ``outside-plan``.
    """
    # (1)
    plan = authorisation.plan
    if now >= authorisation.expires:
        ended = strict.stamp(authorisation.expires)
        raise Refusal("approval-expired", f"the approval ended at {ended}", subject=plan.rollout)
    # (2)
    if device not in plan.rows:
        raise _outside(device, "the device is not in the plan")
    wave, row = plan.rows[device]
    if assignment.wave != wave:
        raise _outside(device, f"wave {assignment.wave}; the plan says {wave}")
    _check_order(device, plan, assignment)
    # (3)
    if isinstance(assignment, PlaybookRun):
        _check_run(device, plan, assignment)
    else:
        _check_assignment(device, plan, row, assignment)
    # (4)
    latest = min(authorisation.expires, now + timedelta(seconds=plan.limits.order_lifetime))
    if not now < assignment.ends <= latest:
        raise _outside(device, f"ends {assignment.not_after}; the latest is {strict.stamp(latest)}")


def _check_assignment(device: str, plan: Plan, row: DeviceRow, assignment: Assignment) -> None:
    if plan.playbook is not None:
        raise _outside(device, f"{assignment.path} is installed; the plan runs a playbook")
    if assignment.clear_denial and not (plan.clear_denials and assignment.kind == "update"):
        raise _outside(device, "it clears a denial; the plan does not")
    _check_release(device, assignment, _planned(device, plan, row, assignment))


def _check_run(device: str, plan: Plan, run: PlaybookRun) -> None:
    if plan.playbook is None:
        raise _outside(device, f"{run.path} is run; the plan installs")
    target = plan.playbook.target
    if (run.path, run.length, run.hashes) != (target.path, target.length, target.hashes):
        raise _outside(device, f"{run.path}: path, length or hash differ")
    if run.parameters != plan.playbook.parameters:
        raise _outside(device, f"{run.path}: parameters differ")


def _check_order(device: str, plan: Plan, assignment: Assigned) -> None:
    prefix = f"ota-{plan.rollout}-"
    if assignment.rollout != plan.rollout or not assignment.order.startswith(prefix):
        raise _outside(device, f"order {assignment.order} is not of rollout {plan.rollout}")
    found = _TAIL.fullmatch(assignment.order.removeprefix(prefix))
    if found is None or assignment.kind not in _KINDS[found["kind"]]:
        raise _outside(device, f"order {assignment.order} is not an order of a {assignment.kind}")
    if int(found["wave"]) != assignment.wave:
        raise _outside(device, f"order {assignment.order} is not of wave {assignment.wave}")


def _planned(device: str, plan: Plan, row: DeviceRow, assignment: Assignment) -> Release:
    release = plan.image(row) if assignment.kind == "update" else plan.origin(row)
    if release is None:
        raise _outside(device, "the plan knows no way back for it")
    if assignment.component != plan.component or release.component != plan.component:
        raise _outside(device, f"component {assignment.component}; the plan says {plan.component}")
    return release


def _check_release(device: str, assignment: Assignment, release: Release) -> None:
    said = (assignment.path, assignment.length, assignment.hashes, assignment.release_counter)
    planned = (release.path, release.length, release.hashes, release.release_counter)
    if said != planned:
        raise _outside(device, f"{assignment.path}: path, length, hash or counter differ")
    if assignment.hardware_id not in release.hardware_ids:
        raise _outside(device, f"{release.path} is not for {assignment.hardware_id}")


def _outside(device: str, what: str) -> Refusal:
    return Refusal("outside-plan", f"{device}: {what}", subject=device)
