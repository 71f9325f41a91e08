"""Reading straight from a private bucket: signed, confined, resumed, and never fooled into "nothing new"."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from simulators.bucket_device import THING, BucketDevice, bucket_device
from simulators.images import Item, release
from simulators.ministack import Account
from simulators.pki import Authority
from simulators.strict_s3 import Reply, Request

from ota.agent import aws_options
from ota.agent.download import Downloader
from ota.agent.role_credentials import Session
from ota.agent.sigv4 import Keys
from ota.agent.transfer_s3 import S3Source
from signing import layout
from signing.errors import Malformed, Outage, Refusal

DATA = os.urandom(1024 * 1024)
IMAGE = layout.image_target("app/app-1.bin", hashlib.sha256(DATA).hexdigest())
TIMESTAMP = layout.image_metadata("timestamp.json")


ITEM = Item(release("app/app-1.bin", DATA))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[BucketDevice]:
    with bucket_device(tmp_path) as made:
        made.s3.put(f"p/{IMAGE}", DATA)
        made.s3.put(f"p/{TIMESTAMP}", b"{}")
        made.s3.put("p/image/metadata/1.root.json", b"root 1")
        made.s3.put("p/director/root/1.root.json", b"root 1")
        yield made


def mine(file: str) -> str:
    return layout.director_metadata(THING, file)


# -- reading ---------------------------------------------------------------------------------------
def test_metadata_and_images_are_read_with_signed_requests(device: BucketDevice) -> None:
    """Every request is signed with a session's token; one question for credentials serves all."""
    device.s3.put(f"p/{mine('timestamp.json')}", b"mine")
    downloader = device.downloader()
    assert downloader.metadata(TIMESTAMP, 10) == b"{}"
    assert downloader.metadata(mine("timestamp.json"), 10) == b"mine"
    assert downloader.image(ITEM).read_bytes() == DATA
    assert {r.by.reads is not None for r in device.s3.requests} == {True}
    assert all(r.headers["x-amz-security-token"] == r.by.token for r in device.s3.requests)
    assert len(device.roles.asked) == 1
    with pytest.raises(Refusal) as caught:
        downloader.metadata(TIMESTAMP, 1)
    assert caught.value.code == "oversize"


@pytest.mark.parametrize("thing", ["gw:1", "gw_a-1"])
def test_odd_names_are_signed_as_they_are_sent(device: BucketDevice, thing: str) -> None:
    """Percent signs, plus and tilde of real names; S3 encodes once."""
    for name in (layout.director_metadata(thing, "timestamp.json"), "image/targets/a/1.x+y~z.bin"):
        device.s3.keys.clear()
        device.s3.put(f"p/{name}", b"x")
        session = device.credentials().current()
        known = device.s3.keys[session.keys.id]
        device.s3.keys[session.keys.id] = replace(known, reads=("p/*",))

        given: Any = Given(session)
        assert device.downloader(device.source(given)).metadata(name, 9) == b"x"


def test_no_url_is_presigned(device: BucketDevice) -> None:
    """Nothing that lets a reader in stands in a URL, where logs and proxies would keep it."""
    device.downloader().image(ITEM)
    assert [r.query for r in device.s3.requests] == [{}]


def test_a_device_reads_what_is_its_own_and_nothing_else(device: BucketDevice) -> None:
    """The role's policy has the thing's name in it: others' orders are denied."""
    other = layout.director_metadata("press-08", "timestamp.json")
    device.s3.put(f"p/{other}", b"theirs")
    downloader = device.downloader()
    with pytest.raises(Outage) as caught:
        downloader.metadata(other, 10)
    assert caught.value.code == "aws-denied"
    with pytest.raises(Outage):
        downloader.metadata("image-repository-of-others/timestamp.json", 10)


@dataclass(frozen=True)
class Given:
    """Credentials that somebody else has fetched."""

    session: Session

    def current(self) -> Session:
        return self.session

    def renewed(self, refused: Session) -> Session:
        return refused


