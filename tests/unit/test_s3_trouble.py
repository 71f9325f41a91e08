"""What S3 says when something is wrong: each its own error, nothing half-written, the next command.

Against a strict S3 of our own, which can be slow, elsewhere, mistaken or silent; it checks every
signature, checksum and condition of the requests that it gets.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ConnectTimeoutError
from simulators.strict_s3 import Key, Reply, Request, StrictS3, strict_s3

from ota.aws.pacing import Rest
from ota.errors import Busy, NotPermitted, OtaError, Outage, Refusal
from ota.repositories.publishing import Publisher
from ota.stores.s3 import S3Store
from ota.stores.s3_bucket import Place
from signing.edition import Edition, Upload

NAME = "image/metadata/1.targets.json"
TIMESTAMP = "image/metadata/timestamp.json"
IMAGE = "image/targets/app/x.bin"
PART = 64 * 1024
LARGE = os.urandom(4 * PART + 17)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    with strict_s3() as server:
        server.least = PART
        server.use(monkeypatch)
        yield server


@pytest.fixture
def store(s3: StrictS3, tmp_path: Path) -> S3Store:
    return make(tmp_path)


def make(folder: Path, **options: str) -> S3Store:
    return S3Store(Place("updates", "p", **options), folder / "uploads", part=PART)


def item(folder: Path, data: bytes = LARGE) -> Upload:
    source = folder / "source.bin"
    source.write_bytes(data)
    return Upload(IMAGE, source, hashlib.sha256(data).hexdigest(), len(data))


def first(operation: str, reply: Reply, times: int = 1) -> Callable[[Request], Reply | None]:
    """Answer so to the first requests of an operation."""
    left = [times]

    def before(request: Request) -> Reply | None:
        if request.operation != operation or not left[0]:
            return None
        left[0] -= 1
        return reply

    return before


def losing(operation: str) -> Callable[[Request], bool]:
    """The answer to the first request of an operation is lost after it was carried out."""
    lost: list[Request] = []

    def after(request: Request) -> bool:
        if request.operation != operation or lost:
            return False
        lost.append(request)
        return True

    return after


# -- refusals of the service -----------------------------------------------------------------------
FAULTS: list[tuple[int, str, dict[str, str], str, str, str]] = [
    (503, "SlowDown", {}, "aws-throttled", "slow down", "AWS_RETRY_MODE"),
    (503, "ServiceUnavailable", {}, "aws-throttled", "slow down", "AWS_RETRY_MODE"),
    (500, "InternalError", {}, "aws", "InternalError", "try again"),
    (400, "ExpiredToken", {}, "aws-expired", "expired", "renew"),
    (403, "InvalidAccessKeyId", {}, "aws-credentials", "InvalidAccessKeyId", "aws configure list"),
    (403, "SignatureDoesNotMatch", {}, "aws-credentials", "Signature", "get-caller-identity"),
    (403, "RequestTimeTooSkewed", {}, "aws-clock", "clock", "timedatectl"),
    (400, "KMS.DisabledException", {}, "s3-kms", "KMS.Disabled", "describe-key"),
    (400, "BadDigest", {}, "s3-damaged", "other bytes", "again"),
    (301, "PermanentRedirect", {"Endpoint": "e"}, "aws-region", "another region", "AWS_DEFAULT"),
    (404, "NoSuchBucket", {}, "s3-bucket", "no such bucket", "[store] url"),
    (403, "AccessDenied", {}, "aws-denied", "s3:PutObject", "publisher role"),
    (403, "AllAccessDisabled", {}, "aws", "AllAccessDisabled", "try again"),
]


@pytest.mark.parametrize(("status", "code", "more", "ours", "says", "remedy"), FAULTS)
def test_each_refusal_is_an_error_of_its_own(
    s3: StrictS3,
    store: S3Store,
    status: int,
    code: str,
    more: dict[str, str],
    ours: str,
    says: str,
    remedy: str,
) -> None:
    """By its code; it names the object and the next command, and nothing was written."""
    fault = s3.fault(status, code, **more)
    s3.before = lambda request: fault if request.operation == "PutObject" else None
    for call in (
        lambda: store.put(NAME, b"{}"),
        lambda: store.swap(NAME, b"{}", None),
    ):
        with pytest.raises(OtaError) as caught:
            call()
        assert caught.value.code == ours
        assert says in str(caught.value)
        assert remedy in caught.value.remedy
        assert caught.value.subject
    assert s3.objects == {}


def test_a_denial_names_the_role_that_aws_names(s3: StrictS3, store: S3Store) -> None:
    """Also where it is the KMS key's permission that lacks."""
    role = "arn:aws:sts::111122223333:assumed-role/ota-publisher/session"
    key = "arn:aws:kms:eu-west-1:111122223333:key/1"
    said = (
        f"User: {role} is not authorized to perform: kms:GenerateDataKey on resource: {key} "
        "because no identity-based policy allows the kms:GenerateDataKey action"
    )
    fault = s3.fault(403, "AccessDenied", said)
    s3.before = lambda request: fault
    with pytest.raises(NotPermitted) as caught:
        store.put(NAME, b"{}")
    assert f"allow kms:GenerateDataKey on {key}" in caught.value.remedy
    assert "the role ota-publisher" in caught.value.remedy


