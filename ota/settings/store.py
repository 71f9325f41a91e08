"""``[store]`` of ``ota.toml``: a folder, or a bucket and how objects are written to it.

```toml
[store]
url = "s3://updates/plant-7"          # or "file:FOLDER"
owner = "111122223333"                # the account that must own the bucket
sse = "aws:kms"                       # or "AES256", "aws:kms:dsse"; without it the bucket's default
kms_key = "alias/ota-store"           # id, alias or ARN
bucket_key = true                     # fewer calls of KMS
storage_class = "INTELLIGENT_TIERING" # of images
```

No endpoint, region or credential stands here: those are boto3's own settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9:_+~-][A-Za-z0-9:_+~.-]*(/[A-Za-z0-9:_+~-][A-Za-z0-9:_+~.-]*)*")
_KEY = re.compile(r"[A-Za-z0-9:/_-]{1,2048}")
_OWNER = re.compile(r"[0-9]{12}")


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table as it stands; ``faults`` says what is wrong with it."""

    url: str = "file:store"
    owner: str = ""
    sse: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = ""
    kms_key: str = ""
    bucket_key: bool = True
    storage_class: Literal[
        "", "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"
    ] = ""

    @property
    def folder(self) -> str | None:
        """The folder as written, or None when it is a bucket."""
        return self.url.removeprefix("file:") if self.url.startswith("file:") else None

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.url.removeprefix("s3://").partition("/")[0]

    @property
    def prefix(self) -> str:
        """What comes before every name in the bucket, without slashes at its ends; or ""."""
        return self.url.removeprefix("s3://").partition("/")[2].rstrip("/")

    def faults(self) -> Iterator[tuple[str, str]]:
        """(key, what is wrong with it)."""
        if self.url.startswith("s3://"):
            yield from self._bucket_faults()
            return
        if not self.url.startswith("file:") or self.url.startswith("file://") or not self.folder:
            yield "store.url", f'{self.url!r:.80} is neither "file:FOLDER" nor "s3://BUCKET/PREFIX"'
        for name in ("owner", "sse", "kms_key", "storage_class"):
            if getattr(self, name):
                yield f"store.{name}", "is only for a bucket: s3://BUCKET/PREFIX"

    def _bucket_faults(self) -> Iterator[tuple[str, str]]:
        if not _BUCKET.fullmatch(self.bucket) or ".." in self.bucket:
            yield "store.url", f"{self.bucket!r:.80} is not a bucket's name"
        if len(self.prefix) > 200 or (self.prefix and not _PREFIX.fullmatch(self.prefix)):
            yield "store.url", f"{self.prefix!r:.80} is not a prefix such as plant-7 or eu/plant-7"
        if self.kms_key and not self.sse.startswith("aws:kms"):
            yield "store.kms_key", 'needs sse = "aws:kms"'
        if self.kms_key and not _KEY.fullmatch(self.kms_key):
            yield "store.kms_key", "is not a key id, alias/NAME or ARN"
        if self.owner and not _OWNER.fullmatch(self.owner):
            yield "store.owner", "is not an account of twelve digits"