def test_the_emulator_takes_our_signatures_with_a_roles_session(
    aws: Account, device: BucketDevice
) -> None:
    """A second opinion: AWS's rules as the emulator has them, a role's policy enforced."""
    bucket, client = f"updates-{aws.id}", aws.client("s3")
    client.create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": aws.region}
    )
    for name, data in ((TIMESTAMP, b"{}"), ("image/metadata/1.root.json", b"1"), (IMAGE, DATA)):
        client.put_object(Bucket=bucket, Key=f"p/{name}", Body=data)
    client.put_object(Bucket=bucket, Key="p/director/devices/other/x", Body=b"theirs")
    arn = f"arn:aws:s3:::{bucket}/p/image/*"
    keys = assumed(aws, {"Effect": "Allow", "Action": "s3:GetObject", "Resource": arn})
    device.changes = {"s3_endpoint": aws.server.url, "ca": ""}
    given: Any = Given(Session(keys, timedelta(0), 0.0, 9e9, 9e9))
    url = f"s3://{bucket}/p"
    source = S3Source(url, device.options, given, connect=5, read=5)
    downloader = device.downloader(source)
    assert downloader.metadata(TIMESTAMP, 10) == b"{}"
    assert downloader.metadata("image/metadata/2.root.json", 10) is None
    part = downloader.image(ITEM)
    assert part.read_bytes() == DATA
    os.truncate(part, 1000)
    assert downloader.image(ITEM).read_bytes() == DATA
    with pytest.raises(Outage) as caught:
        downloader.metadata("director/devices/other/x", 10)
    assert caught.value.code == "aws-denied"
    broken: Any = Given(replace(given.session, keys=replace(keys, secret="another")))
    downloader = device.downloader(S3Source(url, device.options, broken, connect=5, read=5))
    with pytest.raises(Outage) as caught:
        downloader.metadata(TIMESTAMP, 10)
    assert caught.value.code == "aws-credentials"


def assumed(aws: Account, statement: dict[str, str]) -> Keys:
    """A session of a role with this policy."""
    trust = {"Effect": "Allow", "Principal": {"AWS": aws.id}, "Action": "sts:AssumeRole"}
    iam = aws.client("iam")
    role = iam.create_role(
        RoleName="device",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )["Role"]["Arn"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName="device", PolicyName="only", PolicyDocument=policy)
    made = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="press-07")["Credentials"]
    return Keys(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])


# -- what is not there -----------------------------------------------------------------------------
def test_the_next_root_is_absent_only_where_roots_can_be_read(device: BucketDevice) -> None:
    """403 without ListBucket: believed after the first root beside it was readable; asked once."""
    downloader = device.downloader()
    for _ in range(3):
        assert downloader.metadata("image/metadata/2.root.json", 10) is None
        assert downloader.metadata("director/root/5.root.json", 10) is None
    assert [r.key for r in device.s3.asked("HeadObject")] == [
        "p/image/metadata/1.root.json",
        "p/director/root/1.root.json",
    ]
    assert len(device.roles.asked) == 1


def test_a_forgotten_permission_is_not_taken_for_nothing_new(device: BucketDevice) -> None:
    """A role that may not read roots would never see a rotation: it is an outage that says so."""
    device.s3.keys.clear()
    credentials = device.credentials()
    session = credentials.current()
    known = device.s3.keys[session.keys.id]
    device.s3.keys[session.keys.id] = replace(known, reads=("p/image/metadata/timestamp.json",))
    downloader = device.downloader(device.source(credentials))
    assert downloader.metadata(TIMESTAMP, 10) == b"{}"
    with pytest.raises(Outage) as caught:
        downloader.metadata("image/metadata/2.root.json", 10)
    assert caught.value.code == "aws-denied"
    assert "s3:GetObject on arn:aws:s3:::updates/p/image/metadata/2.root.json" in (
        caught.value.remedy
    )
    assert "alias ota-device" in caught.value.remedy


def test_a_missing_file_is_an_outage_that_names_it(device: BucketDevice) -> None:
    """Denied or absent, S3 does not say; neither is ever "no assignment"."""
    with pytest.raises(Outage) as caught:
        device.downloader().metadata(mine("timestamp.json"), 10)
    assert caught.value.code == "aws-denied"
    assert "or the object is not there" in str(caught.value)


def test_with_list_bucket_absent_is_absent(device: BucketDevice) -> None:
    """404 NoSuchKey needs no guessing."""
    device.s3.before = lambda r: device.s3.fault(404, "NoSuchKey")
    assert device.downloader().metadata(TIMESTAMP, 10) is None
    device.s3.before = lambda r: device.s3.fault(404, "NoSuchBucket")
    with pytest.raises(Outage) as caught:
        device.downloader().metadata(TIMESTAMP, 10)
    assert caught.value.code == "aws-bucket"


# -- in the middle of a download ---------------------------------------------------------------------
def cut(device: BucketDevice, downloader: Downloader, at: int = 300_000) -> None:
    """The line breaks in the middle of the image."""
    device.s3.cut[f"p/{IMAGE}"] = at
    with pytest.raises(Outage):
        downloader.image(ITEM)


