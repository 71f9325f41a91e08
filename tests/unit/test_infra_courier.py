"""The stacks as shipped are enough for the courier ``iot-jobs``, and its table knows no more."""

from __future__ import annotations

import pytest
from simulators.ministack import REPORT_SQL

from ota import shipped
from ota.couriers.iot_calls import CALLS, ROLE
from ota.infra import duties, render, stacks, values
from ota.infra.evaluate import Request

SHIPPED = shipped.folder("playbooks") / "aws"
FULL = values.read((SHIPPED / "infra.toml").read_bytes(), "infra.toml")
TEXTS = render.render(SHIPPED, FULL)
POLICIES = stacks.policies(stacks.parse(TEXTS), FULL)
NEEDED = {
    "job/ota-*": "job/ota-app-2-x7k2m9-u1-w0-b0",
    "thing/*": "thing/press-07",
    "thinggroup/GROUP*": "thinggroup/ota-ota-app-2-x7k2m9-u1-w0-b0",
    "the report queue": "ota-reports",
    "the queue of what was refused": "ota-refused",
}
OURS = [o for o, row in CALLS.items() if row.resource and not row.resource.startswith("package")]


@pytest.mark.parametrize("operation", OURS)
def test_the_rollout_role_may_do_all_that_the_courier_does(operation: str) -> None:
    """Each operation of its table, on each resource that the operation touches."""
    row = CALLS[operation]
    action = row.action or f"{row.service}:{operation}"
    for part in row.resource.split(", "):
        arn = duties.full_arn(FULL, action, NEEDED[part])
        assert duties.ask(POLICIES, FULL, ROLE, Request(action, arn)).allowed, f"{action} {arn}"


def test_nobody_else_may() -> None:
    """The table's role alone makes jobs."""
    operation = "iot:CreateJob"
    arn = duties.full_arn(FULL, operation, NEEDED["job/ota-*"])
    allowed = {
        who
        for who in duties.PEOPLE
        if duties.ask(POLICIES, FULL, who, Request(operation, arn)).allowed
    }
    assert allowed == {ROLE}


def test_the_rule_of_the_stack_is_the_one_that_is_tested() -> None:
    """The emulator's rule, which the courier's tests run on, says the same."""
    assert f"Sql: {REPORT_SQL}\n" in TEXTS["reports"]
