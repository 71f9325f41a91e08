"""The S3 store in a real bucket of the emulator: how objects are written, who may, what is refused."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from simulators.buckets import PART, Made
from simulators.ministack import Account

from ota.errors import Busy, Malformed, Misuse, NotPermitted, OtaError, Refusal
from ota.ports import ArtifactStore
from ota.stores.s3 import S3Store
from signing.edition import Upload

NAME = "image/metadata/1.targets.json"
TIMESTAMP = "image/metadata/timestamp.json"
IMAGE = "image/targets/app/x.bin"
LARGE = os.urandom(4 * PART + 17)


def item(folder: Path, data: bytes = LARGE) -> Upload:
    source = folder / "source.bin"
    source.write_bytes(data)
    return Upload(IMAGE, source, hashlib.sha256(data).hexdigest(), len(data))


def checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


@pytest.fixture
def made(aws: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Made:
    return Made.bucket(aws, monkeypatch, tmp_path)


# -- how objects are written ---------------------------------------------------------------------
def test_each_kind_is_cached_and_typed_as_it_must_be(made: Made, tmp_path: Path) -> None:
    """The timestamp is asked for anew each time; all else is immutable; S3 keeps its SHA-256."""
    store = made.store()
    store.put(NAME, b"{}")
    store.swap(TIMESTAMP, b"1", None)
    store.swap(TIMESTAMP, b"2", b"1")
    store.upload(item(tmp_path, b"small"))
    wanted = {
        NAME: ("application/json", "max-age=31536000, immutable", b"{}"),
        TIMESTAMP: ("application/json", "no-cache", b"2"),
        IMAGE: ("application/octet-stream", "max-age=31536000, immutable", b"small"),
    }
    for name, (kind, cache, data) in wanted.items():
        head = made.head(name)
        assert (head["ContentType"], head["CacheControl"]) == (kind, cache)
        assert head["ChecksumSHA256"] == checksum(data)


def test_a_large_image_goes_in_parts_and_keeps_their_checksums(made: Made, tmp_path: Path) -> None:
    """Five parts, one checksum of checksums, typed and cached; nothing is left behind."""
    seen: list[int] = []
    made.store().upload(item(tmp_path), seen.append)
    head = made.head(IMAGE)
    pieces = [hashlib.sha256(LARGE[n : n + PART]).digest() for n in range(0, len(LARGE), PART)]
    assert head["ChecksumSHA256"] == f"{checksum(b''.join(pieces))}-5"
    assert head["CacheControl"] == "max-age=31536000, immutable"
    assert (seen[0], seen[-1], seen) == (0, len(LARGE), sorted(seen))
    assert made.store().digest(IMAGE) == (len(LARGE), hashlib.sha256(LARGE).hexdigest())
    assert made.uploading() == []
    assert list(made.uploads.glob("*")) == []


def test_objects_are_encrypted_with_the_key_that_was_asked_for(
    made: Made, aws: Account, tmp_path: Path
) -> None:
    """SSE-KMS on every kind of write, in parts or not; without it the bucket decides."""
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    store = made.store(sse="aws:kms", kms_key=key)
    store.put(NAME, b"{}")
    store.swap(TIMESTAMP, b"1", None)
    store.swap(TIMESTAMP, b"2", b"1")
    store.upload(item(tmp_path))
    for name in (NAME, TIMESTAMP, IMAGE):
        head = made.head(name)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)
    made.store().put("plain", b"x")
    assert "SSEKMSKeyId" not in made.head("plain")


def test_a_class_is_for_images_only(made: Made, tmp_path: Path) -> None:
    """Small files that are read all the time stay in the standard class."""
    store = made.store(storage_class="INTELLIGENT_TIERING")
    store.upload(item(tmp_path, b"small"))
    store.put(NAME, b"{}")
    assert made.head(IMAGE)["StorageClass"] == "INTELLIGENT_TIERING"
    assert "StorageClass" not in made.head(NAME)


def test_a_store_without_a_prefix_has_the_whole_bucket(made: Made) -> None:
    """The prefix separates stores; one does not see the other's names."""
    whole, other = made.store(prefix=""), made.store()
    whole.put("a/1", b"x")
    other.put("a/2", b"y")
    assert list(whole.list("")) == ["a/1", "plant-7/a/2"]
    assert list(other.list("")) == ["a/2"]
    assert other.get("a/1", 9) is None


