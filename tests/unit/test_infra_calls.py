"""Every call of AWS that the code makes is allowed to whose call it is, and nothing else is allowed.

The list of calls is derived from the syntax tree: methods of boto3's clients by their names in
botocore's own models, in every module that knows AWS, and the tables of operations. So a call that
is added without its row in ``duties.toml`` fails here, and so does a row that nothing calls.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from botocore import xform_name
from botocore.session import Session

from ota import shipped
from ota.aws.api import Row
from ota.couriers import iot_calls, ssm_calls
from ota.fleet import aws_identities, aws_things
from ota.infra import calls, lint, promise, render, stacks, values
from ota.stores.s3_errors import ACTIONS

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = shipped.folder("playbooks") / "aws"
EXAMPLE = (SHIPPED / "infra.toml").read_text()
PACKED = EXAMPLE.replace("packages = []", 'packages = ["app", "mcu:left", "my_os"]')
TABLE = (SHIPPED / promise.FILE).read_text()
PROMISE = promise.read(TABLE.encode())
SERVICES = ("iot", "s3", "sqs", "ssm", "sts", "kms")
NEEDS_NONE = {"sts:GetCallerIdentity"}
"""AWS answers it to everybody."""
OVERRIDES = {"sqs:DeleteMessageBatch": "sqs:DeleteMessage"}
"""Operations whose permission has another name, besides those of S3 (SQS developer guide)."""
PACKAGES = {"iot:CreatePackage", "iot:CreatePackageVersion", "iot:UpdatePackageVersion"}


@cache
def methods() -> dict[str, list[str]]:
    """A client's method -> actions it may stand for, by botocore's models."""
    session, found = Session(), defaultdict(list)
    for service in SERVICES:
        for operation in session.get_service_model(service).operation_names:
            found[xform_name(operation)].append(f"{service}:{operation}")
    return dict(found)


@cache
def sources() -> tuple[tuple[str, ast.Module], ...]:
    paths = sorted([*(ROOT / "ota").rglob("*.py"), *(ROOT / "signing").rglob("*.py")])
    return tuple((str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in paths)


def knows_aws(tree: ast.Module) -> bool:
    """Whether a module imports boto3, botocore, or what this product makes of them."""
    for node in ast.walk(tree):
        names = (
            [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        )
        base = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        if any(f"{base}.{n}.".lstrip(".").startswith(("boto", "ota.aws.")) for n in names):
            return True
    return False


def called(tree: ast.Module) -> Iterator[str]:
    """Calls of AWS that a module names: by attribute, by text for ``getattr``, in a table's row."""
    rows = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Row":
            service, method = node.args[:2]
            rows.add(method)
            yield from operations(getattr(method, "value", ""), getattr(service, "value", ""))
    for node in ast.walk(tree):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "value", None)
        if isinstance(name, str) and node not in rows:
            yield from operations(name)


def operations(name: str, service: str = "") -> list[str]:
    """What a client's method calls; where two services have it, the code must say of which."""
    found = [o for o in methods().get(name, ()) if o.startswith(service)]
    assert len(found) <= 1, f"{name}: of which service?"
    return found


def actions(operations: Iterable[str]) -> set[str]:
    """The permissions of these operations."""
    s3 = {operation: ACTIONS[name] for name in ACTIONS for operation in methods()[name]}
    return {s3.get(o) or OVERRIDES.get(o) or o for o in operations} - NEEDS_NONE


def in_code() -> set[str]:
    return actions(name for _, tree in sources() if knows_aws(tree) for name in called(tree))


def test_the_promise_lists_exactly_what_the_code_calls() -> None:
    """No call without a row, no row without a call; nothing of AWS is called from a place unseen."""
    rows = {call.action for call in PROMISE.call if not call.through}
    assert rows == in_code()
    assert len(rows) > 50


def test_a_new_call_would_be_noticed() -> None:
    """The derivation finds methods, texts and paginators, and knows who speaks to AWS."""
    tree = ast.parse(
        "from ota.aws.client import client\n"
        "def f():\n    c = client('iot')\n    c.delete_thing(thingName='x')\n"
        "    c.get_paginator('list_jobs')\n    getattr(c, 'list_policies')()\n"
    )
    assert knows_aws(tree)
    assert actions(called(tree)) == {"iot:DeleteThing", "iot:ListJobs", "iot:ListPolicies"}
    for line in ("import boto3", "from botocore.config import Config", "from ota.aws import api"):
        assert knows_aws(ast.parse(line)), line
    assert not knows_aws(ast.parse("from ota.infra import stacks"))


