"""Stores in buckets of the emulator.

>>> made = Made.bucket(aws, monkeypatch, tmp_path)
>>> made.store().put("image/metadata/1.root.json", b"{}")
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from simulators.ministack import Account

from ota.stores.s3 import S3Store
from ota.stores.s3_bucket import Place

PART = 1024 * 1024
"""Parts in tests; AWS itself takes none below 5 MiB but the last."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Made:
    """A bucket, the account that owns it, and where this machine remembers uploads."""

    aws: Account
    place: Place
    uploads: Path

    @classmethod
    def bucket(
        cls,
        aws: Account,
        monkeypatch: pytest.MonkeyPatch,
        folder: Path,
        *,
        versioned: bool = False,
        **options: Any,
    ) -> Made:
        """A new bucket; boto3's environment is the account's from here on."""
        aws.use(monkeypatch)
        name = f"updates-{aws.id}-{next(_numbers)}"
        client = aws.client("s3")
        client.create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": aws.region}
        )
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return cls(aws, Place(name, "plant-7", **options), folder / "uploads")

    def store(self, **options: Any) -> S3Store:
        """A store of this bucket, as a process of its own would make it."""
        place = replace(self.place, **options)
        return S3Store(place, self.uploads, part=PART)

    def head(self, name: str) -> dict[str, Any]:
        """What the bucket's owner sees of an object."""
        found: dict[str, Any] = self.aws.client("s3").head_object(
            Bucket=self.place.bucket, Key=f"{self.place.prefix}/{name}", ChecksumMode="ENABLED"
        )
        return found

    def uploading(self) -> list[str]:
        """Ids of the multipart uploads that are under way."""
        found = self.aws.client("s3").list_multipart_uploads(Bucket=self.place.bucket)
        return [upload["UploadId"] for upload in found.get("Uploads", ())]
