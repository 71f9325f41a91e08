"""The stacks as shipped are enough for the couriers at AWS, and their tables know no more."""

from __future__ import annotations

import pytest
from simulators.ministack import REPORT_SQL

from ota import shipped
from ota.couriers import ssm_calls
from ota.couriers.iot_calls import CALLS, ROLE
from ota.infra import duties, render, stacks, values
from ota.infra.evaluate import Request
from ota.infra.promise import PEOPLE, full_arn

SHIPPED = shipped.folder("playbooks") / "aws"
EXAMPLE = (SHIPPED / "infra.toml").read_text()
FULL = values.read(EXAMPLE.replace("packages = []", 'packages = ["app"]').encode(), "infra.toml")
TEXTS = render.render(SHIPPED, FULL)
POLICIES = stacks.policies(stacks.parse(TEXTS), FULL)
NEEDED = {
    "job/ota-*": "job/ota-app-2-x7k2m9-u1-w0-b0",
    "thing/*": "thing/press-07",
    "thinggroup/GROUP*": "thinggroup/ota-ota-app-2-x7k2m9-u1-w0-b0",
    "package/COMPONENT": "package/app",
    "package/COMPONENT/version/*": "package/app/version/2.0.0",
    "the report queue": "ota-reports",
    "the queue of what was refused": "ota-refused",
}
OURS = [o for o, row in CALLS.items() if row.resource]


@pytest.mark.parametrize("operation", OURS)
def test_the_rollout_role_may_do_all_that_the_courier_does(operation: str) -> None:
    """Each operation of its table, on each resource that the operation touches."""
    row = CALLS[operation]
    action = row.action or f"{row.service}:{operation}"
    for part in row.resource.split(", "):
        arn = full_arn(FULL, action, NEEDED[part])
        assert duties.ask(POLICIES, FULL, ROLE, Request(action, arn)).allowed, f"{action} {arn}"


EC2 = "arn:aws:ec2:eu-central-1:111122223333:instance/i-0123456789abcdef0"
MANAGED = {
    "document/PREFIX-*": "document/ota-relay-0123456789ab",
    "document/CALENDAR": "document/plant-calendar",
    "managed-instance/*": "managed-instance/mi-0123456789abcdef0",
    "instance/*": EC2,
    "*": "*",
}


@pytest.mark.parametrize("operation", ssm_calls.CALLS)
def test_the_rollout_role_may_do_all_that_systems_manager_needs(operation: str) -> None:
    """Each operation of the table of ``ssm``, and what enrolment does there."""
    for part in ssm_calls.CALLS[operation].resource.split(", "):
        arn = full_arn(FULL, f"ssm:{operation}", MANAGED[part])
        request = Request(f"ssm:{operation}", arn)
        assert duties.ask(POLICIES, FULL, ssm_calls.ROLE, request).allowed, arn
    (activation,) = ssm_calls.ACTIVATION
    assert duties.ask(POLICIES, FULL, "enrol", Request(f"ssm:{activation}", "*")).allowed
    assert not duties.ask(POLICIES, FULL, ROLE, Request(f"ssm:{activation}", "*")).allowed


def test_nobody_else_may() -> None:
    """The table's role alone makes jobs."""
    operation = "iot:CreateJob"
    arn = full_arn(FULL, operation, NEEDED["job/ota-*"])
    allowed = {
        who for who in PEOPLE if duties.ask(POLICIES, FULL, who, Request(operation, arn)).allowed
    }
    assert allowed == {ROLE}


def test_the_rule_of_the_stack_is_the_one_that_is_tested() -> None:
    """The emulator's rule, which the courier's tests run on, says the same."""
    assert f"Sql: {REPORT_SQL}\n" in TEXTS["reports"]