def ended(device: BucketDevice) -> None:
    for name, key in device.s3.keys.items():
        device.s3.keys[name] = replace(key, expires=datetime.now(UTC) - timedelta(seconds=1))


ENDS: dict[str, Callable[[BucketDevice], None]] = {
    "ended (400 ExpiredToken)": ended,
    "revoked (403 AccessDenied)": lambda d: d.roles.revoke_sessions(),
    "forgotten (403 InvalidAccessKeyId)": lambda d: d.s3.keys.clear(),
}


@pytest.mark.parametrize("name", ENDS)
def test_credentials_that_end_in_mid_download_are_renewed_and_it_resumes(
    device: BucketDevice, name: str
) -> None:
    """The rest alone is asked for, with other credentials, in the same call."""
    downloader = device.downloader()
    cut(device, downloader)
    ENDS[name](device)
    device.clock.seconds += 60
    device.s3.requests.clear()
    assert downloader.image(ITEM).read_bytes() == DATA
    assert len(device.roles.asked) == 2
    assert device.s3.requests[-1].headers["range"] == "bytes=300000-"
    assert device.s3.requests[-1].headers["if-match"] == device.s3.objects[f"p/{IMAGE}"].etag


def test_what_stays_denied_ends_after_one_renewal(device: BucketDevice) -> None:
    """No loop: one question for credentials, one more request, then an outage; the part stays."""
    downloader = device.downloader()
    cut(device, downloader)
    device.s3.before = lambda r: device.s3.fault(403, "AccessDenied", "Access Denied")
    device.clock.seconds += 60
    device.s3.requests.clear()
    with pytest.raises(Outage) as caught:
        downloader.image(ITEM)
    assert caught.value.code == "aws-denied"
    assert (len(device.s3.requests), len(device.roles.asked)) == (2, 2)
    device.s3.before = lambda r: None
    assert downloader.image(ITEM).read_bytes() == DATA
    assert device.s3.requests[-1].headers["range"] == "bytes=300000-"


def test_an_object_that_was_replaced_is_read_from_its_beginning(device: BucketDevice) -> None:
    """If-Match: 412 is never glued to the old part; neither is a shorter one (416)."""
    for other in (DATA[::-1], DATA[:1000]):
        downloader = device.downloader()
        downloader.discard(ITEM.release.sha256)
        device.s3.put(f"p/{IMAGE}", other)
        cut(device, downloader, at=500)
        part = device.folder / "downloads" / f"{ITEM.release.sha256}.part"
        part.write_bytes(other[:500].ljust(2000, b"x") if len(other) == 1000 else other[:500])
        device.s3.put(f"p/{IMAGE}", DATA)
        if len(other) == 1000:
            device.s3.objects[f"p/{IMAGE}"].etag = '"the same again"'
        assert downloader.image(ITEM).read_bytes() == DATA


# -- clocks ----------------------------------------------------------------------------------------
def test_a_device_with_a_wrong_clock_signs_with_the_right_time(device: BucketDevice) -> None:
    """Hours off, TLS still holds: AWS's own clock is known from the credentials' answer."""
    device.clock.wrong = timedelta(hours=-7)
    assert device.downloader().metadata(TIMESTAMP, 10) == b"{}"


def test_a_clock_that_jumps_is_corrected_once_and_then_told(device: BucketDevice) -> None:
    """RequestTimeTooSkewed: fresh credentials bring the right time; else it is the clock's fault."""
    downloader = device.downloader()
    assert downloader.metadata(TIMESTAMP, 10) == b"{}"
    device.clock.wrong = timedelta(hours=3)
    device.clock.seconds += 60
    assert downloader.metadata(TIMESTAMP, 10) == b"{}"
    assert len(device.roles.asked) == 2
    device.s3.now = lambda: datetime.now(UTC) + timedelta(days=1)
    device.clock.seconds += 60
    with pytest.raises(Outage) as caught:
        downloader.metadata(TIMESTAMP, 10)
    assert caught.value.code == "aws-clock"
    assert "timedatectl" in caught.value.remedy


# -- what else S3 says -------------------------------------------------------------------------------
FAULTS: list[tuple[int, str, dict[str, str], str]] = [
    (503, "SlowDown", {}, "aws-throttled"),
    (429, "", {}, "aws-throttled"),
    (500, "InternalError", {}, "aws"),
    (400, "AuthorizationHeaderMalformed", {"Region": "us-west-2"}, "aws-region"),
    (301, "PermanentRedirect", {"Region": "us-west-2"}, "aws-region"),
    (400, "KMS.DisabledException", {}, "aws-kms"),
    (403, "SignatureDoesNotMatch", {}, "aws-credentials"),
    (400, "InvalidToken", {}, "aws-credentials"),
    (418, "Teapot", {}, "aws"),
]