def test_what_others_put_into_the_bucket_is_no_object_of_the_store(made: Made) -> None:
    """Folder markers, hidden and odd names are not listed."""
    client = made.aws.client("s3")
    for key in ("plant-7/a/", "plant-7/.hidden", "plant-7/a b", "plant-7/a//b"):
        client.put_object(Bucket=made.place.bucket, Key=key, Body=b"")
    made.store().put("a/1", b"x")
    assert list(made.store().list("")) == ["a/1"]
    with pytest.raises(Malformed):
        list(made.store().list("../x/"))


# -- versions ------------------------------------------------------------------------------------
def test_in_a_versioned_bucket_the_current_version_counts(
    aws: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A delete marker is absence, for reading, swapping, creating and removing."""
    made = Made.bucket(aws, monkeypatch, tmp_path, versioned=True)
    store = made.store()
    store.swap(TIMESTAMP, b"1", None)
    store.swap(TIMESTAMP, b"2", b"1")
    assert store.get(TIMESTAMP, 9) == b"2"
    store.remove(TIMESTAMP)
    store.remove(TIMESTAMP)
    assert (store.get(TIMESTAMP, 9), store.size(TIMESTAMP)) == (None, None)
    assert list(store.list("")) == []
    with pytest.raises(Busy):
        store.swap(TIMESTAMP, b"3", b"2")
    store.swap(TIMESTAMP, b"3", None)
    assert store.get(TIMESTAMP, 9) == b"3"
    versions = aws.client("s3").list_object_versions(Bucket=made.place.bucket)
    assert len(versions["Versions"]) == 3
    assert len(versions["DeleteMarkers"]) == 1


# -- an image that is there already ----------------------------------------------------------------
def test_an_image_in_parts_is_known_again_without_reading_it(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checksum of checksums is the source's; only without the source is it read back."""
    made.store().upload(item(tmp_path))
    again = made.store()
    read: list[str] = []
    digest = S3Store.digest

    def counted(store: S3Store, name: str) -> tuple[int, str] | None:
        read.append(name)
        return digest(store, name)

    monkeypatch.setattr(again._uploader, "_digest", lambda name: counted(again, name))
    again.upload(item(tmp_path))
    assert read == []
    upload = item(tmp_path)
    upload.source.unlink()
    again.upload(upload)
    assert read == [IMAGE]


def test_an_image_that_another_program_cut_differently_is_read_back(
    made: Made, tmp_path: Path
) -> None:
    """Equal bytes are equal, whatever checksum S3 keeps of them; others are refused."""
    key = f"plant-7/{IMAGE}"
    made.aws.client("s3").put_object(Bucket=made.place.bucket, Key=key, Body=LARGE)
    made.store().upload(item(tmp_path))
    wrong = bytes([LARGE[0] ^ 1]) + LARGE[1:]
    made.aws.client("s3").put_object(Bucket=made.place.bucket, Key=key, Body=wrong)
    with pytest.raises(Refusal) as caught:
        made.store().upload(item(tmp_path))
    assert caught.value.code == "image-mismatch"


def test_a_source_that_changes_is_not_uploaded(made: Made, tmp_path: Path) -> None:
    """Before the first part, and between parts: nothing is there, and no part is left."""
    upload = item(tmp_path)
    upload.source.write_bytes(LARGE[:-1] + b"x")
    with pytest.raises(Malformed) as caught:
        made.store().upload(upload)
    assert caught.value.code == "source-changed"
    upload = item(tmp_path)

    def spoil(done: int) -> None:
        upload.source.write_bytes(bytes(len(LARGE)))

    with pytest.raises(Malformed) as caught:
        made.store().upload(upload, spoil)
    assert caught.value.code == "source-changed"
    assert made.uploading() == []
    assert list(made.uploads.glob("*")) == []
    assert list(made.store().list("")) == []


# -- permissions ---------------------------------------------------------------------------------
def needed(made: Made, *actions: str) -> list[dict[str, Any]]:
    """The publisher's policy, with only these actions on objects."""
    arn = f"arn:aws:s3:::{made.place.bucket}"
    return [
        {"Effect": "Allow", "Action": list(actions), "Resource": f"{arn}/plant-7/*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": arn},
    ]


ALL = ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")


def exercise(store: ArtifactStore, folder: Path) -> None:
    """Everything that a publisher does."""
    store.put(NAME, b"{}")
    store.put(NAME, b"{}")
    store.swap(TIMESTAMP, b"1", None)
    store.swap(TIMESTAMP, b"2", b"1")
    store.upload(item(folder))
    assert list(store.list("")) == [NAME, TIMESTAMP, IMAGE]


def test_the_named_permissions_are_enough(
    made: Made, aws: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The publisher's four actions and ListBucket, on this prefix alone; not for removing."""
    aws.use(monkeypatch, aws.user(*needed(made, *ALL)))
    store = made.store()
    exercise(store, tmp_path)
    with pytest.raises(NotPermitted) as caught:
        store.remove(NAME)
    assert caught.value.code == "aws-denied"
    assert "s3:DeleteObject" in caught.value.remedy
    with pytest.raises(NotPermitted):
        made.store(prefix="plant-8").put(NAME, b"{}")


@pytest.mark.parametrize("missing", ["s3:GetObject", "s3:PutObject"])
def test_a_missing_permission_is_named(
    made: Made, aws: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    """Exit 4: which action, on what, in whose policy."""
    aws.use(monkeypatch, aws.user(*needed(made, *(a for a in ALL if a != missing))))
    with pytest.raises(NotPermitted) as caught:
        exercise(made.store(), tmp_path)
    error = caught.value
    assert (error.code, error.exit_code) == ("aws-denied", 4)
    where = f"arn:aws:s3:::{made.place.bucket}/plant-7/image"
    assert f"allow {missing} on {where}" in error.remedy
    assert "the user user-" in error.remedy
    assert "no identity-based policy" in str(error)


def test_without_listing_a_missing_object_is_not_taken_for_absent(
    made: Made, aws: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 answers 403 for both then; the error says so."""
    policy = needed(made, *ALL)[:1]
    aws.use(monkeypatch, aws.user(*policy))
    store = made.store()
    with pytest.raises(NotPermitted) as caught:
        list(store.list("director/"))
    assert f"s3:ListBucket on arn:aws:s3:::{made.place.bucket} " in caught.value.remedy + " "


STRANGERS = {
    "wrong secret": {"AWS_SECRET_ACCESS_KEY": "wrong"},
    "unknown key": {"AWS_ACCESS_KEY_ID": "AKIA0000000000000000", "AWS_SECRET_ACCESS_KEY": "x"},
    "foreign token": {"AWS_SESSION_TOKEN": "made up"},
}


@pytest.mark.parametrize("name", STRANGERS)
def test_credentials_that_aws_does_not_know(
    made: Made, aws: Account, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Told apart from a missing permission."""
    aws.use(monkeypatch, aws.user(*needed(made, *ALL)) | STRANGERS[name])
    with pytest.raises(OtaError) as caught:
        made.store().get(NAME, 9)
    assert caught.value.code == "aws-credentials"
    assert "aws sts get-caller-identity" in caught.value.remedy


def test_a_bucket_that_is_not_there(made: Made) -> None:
    """Its own error, in every method that could take it for an absent object."""
    store = made.store(bucket="nobodys-bucket")
    for call in (
        lambda: store.get(NAME, 9),
        lambda: store.put(NAME, b""),
        lambda: store.digest(NAME),
    ):
        with pytest.raises(Misuse) as caught:
            call()
        assert caught.value.code == "s3-bucket"