def test_hostile_words_of_an_answer_stay_on_one_line(s3: StrictS3, store: S3Store) -> None:
    """No control characters reach a terminal, and no endless text."""
    fault = s3.fault(400, "Strange", "a\nb \u202e " + "x" * 100_000)
    s3.before = lambda request: fault
    with pytest.raises(OtaError) as caught:
        store.get(NAME, 9)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_clock_that_is_wrong(s3: StrictS3, store: S3Store) -> None:
    """An hour off is told apart from wrong credentials."""
    s3.now = lambda: datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(NotPermitted) as caught:
        store.get(NAME, 9)
    assert caught.value.code == "aws-clock"


def test_credentials_that_have_ended(
    s3: StrictS3, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session's token is sent; past its end the error says how to renew it."""
    s3.keys["ASIA1"] = Key("ASIA1", "s", "token", datetime.now(UTC) + timedelta(minutes=5))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIA1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    store.put(NAME, b"{}")
    s3.keys["ASIA1"] = Key("ASIA1", "s", "token", datetime.now(UTC) - timedelta(minutes=5))
    with pytest.raises(NotPermitted) as caught:
        store.put(TIMESTAMP, b"{}")
    assert caught.value.code == "aws-expired"
    assert list(s3.objects) == [f"p/{NAME}"]


def test_a_bucket_in_another_region_is_found_or_named(
    s3: StrictS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry follows S3's word; where a fixed endpoint can not be followed, the region is named."""
    s3.regions = {"us-west-2"}
    s3.region = "us-west-2"
    store = make(tmp_path)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    store.put(NAME, b"{}")
    assert store.get(NAME, 9) == b"{}"
    s3.regions = {"eu-west-1", "us-west-2"}
    elsewhere = s3.fault(301, "PermanentRedirect")
    elsewhere.headers["x-amz-bucket-region"] = "us-west-2"
    s3.before = lambda request: elsewhere
    with pytest.raises(NotPermitted) as caught:
        make(tmp_path).get(NAME, 9)
    assert caught.value.code == "aws-region"
    assert "export AWS_DEFAULT_REGION=us-west-2" in caught.value.remedy


def test_a_bucket_of_another_account_is_refused(s3: StrictS3, tmp_path: Path) -> None:
    """``owner`` goes with every call: a bucket that somebody else took the name of gets nothing."""
    s3.page = 1000
    good = make(tmp_path, owner="111122223333")
    good.put(NAME, b"{}")
    assert list(good.list("")) == [NAME]
    bad = make(tmp_path, owner="444455556666")
    for call in (
        lambda: bad.put(TIMESTAMP, b"{}"),
        lambda: bad.get(NAME, 9),
        lambda: list(bad.list("")),
        lambda: bad.upload(item(tmp_path)),
    ):
        with pytest.raises(NotPermitted):
            call()
    assert list(s3.objects) == [f"p/{NAME}"]


# -- silence and damage ------------------------------------------------------------------------------
def test_nobody_answers(
    s3: StrictS3, store: S3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A refused connection and an answer that is no HTTP are outages."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Outage) as caught:
        make(tmp_path).get(NAME, 9)
    assert caught.value.code == "aws-unreachable"
    s3.before = lambda request: Reply(200, b"not XML <", {"Content-Type": "text/plain"})
    with pytest.raises(Outage):
        list(store.list(""))


def test_a_store_that_is_gone_is_not_waited_for_again_and_again(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A step over hundreds of devices waits once; half a minute later it is tried again."""
    now = [0.0]
    monkeypatch.setattr(Rest.__init__, "__defaults__", (lambda: now[0],))
    store = make(tmp_path)
    store.put(NAME, b"{}")
    asked: list[str] = []

    def dead(request: object, **_: object) -> None:
        asked.append("once")
        raise ConnectTimeoutError(endpoint_url="s3")

    client = store._bucket._client
    client.meta.events.register("before-send.s3", dead)
    for _ in range(200):
        with pytest.raises(Outage) as caught:
            store.get(NAME, 9)
        assert caught.value.code == "aws-unreachable"
    assert len(asked) <= 2, "the user's own attempts, once"
    client.meta.events.unregister("before-send.s3", dead)
    now[0] += 31
    assert store.get(NAME, 9) == b"{}"


def test_an_answer_that_is_cut_is_not_an_object(s3: StrictS3, store: S3Store) -> None:
    """Neither for get nor for digest; nothing shorter is ever returned."""
    s3.put(f"p/{NAME}", b"x" * 100_000)
    for call in (lambda: store.get(NAME, 1 << 20), lambda: store.digest(NAME)):
        s3.cut[f"p/{NAME}"] = 50_000
        with pytest.raises(Outage) as caught:
            call()
        assert caught.value.code == "aws-unreachable"
    assert store.get(NAME, 1 << 20) == b"x" * 100_000


def test_what_answers_like_s3_and_is_none(s3: StrictS3, store: S3Store, tmp_path: Path) -> None:
    """An answer without what S3 always says is an outage that names what is missing."""
    s3.before = lambda request: Reply(200, b"<x/>" if request.operation != "HeadObject" else b"")
    for call in (
        lambda: store.get(NAME, 9),
        lambda: store.swap(NAME, b"2", b"<x/>"),
        lambda: store.upload(item(tmp_path)),
    ):
        with pytest.raises(OtaError) as caught:
            call()
        assert caught.value.code in {"aws-unreachable", "image-mismatch"}
    s3.before = lambda r: Reply(200, b"<x/>") if r.operation == "CreateMultipartUpload" else None
    with pytest.raises(Outage) as missing:
        store.upload(item(tmp_path))
    assert "UploadId" in str(missing.value)


def test_bytes_that_are_not_what_s3_has_stored(s3: StrictS3, store: S3Store) -> None:
    """The checksum that comes with them is checked."""
    s3.put(f"p/{NAME}", b"right")
    s3.objects[f"p/{NAME}"].data = b"wrong"
    with pytest.raises(Outage) as caught:
        store.get(NAME, 9)
    assert caught.value.code == "s3-damaged"


def test_a_part_that_arrived_as_other_bytes(s3: StrictS3, store: S3Store, tmp_path: Path) -> None:
    """S3's own word for the part is compared; the upload stops, the object does not appear."""
    fault = Reply(200, b"", {"ETag": '"x"', "x-amz-checksum-sha256": "AAAA"})
    s3.before = first("UploadPart", fault)
    with pytest.raises(Outage) as caught:
        store.upload(item(tmp_path))
    assert caught.value.code == "s3-damaged"
    assert s3.objects == {}
    store.upload(item(tmp_path))
    assert s3.objects[f"p/{IMAGE}"].data == LARGE


# -- the user's own retries ------------------------------------------------------------------------
@pytest.mark.parametrize("attempts", ["1", "3"])
def test_retries_are_those_of_the_users_configuration(
    s3: StrictS3, store: S3Store, monkeypatch: pytest.MonkeyPatch, attempts: str
) -> None:
    """``AWS_MAX_ATTEMPTS`` is obeyed, and nothing is tried more often behind its back."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", attempts)
    monkeypatch.setenv("AWS_RETRY_MODE", "standard")
    fault = s3.fault(503, "SlowDown")
    s3.before = lambda request: fault
    with pytest.raises(Outage):
        store.get(NAME, 9)
    assert len(s3.asked("GetObject")) == int(attempts)


def test_a_profile_is_taken_from_the_users_own_files(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Credentials, endpoint, region and addressing of ``AWS_PROFILE``."""
    (tmp_path / "config").write_text(
        f"[profile plant]\nregion = eu-west-1\nendpoint_url = {s3.url}\n"
        "s3 =\n  addressing_style = path\n"
    )
    (tmp_path / "credentials").write_text(
        f"[plant]\naws_access_key_id = {s3.key.id}\naws_secret_access_key = {s3.key.secret}\n"
    )
    for name in (
        *("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"),
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "plant")
    make(tmp_path).put(NAME, b"{}")
    assert list(s3.objects) == [f"p/{NAME}"]
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(NotPermitted) as caught:
        make(tmp_path).put(NAME, b"{}")
    assert caught.value.code == "aws-credentials"


# -- answers that were lost, and conflicts ---------------------------------------------------------
@pytest.mark.parametrize("expected", [None, b"1"])
def test_a_write_whose_answer_was_lost_is_not_a_lost_race(
    s3: StrictS3, store: S3Store, expected: bytes | None
) -> None:
    """Botocore tries again and meets its own object (412): the same bytes are success."""
    if expected is not None:
        store.swap(TIMESTAMP, expected, None)
    s3.after = losing("PutObject")
    store.swap(TIMESTAMP, b"2", expected)
    s3.after = losing("PutObject")
    store.put(NAME, b"{}")
    assert {k: v.data for k, v in s3.objects.items()} == {
        f"p/{TIMESTAMP}": b"2",
        f"p/{NAME}": b"{}",
    }


@pytest.mark.parametrize(
    "operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
)
def test_a_lost_answer_does_not_stop_an_upload(
    s3: StrictS3, store: S3Store, tmp_path: Path, operation: str
) -> None:
    """Begun, sent or completed twice: one object, the right one."""
    s3.after = losing(operation)
    store.upload(item(tmp_path))
    assert s3.objects[f"p/{IMAGE}"].data == LARGE
    assert list((tmp_path / "uploads").glob("*")) == []


def conflict(s3: StrictS3) -> Reply:
    return s3.fault(409, "ConditionalRequestConflict")


def test_a_conflict_is_tried_again_after_reading_again(s3: StrictS3, store: S3Store) -> None:
    """409: whoever creates tries again; whoever replaces reads again and decides again."""
    s3.before = first("PutObject", conflict(s3), 2)
    store.put(NAME, b"{}")
    s3.before = first("PutObject", conflict(s3), 2)
    store.swap(TIMESTAMP, b"1", None)
    s3.before = first("PutObject", conflict(s3), 2)
    store.swap(TIMESTAMP, b"2", b"1")
    assert s3.objects[f"p/{TIMESTAMP}"].data == b"2"


def test_of_two_that_conflict_one_is_told_so(
    s3: StrictS3, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's bytes stand: Busy, exit 7. For ever in conflict: Busy too."""
    monkeypatch.setattr("ota.stores.s3_bucket.time.sleep", lambda _seconds: None)
    store.swap(TIMESTAMP, b"1", None)

    def other(request: Request) -> Reply | None:
        if request.operation != "PutObject":
            return None
        s3.put(f"p/{TIMESTAMP}", b"theirs")
        return conflict(s3)

    s3.before = other
    with pytest.raises(Busy) as caught:
        store.swap(TIMESTAMP, b"2", b"1")
    assert (caught.value.code, caught.value.exit_code) == ("lost-race", 7)
    reply = conflict(s3)
    s3.before = lambda request: reply if request.operation == "PutObject" else None
    for call in (lambda: store.put(NAME, b"{}"), lambda: store.swap(TIMESTAMP, b"3", b"theirs")):
        with pytest.raises(Busy):
            call()
    assert s3.objects[f"p/{TIMESTAMP}"].data == b"theirs"


def test_an_upload_that_conflicts_is_begun_anew(
    s3: StrictS3, store: S3Store, tmp_path: Path
) -> None:
    """S3 wants it so: another upload, all parts again; the first one is aborted."""
    s3.before = first("CompleteMultipartUpload", conflict(s3))
    store.upload(item(tmp_path))
    assert s3.objects[f"p/{IMAGE}"].data == LARGE
    assert len(s3.asked("CreateMultipartUpload")) == 2
    assert s3.uploads == {}


def test_another_publisher_completes_the_same_image_first(
    s3: StrictS3, store: S3Store, tmp_path: Path
) -> None:
    """The same bytes: success, and our parts are dropped. Other bytes: refused."""
    other = make(tmp_path / "other machine")
    busy: list[int] = []

    def before(request: Request) -> Reply | None:
        if request.operation == "CompleteMultipartUpload" and not busy:
            busy.append(1)
            other.upload(item(tmp_path))
        return None

    s3.before = before
    store.upload(item(tmp_path))
    assert s3.uploads == {}
    assert s3.objects[f"p/{IMAGE}"].data == LARGE

    def evil(request: Request) -> Reply | None:
        if request.operation == "CompleteMultipartUpload":
            s3.put(f"p/{IMAGE}", b"evil")
        return None

    del s3.objects[f"p/{IMAGE}"]
    s3.before = evil
    with pytest.raises(Refusal):
        store.upload(item(tmp_path))
    assert s3.uploads == {}


# -- pages -------------------------------------------------------------------------------------------
def test_every_page_of_a_listing_is_read(s3: StrictS3, store: S3Store) -> None:
    """Two names a page, seven names."""
    names = [f"director/devices/gw-{n}/timestamp.json" for n in range(7)]
    for name in names:
        store.put(name, b"{}")
    assert list(store.list("director/devices/")) == names
    assert len(s3.asked("ListObjectsV2")) == 4


def test_a_page_that_fails_is_not_the_end_of_the_list(s3: StrictS3, store: S3Store) -> None:
    """A listing that breaks off raises; nobody takes half of it for all."""
    for n in range(5):
        store.put(f"a/{n}", b"{}")
    fault = s3.fault(500, "InternalError")
    s3.before = lambda request: fault if "continuation-token" in request.query else None
    found = store.list("")
    assert [next(found), next(found)] == ["a/0", "a/1"]
    with pytest.raises(Outage):
        next(found)


# -- what a publisher keeps --------------------------------------------------------------------------
@pytest.mark.parametrize("code", ["NoSuchBucket", "InvalidArgument", "AccessDenied", "SlowDown"])
def test_an_edition_that_the_bucket_did_not_take_waits(
    s3: StrictS3, store: S3Store, tmp_path: Path, code: str
) -> None:
    """Whatever is wrong with the bucket: the finished bytes stay, and the same ones are resumed."""
    status = {"NoSuchBucket": 404, "SlowDown": 503, "AccessDenied": 403}.get(code, 400)
    edition = Edition(
        "image", ((NAME, b"{}"),), (TIMESTAMP, b"1", None), (item(tmp_path, b"image"),)
    )
    publisher = Publisher(store, tmp_path / "outbox")
    fault = s3.fault(status, code)
    s3.before = lambda request: fault if request.key.endswith("timestamp.json") else None
    with pytest.raises(OtaError):
        publisher.publish(edition)
    assert publisher.waiting() == ["image"]
    s3.before = lambda request: None
    told: list[tuple[str, int, int]] = []
    assert publisher.resume(progress=lambda *words: told.append(words)) == ["image"]
    assert s3.objects[f"p/{TIMESTAMP}"].data == b"1"
    assert told == []  # the image was there already
