"""The account's stacks as shipped: they hold, and a template that was widened is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ota import shipped
from ota.errors import Malformed
from ota.infra import duties, lint, promise, render, stacks, values
from ota.infra.evaluate import Request
from ota.infra.promise import full_arn
from ota.infra.values import Values

SHIPPED = shipped.folder("playbooks") / "aws"
EXAMPLE = (SHIPPED / "infra.toml").read_bytes()
TABLE = (SHIPPED / promise.FILE).read_bytes()
PROMISE = promise.read(TABLE)


@pytest.fixture(scope="module", name="full")
def _full() -> Values:
    return values.read(EXAMPLE, "infra.toml")


@pytest.fixture(scope="module", name="plain")
def _plain() -> Values:
    """Devices reach AWS over the internet: no network of one's own."""
    return values.read(EXAMPLE[: EXAMPLE.index(b"[network]")], "infra.toml")


def judged(folder: Path, found: Values) -> list[str]:
    """Everything but cfn-lint, which is slow, about the templates in a folder."""
    policies = stacks.policies(stacks.parse(render.render(folder, found)), found)
    return [f"{f.where}: {f.what}" for f in lint.judged(PROMISE, policies, found)]


def test_the_shipped_stacks_pass_every_check(full: Values, plain: Values) -> None:
    """cfn-lint, AWS's own reference and the table of duties have nothing to object to."""
    texts = render.render(SHIPPED, full)
    assert set(texts) == set(render.ORDER)
    assert lint.lint(texts, full, TABLE) == []
    assert judged(SHIPPED, plain) == []
    assert "network" not in render.render(SHIPPED, plain)


def test_the_table_asks_both_ways(full: Values) -> None:
    """The table holds what must be possible as well as what must not, of every identity."""
    rows = list(promise.claims(PROMISE, full))
    for who in (*promise.PEOPLE, "device:press-A", "device:press-A/https", "device:press-A/s3"):
        assert {r.may for r in rows if r.who == who} == {True, False}, who
    assert len(rows) > 150


WRITES = [
    ("publisher", "image/targets/app/0.app.bin", {"s3:if-none-match": "*"}, True),
    ("publisher", "image/targets/app/0.app.bin", {"s3:if-match": "x"}, False),
    ("publisher", "image/targets/app/0.app.bin", {}, False),
    ("publisher", "image/metadata/7.app.json", {"s3:if-none-match": "*"}, True),
    ("publisher", "image/metadata/7.app.json", {"s3:if-match": "x"}, False),
    ("publisher", "image/metadata/timestamp.json", {"s3:if-match": "x"}, True),
    ("publisher", "image/metadata/timestamp.json", {"s3:if-none-match": "*"}, True),
    ("publisher", "image/metadata/timestamp.json", {}, False),
    ("rollout", "director/devices/press-A/2.targets.json", {"s3:if-match": "x"}, False),
    ("rollout", "director/devices/press-A/timestamp.json", {"s3:if-match": "x"}, True),
    ("rollout", "director/devices/press-A/timestamp.json", {}, False),
    ("refresh", "image/metadata/7.snapshot.json", {"s3:if-match": "x"}, False),
]


@pytest.mark.parametrize(("who", "name", "condition", "may"), WRITES)
def test_the_bucket_itself_lets_nobody_replace_an_object(
    full: Values, who: str, name: str, condition: dict[str, str], may: bool
) -> None:
    """Created once, the timestamp swapped under its entity tag; parts of an upload are no objects."""
    policies = stacks.policies(stacks.parse(render.render(SHIPPED, full)), full)
    arn = full_arn(full, "s3:PutObject", name)
    made = Request("s3:PutObject", arn, {"s3:ObjectCreationOperation": "true", **condition})
    assert duties.ask(policies, full, who, made).allowed is may
    part = Request("s3:PutObject", arn, {"s3:ObjectCreationOperation": "false"})
    assert duties.ask(policies, full, who, part).allowed