def test_clients_are_made_in_few_places() -> None:
    """Whoever holds a client is a module that the derivation looks at, or gets it from one."""
    makers = {
        name
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute | ast.Name)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id) == "client"
    }
    assert makers - {name for name, tree in sources() if knows_aws(tree)} == set()
    assert {"ota/wiring/aws.py", "ota/aws/api.py", "signing/keys/kms.py"} <= makers


TABLES: list[tuple[str, str, dict[str, Row]]] = [
    ("iot_calls", iot_calls.ROLE, iot_calls.CALLS),
    ("ssm_calls", ssm_calls.ROLE, ssm_calls.CALLS),
    ("ssm_calls, activation", "enrol", ssm_calls.ACTIVATION),
]


@pytest.mark.parametrize(("where", "role", "table"), TABLES, ids=[t[0] for t in TABLES])
def test_the_tables_of_operations_say_the_same(
    where: str, role: str, table: dict[str, Row]
) -> None:
    """Each row's permission belongs to the table's role alone, and each row is called by its name."""
    texts = {
        node.value
        for name, tree in sources()
        if name.startswith("ota/couriers/") and not name.endswith("_calls.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for operation, row in table.items():
        action = row.action or f"{row.service}:{operation}"
        assert operation in texts, f"{where}: nothing calls {operation}"
        if action not in NEEDS_NONE:
            assert owners(action) == {role}, action


@pytest.mark.parametrize("module", [aws_identities, aws_things], ids=lambda m: m.__name__)
def test_a_module_with_a_role_calls_with_that_role(module: object) -> None:
    """Errors of it name the role whose policy allows the call."""
    path = Path(str(getattr(module, "__file__", "")))
    for action in actions(called(ast.parse(path.read_text()))):
        assert owners(action) == {getattr(module, "ROLE", "")}, action


def owners(action: str) -> set[str]:
    return {who for call in PROMISE.call if call.action == action for who in call.who}


def test_what_is_no_call_of_ours_says_whose_it_is() -> None:
    """A permission that comes with another one names it; one for people stands in some advice."""
    made = {call.action for call in PROMISE.call}
    advice = "".join(p.read_text() for p in (ROOT / "ota").rglob("*.py"))
    advice += "".join(p.read_text() for p in (ROOT / "signing").rglob("*.py"))
    for call in PROMISE.call:
        if call.through:
            assert call.through in (advice if call.through.startswith("aws ") else made), call
            who = {w for c in PROMISE.call if c.action == call.through for w in c.who}
            assert call.through.startswith("aws ") or set(call.who) <= who, call


# -- the policies ----------------------------------------------------------------------------------
def judged(
    text: str, table: str = TABLE, folder: Path = SHIPPED
) -> tuple[list[stacks.Policy], list[str]]:
    found = values.read(text.encode(), "infra.toml")
    policies = stacks.policies(stacks.parse(render.render(folder, found)), found)
    said = lint.judged(promise.read(table.encode()), policies, found)
    return policies, [f"{f.where}: {f.what}" for f in said]


PLAIN = EXAMPLE[: EXAMPLE.index("[network]")]
LAMBDA = EXAMPLE.replace("arn:aws:iam::111122223333:role/ota-timer", values.LAMBDA)
VARIANTS = {
    "by lambda": LAMBDA,
    "example": EXAMPLE,
    "packages": PACKED,
    "nobody removes": EXAMPLE.replace("\ngc = ", "\n# gc = "),
    "over the internet": PLAIN,
    "both": PLAIN.replace("\ngc = ", "\n# gc = ").replace("[]", '["app"]'),
}


@pytest.mark.parametrize("text", VARIANTS.values(), ids=list(VARIANTS))
def test_every_variant_keeps_the_promise(text: str) -> None:
    """Whatever the values ask for: all that is called is allowed, through endpoints too, no more."""
    assert judged(text)[1] == []


def allowed(policies: list[stacks.Policy], action: str, kind: str) -> set[str]:
    return {
        resource
        for p in policies
        if p.kind == kind
        for s in p.statements
        if s.allows and action in s.actions
        for resource in s.resources
    }


def test_the_catalogue_is_rendered_where_it_is_used_and_for_these_packages_only() -> None:
    """Names as the courier makes them; the role's and the endpoint's rights are the same."""
    without = judged(EXAMPLE)[0]
    packed = judged(PACKED)[0]
    iot = "arn:aws:iot:eu-central-1:111122223333:package"
    names = [f"{iot}/{name}" for name in ("app", "mcu_cleft", "my__os")]
    versions = [f"{name}/version/*" for name in names]
    for kind in ("identity", "endpoint"):
        for action in (*PACKAGES, "iot:GetIndexingConfiguration"):
            assert allowed(without, action, kind) == set()
        for action in PACKAGES:
            assert allowed(packed, action, kind) == {*names, *versions}
        assert {r for r in allowed(packed, "iot:CreateJob", kind) if ":package" in r} == {*versions}


def test_a_timer_may_be_a_function() -> None:
    """Only the role that says so may be taken by AWS Lambda, and no person's can."""
    found = values.read(LAMBDA.encode(), "infra.toml")
    roles = stacks.parse(render.render(SHIPPED, found))["roles"]["Resources"]
    taken = {
        name: role["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]
        for name, role in roles.items()
    }
    assert taken["Refresh"] == {"Service": values.LAMBDA}
    assert [n for n, p in taken.items() if p == {"Service": values.LAMBDA}] == ["Refresh"]
    assert "ManagedPolicyArns" in roles["Refresh"]["Properties"]
    assert "ManagedPolicyArns" not in roles["Publisher"]["Properties"]
    for role, key in (("operators", "rollout"), ("ota-gc-timer", "gc"), ("security", "admin")):
        wrong = EXAMPLE.replace(f"arn:aws:iam::111122223333:role/{role}", values.LAMBDA)
        with pytest.raises(promise.Malformed, match=rf"trusted\.{key}"):
            values.read(wrong.encode(), "infra.toml")


REMOVALS = [
    ("image/targets/app/0.app.bin", True),
    ("image/metadata/7.targets.json", True),
    ("image/metadata/12.app-1f.json", True),
    ("director/devices/press-A/3.snapshot.json", True),
    ("image/metadata/timestamp.json", False),
    ("image/metadata/3.root.json", False),
    ("director/root/3.root.json", False),
    ("director/devices/press-A/timestamp.json", False),
    ("director/devices/root/timestamp.json", False),
]


@pytest.mark.parametrize(("name", "may"), REMOVALS)
def test_what_may_be_removed(name: str, may: bool) -> None:
    """By ``gc`` alone, never a root or a timestamp; by nobody where the values name nobody."""
    found = values.read(EXAMPLE.encode(), "infra.toml")
    none = values.read(VARIANTS["nobody removes"].encode(), "infra.toml")
    for shape, expected in ((found, {"gc"} if may else set()), (none, set())):
        policies = stacks.policies(stacks.parse(render.render(SHIPPED, shape)), shape)
        arn = promise.full_arn(shape, "s3:DeleteObject", name)
        request = lint.duties.Request("s3:DeleteObject", arn)
        who = {w for w in promise.PEOPLE if lint.duties.ask(policies, shape, w, request).allowed}
        assert who == expected


def test_the_bucket_stops_a_role_that_was_given_too_much(tmp_path: Path) -> None:
    """Somebody widens the publisher's policy: the bucket's own still refuses to remove."""
    folder = copied(
        tmp_path, "duties", "Action: s3:PutObject", "Action: [s3:PutObject, s3:DeleteObject]"
    )
    found = values.read(EXAMPLE.encode(), "infra.toml")
    policies = stacks.policies(stacks.parse(render.render(folder, found)), found)
    for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
        arn = promise.full_arn(found, action, "image/targets/app/0.app.bin")
        request = lint.duties.Request(action, arn)
        decision = lint.duties.ask(policies, found, "publisher", request)
        assert not decision.allowed
        assert decision.by is not None
        assert not decision.by.allows


def test_what_was_removed_goes_for_good_in_the_end() -> None:
    """No rule keeps the last past versions for ever: what cleaning up removes stops costing."""
    found = values.read(EXAMPLE.encode(), "infra.toml")
    store = stacks.parse(render.render(SHIPPED, found))["store"]["Resources"]["Store"]
    rules = store["Properties"]["LifecycleConfiguration"]["Rules"]
    past = [r["NoncurrentVersionExpiration"] for r in rules if "NoncurrentVersionExpiration" in r]
    assert past == [{"NoncurrentDays": 90}]
    assert any(rule.get("ExpiredObjectDeleteMarker") for rule in rules)


def copied(tmp_path: Path, stack: str, old: str, new: str) -> Path:
    folder = tmp_path / "aws"
    folder.mkdir()
    for file in SHIPPED.iterdir():
        text = file.read_text()
        if file.name == f"{stack}.yaml.j2":
            assert old in text
            text = text.replace(old, new)
        (folder / file.name).write_text(text)
    return folder


EDITS = [
    ("duties", "- iot:DescribeJob\n", "- iot:DescribeJob\n              - iot:ListJobs\n", "rollout never calls it"),
    ("duties", "- iot:GetJobDocument\n", "- iot:DescribeJob\n", "rollout: can not iot:GetJobDocument"),
    ("duties", "Action: iot:ListThings\n", "Action: [iot:ListThings, iot:ListCertificates]\n", "of rollout: can iot:ListCertificates"),
    ("network", '"iot:GetJobDocument", ', "", "iot:GetJobDocument on"),
    ("network", '"iot:ListThings"]', '"iot:ListThings", "iot:ListPolicies"]', "iot:ListPolicies: nobody is allowed it"),
    ("network", "- s3:DeleteObject\n", "- s3:GetObject\n", "s3:DeleteObject on"),
    ("store", "role/{{ name }}-gc\n", "role/{{ name }}-gc2\n", "gc: can not s3:DeleteObject"),
    ("duties", "{{ iot }}:package/{{ package }}/version/*", "{{ iot }}:package/*", "package/my__os/version/*"),
]  # fmt: skip


@pytest.mark.parametrize(("stack", "old", "new", "named"), EDITS, ids=range(len(EDITS)))
def test_an_edit_is_named(tmp_path: Path, stack: str, old: str, new: str, named: str) -> None:
    """More than is called, less than is called, or what does not get through an endpoint."""
    folder = copied(tmp_path, stack, old, new)
    if "package" in old:
        found = values.read(PACKED.encode(), "infra.toml")
        policies = stacks.policies(stacks.parse(render.render(folder, found)), found)
        assert f"arn:aws:iot:eu-central-1:111122223333:{named}" not in allowed(
            policies, "iot:CreateJob", "identity"
        )
        return
    said = judged(EXAMPLE, folder=folder)[1]
    assert any(named in line for line in said), said


def test_a_row_that_nobody_keeps_is_named() -> None:
    """A call that was given to another role in the table is not what the policies say."""
    moved = TABLE.replace(
        'action = "iot:CreateJob"\nwho = ["rollout"]',
        'action = "iot:CreateJob"\nwho = ["publisher"]',
        1,
    )
    assert moved != TABLE
    said = judged(EXAMPLE, table=moved)[1]
    assert any("duty of publisher: can not iot:CreateJob" in line for line in said)
    assert any("duty of rollout: can iot:CreateJob" in line for line in said)


def test_packages_that_are_none() -> None:
    """A wildcard among them, or too many of them, is refused with file and key."""
    for wrong in ('["*"]', '["app/x"]', '[""]', str([f"c{n}" for n in range(33)])):
        with pytest.raises(promise.Malformed, match=r"infra\.toml: packages"):
            values.read(
                EXAMPLE.replace("packages = []", f"packages = {wrong}").encode(), "infra.toml"
            )


def test_nothing_wrong_has_no_findings() -> None:
    """The two checks of calls say nothing about what is shipped."""
    found = values.read(PACKED.encode(), "infra.toml")
    policies = stacks.policies(stacks.parse(render.render(SHIPPED, found)), found)
    assert calls.findings(PROMISE, policies, found) == []
