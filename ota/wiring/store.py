"""Settings -> the store: a folder or a bucket.

>>> make(settings.load(Path("plant"), os.environ)).get("image/metadata/timestamp.json", 16384)
"""

from __future__ import annotations

from pathlib import Path

from ota.errors import Misuse
from ota.ports import ArtifactStore
from ota.settings.settings import Settings
from ota.stores.directory import DirectoryStore


def make(settings: Settings) -> ArtifactStore:
    """Where signed bytes lie for devices to fetch."""
    if settings.store is not None:
        return DirectoryStore(settings.store)
    from ota.stores.s3 import S3Store  # noqa: PLC0415 - boto3 is slow to import
    from ota.stores.s3_bucket import Place  # noqa: PLC0415 - the same

    table = settings.bucket
    place = Place(
        table.bucket,
        table.prefix,
        sse=table.sse,
        kms_key=table.kms_key,
        bucket_key=table.bucket_key,
        owner=table.owner,
        storage_class=table.storage_class,
        region=settings.aws.region,
    )
    return S3Store(place, settings.state / "uploads")


def folder(settings: Settings) -> Path:
    """The store's folder; ``Misuse`` when it is a bucket."""
    if settings.store is None:
        raise Misuse(
            f"{settings.bucket.url} is a bucket, not a folder of this machine",
            subject=settings.bucket.url,
            remedy="let devices read from the bucket, or from an HTTPS front of it",
        )
    return settings.store