WIDER = [
    ("devices", "topic/ota/{{ thing }}/report", "topic/ota/*/report", "topic/ota/press-B/report"),
    ("devices", "client/{{ thing }}-ota", "client/*", "iot:Connect"),
    ("devices", "jobs/notify-next", "jobs/#", "iot:Subscribe"),
    (
        "devices",
        "topicfilter/$aws/things/{{ thing }}/jobs/start-next/*",
        "topicfilter/*",
        "topicfilter/$aws/#",
    ),
    (
        "devices",
        "director/devices/${credentials-iot:ThingName}/*",
        "director/devices/*",
        "director/devices/press-B/timestamp.json",
    ),
    (
        "devices",
        "topic/ota/{{ subject }}/report",
        "topic/ota/{{ thing }}/report",
        "device:press-A/https",
    ),
    ("duties", "Resource: {{ objects }}image/targets/*", "Resource: '*'", "a narrower resource"),
    ("duties", "Action: [iot:CreateJob]", "Action: ['iot:*']", "a wildcard in an action"),
    ("duties", "iot:DescribeEndpoint", "iot:DescribeEndpiont", "AWS has no such action"),
    ("duties", "{{ iot }}:thing/{{ things }}*", "{{ iot }}:thing/*", "rollout: can iot:CreateJob"),
    (
        "duties",
        "Resource: {{ objects }}director/*",
        "Resource: {{ objects }}*",
        "rollout: can s3:PutObject",
    ),
    ("duties", "role/{{ name }}-node", "role/*", "enrol: can iam:PassRole"),
    ("duties", "document/{{ name }}-*", "document/*", "rollout: can ssm:SendCommand"),
    ("duties", "- sqs:ReceiveMessage", "- sqs:SendMessage", "rollout: can not sqs:ReceiveMessage"),
    ("keys", '["publisher", "refresh"]', '["publisher", "refresh", "rollout"]', ""),
    ("store", "kms:ViaService: s3", "kms:ViaService: ec2", "s3: can not kms:Decrypt"),
    ("network", '["ssmmessages:CreateControlChannel",', '["ssmmessages:*",', "wildcard"),
]


@pytest.mark.parametrize(
    ("stack", "old", "new", "named"), WIDER, ids=[f"{w[0]}-{w[2]}" for w in WIDER]
)
def test_a_template_that_was_edited_is_named(
    tmp_path: Path, full: Values, stack: str, old: str, new: str, named: str
) -> None:
    """Each edit gives somebody more, or takes from somebody what they need: a check says so.

    The key policies hold twice: a role added to one still lacks the right in its own policy.
    """
    folder = shutil.copytree(SHIPPED, tmp_path / "aws")
    file = folder / f"{stack}.yaml.j2"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    found = judged(folder, full)
    if named:
        assert any(named in line for line in found), found
    else:
        assert found == []


@pytest.mark.parametrize(
    ("who", "action", "resource", "may"),
    [
        ("device:press-07", "iot:Publish", "topic/ota/press-07/report", True),
        ("device:press-07", "iot:Publish", "topic/ota/press-070/report", False),
        ("device:*", "iot:Publish", "topic/ota/press-07/report", False),
        ("device:press-07/https", "iotjobsdata:UpdateJobExecution", "thing/press-07", True),
        ("device:press-07/s3", "s3:GetObject", "director/devices/press-07/1.targets.json", True),
        ("device:press-07/s3", "s3:GetObject", "director/devices/press-070/1.targets.json", False),
        ("refresh", "kms:Sign", "key/ImageKey", True),
        ("rollout", "kms:Sign", "key/ImageKey", False),
    ],
)
def test_one_question(full: Values, who: str, action: str, resource: str, may: bool) -> None:
    """A single request is decided as the table's rows are."""
    policies = stacks.policies(stacks.parse(render.render(SHIPPED, full)), full)
    request = Request(action, full_arn(full, action, resource))
    assert duties.ask(policies, full, who, request).allowed is may


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("s3:GetObject", "image/metadata/timestamp.json", {"aws:SecureTransport": "false"}),
        ("s3:GetObject", "image/metadata/timestamp.json", {"s3:TlsVersion": "1.1"}),
        (
            "s3:PutObject",
            "image/metadata/timestamp.json",
            {"s3:x-amz-server-side-encryption": "AES256"},
        ),
        ("kms:Sign", "key/ImageKey", {"kms:MessageType": "RAW"}),
    ],
)
def test_the_right_one_in_the_wrong_way(
    full: Values, action: str, resource: str, context: dict[str, str]
) -> None:
    """Without TLS, with an old TLS, with another encryption, over a raw message: no."""
    policies = stacks.policies(stacks.parse(render.render(SHIPPED, full)), full)
    arn = full_arn(full, action, resource)
    assert duties.ask(policies, full, "publisher", Request(action, arn)).allowed
    assert not duties.ask(policies, full, "publisher", Request(action, arn, context)).allowed


