"""A device that reads straight from a private bucket: certificate, provider, strict S3.

>>> with bucket_device(tmp_path) as device:
...     device.s3.put("p/image/metadata/timestamp.json", data)
...     device.downloader().metadata("image/metadata/timestamp.json", 16384)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from simulators.pki import Authority, Issued
from simulators.role_provider import Provider, provider
from simulators.strict_s3 import StrictS3, strict_s3

from ota.agent.aws_options import AwsOptions
from ota.agent.download import Downloader, DownloadLimits
from ota.agent.role_credentials import RoleCredentials
from ota.agent.transfer_s3 import S3Source

THING = "press-07"
LIMITS = DownloadLimits(
    minimum_rate=50_000,
    window=0.3,
    connect=5,
    read=5,
    metadata_total=15.0,
    image_total=20.0,
    spare_space=0,
)


@dataclass
class Clock:
    """A wall clock that may be wrong, and a monotonic one that a test moves."""

    wrong: timedelta = timedelta(0)
    seconds: float = 1000.0

    def wall(self) -> datetime:
        return datetime.now(UTC) + self.wrong

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class BucketDevice:
    """See the module. The same ``credentials`` serve until ``restart``."""

    folder: Path
    authority: Authority
    issued: Issued
    s3: StrictS3
    roles: Provider
    clock: Clock = field(default_factory=Clock)
    changes: dict[str, Any] = field(default_factory=dict)
    total: float = 10.0

    @property
    def options(self) -> AwsOptions:
        """``[aws]`` as it would be configured."""
        made = AwsOptions(
            region=self.s3.region,
            credentials_endpoint=self.roles.endpoint,
            role_alias="ota-device",
            thing=THING,
            certificate=str(self.issued.certificate),
            key=str(self.issued.key),
            ca=str(self.authority.ca),
            s3_endpoint=self.s3.url,
        )
        return msgspec.structs.replace(made, **self.changes)

    def credentials(self) -> RoleCredentials:
        """As a process of its own would make them."""
        return RoleCredentials(
            self.options,
            connect=5,
            read=5,
            total=self.total,
            wall=self.clock.wall,
            monotonic=self.clock.monotonic,
        )

    def source(self, credentials: RoleCredentials | None = None) -> S3Source:
        """The bucket, as the agent reads it."""
        return S3Source(
            "s3://updates/p",
            self.options,
            credentials or self.credentials(),
            connect=5,
            read=5,
            wall=self.clock.wall,
        )

    def downloader(self, source: S3Source | None = None) -> Downloader:
        """What everything of a cycle is fetched with."""
        return Downloader(source or self.source(), self.folder / "downloads", LIMITS)


@contextlib.contextmanager
def bucket_device(
    folder: Path, prepare: Callable[[Authority], Issued] | None = None
) -> Iterator[BucketDevice]:
    """All of it on loopback, over TLS; the bucket is empty."""
    authority = Authority(folder / "pki")
    issued = prepare(authority) if prepare else authority.issue(THING)
    with strict_s3(authority) as s3, provider(authority, s3) as roles:
        roles.attach(THING, issued)
        yield BucketDevice(folder, authority, issued, s3, roles)
