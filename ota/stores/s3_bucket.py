"""One bucket, as every caller here sees it: names in, our errors out.

Credentials, region, endpoint, addressing, proxies and retries are boto3's own, from the user's
environment and profile (``AWS_ENDPOINT_URL_S3``, ``AWS_MAX_ATTEMPTS``, ``AWS_RETRY_MODE`` ...).

>>> bucket = Bucket(Place("updates", "plant-7", sse="aws:kms", kms_key="alias/ota-store"))
>>> bucket.call("head_object", "image/metadata/timestamp.json")["ETag"]
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from botocore import exceptions as boto

from ota.aws import errors
from ota.aws.client import client
from ota.aws.pacing import Rest
from ota.errors import OtaError, Outage
from ota.stores import s3_errors
from ota.stores.common import check_name, is_name
from ota.stores.s3_errors import Attempt, Conflict

_NOBODY = (boto.EndpointConnectionError, boto.ConnectTimeoutError)
TURNS = 5
"""How often a conditional write is tried that meets another one."""
Kind = Literal["mutable", "immutable", "image"]
_CACHE = {
    "mutable": "no-cache",
    "immutable": "max-age=31536000, immutable",
    "image": "max-age=31536000, immutable",
}
"""``timestamp.json`` is asked for anew each time; all else never changes under its name."""


@dataclass(frozen=True)
class Place:
    """Where objects go and how they are written.

    ``sse``: ``AES256``, ``aws:kms``, ``aws:kms:dsse``, or "" for the bucket's own default.
    ``owner``: the account that must own the bucket; S3 refuses every call otherwise.
    ``storage_class``: of images only; metadata is small and read often. ``region`` "": boto3's own.
    """

    bucket: str
    prefix: str = ""
    sse: str = ""
    kms_key: str = ""
    bucket_key: bool = True
    owner: str = ""
    storage_class: str = ""
    region: str = ""


class Bucket:
    """Calls of one bucket's client; safe to share between threads."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._root = f"{place.prefix}/" if place.prefix else ""
        self._common = {"Bucket": place.bucket}
        self._rest = Rest()
        if place.owner:
            self._common["ExpectedBucketOwner"] = place.owner

    @property
    def name(self) -> str:
        """The bucket and its prefix; what an upload's state belongs to."""
        return f"s3://{self._place.bucket}/{self._root}"

    def key(self, name: str) -> str:
        """The object's key; ``Malformed`` unless ``name`` is one of a store."""
        check_name(name)
        return self._root + name

    def call(self, operation: str, name: str, **parameters: Any) -> dict[str, Any]:
        """One call about one object; raises what ``s3_errors`` makes of its failure."""
        key = self.key(name)
        self._rest.check("s3")
        with self.translated(operation, name):
            answer: dict[str, Any] = getattr(self._client, operation)(
                Key=key, **self._common, **parameters
            )
        return answer

    def create(self, name: str, data: bytes, kind: Kind) -> None:
        """Write an object that must not exist: ``Unmet`` when it does."""
        self.write(name, data, kind, IfNoneMatch="*")

    def write(self, name: str, data: bytes, kind: Kind, **condition: str) -> None:
        """Write under a condition, with its checksum; ``Unmet``, ``Absent``, ``Conflict``.

        While another conditional write is under way S3 says 409: creating is tried again here;
        whoever replaces must read again first.
        """
        for turn in itertools.count():
            try:
                self.call(
                    "put_object",
                    name,
                    Body=io.BytesIO(data),
                    ChecksumSHA256=base64.b64encode(hashlib.sha256(data).digest()).decode(),
                    **self.written(name, kind),
                    **condition,
                )
            except Conflict:
                if "IfNoneMatch" not in condition or turn == TURNS - 1:
                    raise
                pause(turn)
            else:
                return

    def pages(self, operation: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Every page of a listing of the bucket; ``Prefix`` counts from the store's own."""
        parameters["Prefix"] = prefix = self._root + parameters.pop("Prefix", "")
        with self._translated(operation, prefix):
            paginator = self._client.get_paginator(operation)
            yield from paginator.paginate(**self._common, **parameters)

    def parts(self, name: str, upload: str) -> Iterator[dict[str, Any]]:
        """The parts of a multipart upload that S3 holds, every page of them."""
        key = self.key(name)
        with self.translated("list_parts", name):
            paginator = self._client.get_paginator("list_parts")
            for page in paginator.paginate(Key=key, UploadId=upload, **self._common):
                yield from page.get("Parts", ())

    def name_of(self, key: str) -> str:
        """The name behind a key, or "" for what no publisher of ours has put there."""
        name = key.removeprefix(self._root)
        return name if is_name(name) else ""

    def written(self, name: str, kind: Kind) -> dict[str, Any]:
        """How an object of this kind is written: type, caching, encryption, class."""
        place = self._place
        json = name.endswith(".json") and kind != "image"
        found: dict[str, Any] = {
            "ContentType": "application/json" if json else "application/octet-stream",
            "CacheControl": _CACHE[kind],
        }
        if place.sse:
            found["ServerSideEncryption"] = place.sse
        if place.kms_key:
            found["SSEKMSKeyId"] = place.kms_key
        if place.sse == "aws:kms":
            found["BucketKeyEnabled"] = place.bucket_key
        if place.storage_class and kind == "image":
            found["StorageClass"] = place.storage_class
        return found

    def translated(self, operation: str, name: str) -> contextlib.AbstractContextManager[None]:
        """Errors of botocore within become ours."""
        return self._translated(operation, self._root + name)

    # -- the client ----------------------------------------------------------------------------
    @cached_property
    def _client(self) -> Any:
        return client("s3", region=self._place.region)

    @contextlib.contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[None]:
        attempt = Attempt(
            operation, self._place.bucket, key, self._client.meta.partition, self._identity
        )
        with errors.translated(attempt.call):
            try:
                yield
            except boto.ClientError as e:
                raise s3_errors.answered(e, attempt) from e
            except boto.BotoCoreError as e:
                error = s3_errors.unanswered(e, attempt)
                if isinstance(e, _NOBODY) and isinstance(error, Outage):
                    self._rest.begin("s3", error)
                raise error from e

    def _identity(self) -> str:
        """The ARN of these credentials, or "" where it can not be learnt."""
        try:
            return str(client("sts", region=self._place.region).get_caller_identity()["Arn"])
        except (OtaError, boto.ClientError, boto.BotoCoreError, KeyError):
            return ""


def pause(turn: int) -> None:
    """Let the other conditional write end; two that collide part again."""
    time.sleep(0.05 * 2**turn * (1 + random.random()))  # noqa: S311 - spreads load