def test_devices_come_through_the_private_endpoint(full: Values) -> None:
    """Where there is a VPC, a device's certificate is worth nothing elsewhere."""
    policies = stacks.policies(stacks.parse(render.render(SHIPPED, full)), full)
    for who, action, resource in (
        ("device:press-07", "iot:Connect", "client/press-07-ota"),
        ("device:press-07/s3", "s3:GetObject", "image/metadata/timestamp.json"),
    ):
        arn = full_arn(full, action, resource)
        elsewhere = Request(action, arn, {"aws:SourceVpce": "vpce-other"})
        assert duties.ask(policies, full, who, Request(action, arn)).allowed
        assert not duties.ask(policies, full, who, elsewhere).allowed


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b'account = "111122223333"', b'account = "1"', "account"),
        (b'account = "111122223333"', b'account = "111122223333\\n"', "account"),
        (b'things = "press-"', b'things = "press-*"', "things"),
        (b'things = "press-"', b'things = ""', "things"),
        (b'prefix = "plant"', b'prefix = "../x"', "prefix"),
        (b'bucket = "example-ota-store"', b'bucket = "a*b"', "bucket"),
        (b'name = "ota"', b'name = "ota\\"]"', "name"),
        (b"mfa = true", b"mfa = 1", "mfa"),
        (b"role/security", b"role/*", "trusted.admin"),
        (b"role/release-engineers", b"role/operators", "trusted.publisher"),
        (b'"10.20.0.0/16"]\n\n', b'"10.20.0.0/16"]\nxx = 1\n\n', "xx"),
        (b'["10.20.0.0/16"]         #', b'["10.20.0.1/16"]         #', "network"),
        (b'gateway = "198.51.100.7"', b'gateway = "nowhere"', "network"),
        (b"vlan = 101", b"vlan = 5000", "vlan"),
        (b"[trusted]", b"[trusted", "infra.toml"),
        (b"[trusted]", b"\xff", "infra.toml"),
    ],
)
def test_values_that_are_none(old: bytes, new: bytes, named: str) -> None:
    """Every malformed or hostile value is an error that names file and key."""
    assert old in EXAMPLE
    with pytest.raises(Malformed) as caught:
        values.read(EXAMPLE.replace(old, new, 1), "infra.toml")
    assert named in str(caught.value)
    assert "infra.toml" in str(caught.value)


def test_values_without_end() -> None:
    """A file of values that is too long is not parsed."""
    with pytest.raises(Malformed, match="longer than"):
        values.read(b"#" * (values.LIMIT + 1), "infra.toml")


@pytest.mark.parametrize("text", ["{{ nothing }}", "{% if %}", "{{ ''.__class__.__mro__ }}"])
def test_a_template_that_does_not_render(tmp_path: Path, full: Values, text: str) -> None:
    """An unknown name, a syntax error or an escape from the sandbox names the template."""
    folder = shutil.copytree(SHIPPED, tmp_path / "aws")
    (folder / "keys.yaml.j2").write_text(text)
    with pytest.raises(Malformed, match=r"keys\.yaml\.j2"):
        render.render(folder, full)


@pytest.mark.parametrize(
    "text", ["", "a: [", "Resources: 3", "Resources: {A: {Type: 'AWS::S3::BucketPolicy'}}\n- x"]
)
def test_a_stack_that_is_none(text: str) -> None:
    """What is not a template names the stack."""
    with pytest.raises(Malformed, match="store"):
        stacks.parse({"store": text})


def test_a_reference_that_leads_nowhere(tmp_path: Path, full: Values) -> None:
    """An import that nothing exports is found before CloudFormation finds it."""
    folder = shutil.copytree(SHIPPED, tmp_path / "aws")
    file = folder / "duties.yaml.j2"
    file.write_text(file.read_text().replace("{{ name }}-store-key", "{{ name }}-shop-key"))
    with pytest.raises(Malformed, match="ota-shop-key"):
        judged(folder, full)