@pytest.mark.parametrize(("status", "code", "more", "ours"), FAULTS)
def test_each_answer_is_an_error_of_its_own(
    device: BucketDevice, status: int, code: str, more: dict[str, str], ours: str
) -> None:
    """Never "not there", never a refusal; the object, S3's code and the next step are named."""
    device.s3.before = lambda r: device.s3.fault(status, code, **more)
    with pytest.raises(Outage) as caught:
        device.downloader().metadata(TIMESTAMP, 10)
    assert caught.value.code == ours
    assert code in str(caught.value)
    assert f"s3://updates/p/{TIMESTAMP}" in str(caught.value)
    assert caught.value.remedy
    if more:
        assert "us-west-2" in str(caught.value)


def test_a_denial_of_the_key_names_its_action(device: BucketDevice) -> None:
    """SSE-KMS: it is the key's permission that lacks, not the bucket's."""
    key = "arn:aws:kms:eu-west-1:1:key/2"
    said = f"User: arn:x is not authorized to perform: kms:Decrypt on resource: {key} because"
    device.s3.before = lambda r: device.s3.fault(403, "AccessDenied", said)
    with pytest.raises(Outage) as caught:
        device.downloader().metadata(TIMESTAMP, 10)
    assert caught.value.remedy.startswith(f"allow kms:Decrypt on {key} in the policy of the role")


BODIES = {
    "endless": b"<Error><Code>" + b"x" * 5_000_000,
    "control": b"<Error><Code>A\x1b[2J</Code><Message>\x00\r\n\xff</Message></Error>",
    "entities": b'<!DOCTYPE a [<!ENTITY b "&b;&b;">]><Error><Code>&b;</Code></Error>',
}


@pytest.mark.parametrize("name", BODIES)
def test_an_error_that_is_hostile_itself(device: BucketDevice, name: str) -> None:
    """A little of it is read, no parser sees it, and a line of text is what is left."""

    def before(request: Request) -> Reply:
        return Reply(400, BODIES[name], {"Content-Type": "application/xml"})

    device.s3.before = before
    with pytest.raises(Outage) as caught:
        device.downloader().metadata(TIMESTAMP, 10)
    assert caught.value.code == "aws"
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_somebody_else_in_the_buckets_place(device: BucketDevice, tmp_path: Path) -> None:
    """TLS that ``ca`` does not vouch for: nothing is sent, and it is told apart from silence."""
    credentials = device.credentials()
    credentials.current()
    device.changes["ca"] = str(Authority(tmp_path / "stranger", "somebody else").ca)
    with pytest.raises(Outage) as caught:
        device.downloader(device.source(credentials)).metadata(TIMESTAMP, 10)
    assert caught.value.code == "aws-tls"
    device.changes = {"s3_endpoint": "https://localhost:9"}
    with pytest.raises(Outage) as caught:
        device.downloader(device.source(credentials)).metadata(TIMESTAMP, 10)
    assert caught.value.code == "outage"


# -- where a bucket is -------------------------------------------------------------------------------
PLACES = [
    ("s3://updates/a/b", "eu-west-1", "", "https://updates.s3.eu-west-1.amazonaws.com", ""),
    ("s3://up.dates", "eu-west-1", "", "https://s3.eu-west-1.amazonaws.com", "up.dates/"),
    ("s3://updates", "cn-north-1", "", "https://updates.s3.cn-north-1.amazonaws.com.cn", ""),
    ("s3://updates", "eu-west-1", "https://s3.example/", "https://s3.example", "updates/"),
]


@pytest.mark.parametrize(("url", "region", "endpoint", "base", "path"), PLACES)
def test_where_a_bucket_is(
    device: BucketDevice, url: str, region: str, endpoint: str, base: str, path: str
) -> None:
    """In the host's name as S3 recommends; in the path where that can not be."""
    device.changes = {"region": region, "s3_endpoint": endpoint}
    found = aws_options.bucket(url, device.options)
    assert (found.base, found.path) == (base, path)
    assert found.key("x") == ("a/b/x" if url.endswith("/b") else "x")
    assert found.arn("x", region).startswith("arn:aws-cn:" if "cn-" in region else "arn:aws:")


@pytest.mark.parametrize("url", ["s3://", "s3://A", "s3://a/../b", "s3://abc/.d", "s3://abc//d"])
def test_urls_that_are_no_buckets(url: str) -> None:
    """Refused before anything is sent."""
    with pytest.raises(Malformed):
        aws_options.check_bucket(url)
