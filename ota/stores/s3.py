"""A store in an S3 bucket: ``s3://bucket/prefix``.

Objects appear whole or not at all, as S3 promises. What is immutable is created with
``If-None-Match: *``, so that no publisher can replace it, by mistake or in a race. The one mutable
object of a repository, ``timestamp.json``, changes with ``If-Match`` on the entity tag of the bytes
that were read: this swap is the lock between publishers on two machines. Every write carries its
SHA-256, which S3 checks before it stores anything.

Retries are botocore's. One that repeats a write whose answer was lost meets its own object (412);
so does a publisher that is resumed: the bytes there are then compared, and the same ones are
success.

The publisher needs, on the bucket ``s3:ListBucket``, on its objects ``s3:GetObject``,
``s3:PutObject``, ``s3:AbortMultipartUpload`` and ``s3:ListMultipartUploadParts``, for ``remove``
alone ``s3:DeleteObject``; and with a KMS key ``kms:GenerateDataKey`` and ``kms:Decrypt``. Versioned buckets are fine: the current version counts,
and a delete marker is absence.

>>> store = S3Store(Place("updates", "plant-7"), Path("state/uploads"))
>>> store.swap("image/metadata/timestamp.json", new, expected=old)   # Busy if another was first
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from ota.errors import NotFound, Outage, Refusal
from ota.stores.common import check_name, lost_race, taken
from ota.stores.s3_bucket import TURNS, Bucket, Place, pause
from ota.stores.s3_errors import Absent, Conflict, Unmet, told
from ota.stores.s3_upload import PART, Uploader
from signing.edition import Upload

_CHUNK = 1024 * 1024


class S3Store:
    """Implements ``ports.ArtifactStore`` in one bucket; machines may share it.

    ``uploads`` is the folder where unfinished uploads are remembered; ``part`` the least size of
    their parts in bytes.
    """

    def __init__(self, place: Place, uploads: Path, *, part: int = PART) -> None:
        self._bucket = Bucket(place)
        self._uploader = Uploader(self._bucket, uploads, self.digest, part=part)

    # -- reading -------------------------------------------------------------------------------
    def get(self, name: str, limit: int) -> bytes | None:
        """Bytes of ``name`` or None; ``Refusal("oversize")`` past ``limit`` bytes."""
        found = self._read(name, limit)
        return None if found is None else found[0]

    def piece(self, name: str, offset: int, length: int) -> bytes:
        """At most ``length`` bytes of an object from ``offset`` on; ``NotFound``, ``Outage``."""
        size = self.size(name)
        if size is None:
            raise NotFound(f"{name} is not in the store", subject=name)
        wanted = max(0, min(length, size - offset))
        if not wanted:
            return b""
        part = f"bytes={offset}-{offset + wanted - 1}"
        answer = self._bucket.call("get_object", name, Range=part)
        with self._bucket.translated("get_object", name), closing(answer["Body"]) as body:
            data = bytes(body.read())
        if len(data) != wanted:
            raise Outage(f"{name}: cut after {len(data)} bytes", code="aws-unreachable")
        return data

    def digest(self, name: str) -> tuple[int, str] | None:
        """Length in bytes and SHA-256 of an object, streamed; None when it is not there."""
        try:
            answer = self._bucket.call("get_object", name)
        except Absent:
            return None
        hasher, length = hashlib.sha256(), 0
        with self._bucket.translated("get_object", name), closing(answer["Body"]) as body:
            while chunk := body.read(_CHUNK):
                hasher.update(chunk)
                length += len(chunk)
        return length, hasher.hexdigest()

    def size(self, name: str) -> int | None:
        """Length in bytes of an object, without reading it; None when it is not there."""
        try:
            return int(told(self._bucket.call("head_object", name), "ContentLength", name))
        except Absent:
            return None

    def list(self, prefix: str) -> Iterator[str]:
        """Names that begin with ``prefix``, sorted as S3 sorts them: by their bytes."""
        if prefix.rpartition("/")[0]:
            check_name(prefix.rpartition("/")[0])
        for page in self._bucket.pages("list_objects_v2", Prefix=prefix):
            keys = (told(item, "Key", prefix) for item in page.get("Contents", ()))
            names = (self._bucket.name_of(key) for key in keys)
            yield from (name for name in names if name)

    # -- writing -------------------------------------------------------------------------------
    def put(self, name: str, data: bytes) -> None:
        """Create an immutable object. The same bytes again: nothing. Others: ``Busy``."""
        try:
            self._bucket.create(name, data, "immutable")
        except (Unmet, Conflict):
            if not self._holds(name, data):
                raise taken(name) from None

    def swap(self, name: str, data: bytes, expected: bytes | None) -> None:
        """Replace ``name`` if it still holds ``expected`` (None: absent); else ``Busy``."""
        for turn in range(TURNS):
            condition = self._condition(name, expected)
            try:
                self._bucket.write(name, data, "mutable", **condition)
            except (Unmet, Absent):
                if self._holds(name, data):
                    return
                raise lost_race(name) from None
            except Conflict:
                pause(turn)
            else:
                return
        raise lost_race(name)

    def upload(self, item: Upload, progress: Callable[[int], None] | None = None) -> None:
        """Copy an image in; large ones in parts, resumed where a killed one stopped.

        ``progress`` gets the bytes that are there so far. The source is not needed once they all
        are. Raises ``NotFound`` or ``Malformed`` (the source is gone or has changed),
        ``Refusal("image-mismatch")`` when the store holds other bytes under this name.
        """
        self._uploader.upload(item, progress)

    def remove(self, name: str) -> None:
        """Remove an object; what is not there gets no delete marker either.

        In a versioned bucket it is gone for readers, and its bytes go with the bucket's lifecycle.
        """
        if self.size(name) is not None:
            self._bucket.call("delete_object", name)

    # -- helpers -------------------------------------------------------------------------------
    def _read(self, name: str, limit: int) -> tuple[bytes, str] | None:
        """Bytes and entity tag."""
        try:
            answer = self._bucket.call("get_object", name)
        except Absent:
            return None
        data = b""
        with self._bucket.translated("get_object", name), closing(answer["Body"]) as body:
            # to its end, where the checksum is compared, or until it is too long
            while len(data) <= limit and (chunk := body.read(limit + 1 - len(data))):
                data += chunk
        if len(data) > limit:
            raise Refusal("oversize", f"{name} is longer than {limit} bytes", subject=name)
        return data, str(told(answer, "ETag", name))

    def _holds(self, name: str, data: bytes) -> bool:
        try:
            return self.get(name, len(data)) == data
        except Refusal:
            return False

    def _condition(self, name: str, expected: bytes | None) -> dict[str, str]:
        """The header under which a swap may happen; ``Busy`` when it is too late already."""
        if expected is None:
            return {"IfNoneMatch": "*"}
        try:
            found = self._read(name, len(expected))
        except Refusal:
            raise lost_race(name) from None
        if found is None or found[0] != expected:
            raise lost_race(name)
        return {"IfMatch": found[1]}
