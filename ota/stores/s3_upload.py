"""Images into a bucket: in one request, or in parts that survive a killed publisher.

1. An object under this name is compared with what was signed, by the checksums that S3 keeps of
   it; the same bytes are success, others are ``Refusal("image-mismatch")``.
2. The source is surveyed: its SHA-256 must be the signed one, and each part gets its own.
3. What fits into one part is one ``PutObject``.
4. Otherwise an upload is begun and remembered in ``<folder>/<hash>.json``, synced, before its first
   part; or the remembered one is continued with the parts that S3 lists, each compared by
   length and SHA-256 with the source. A part that differs means that something is wrong with all of
   it: the upload is aborted and begun anew, once.
5. Missing parts are sent, four at a time, each with its SHA-256, which S3 checks; bytes that
   are no longer those of the survey are never sent.
6. ``CompleteMultipartUpload`` with ``If-None-Match: *``: the object appears, or another publisher
   was first. An upload that S3 knows no more is begun anew, once.
7. Then (1) decides again, and what was remembered is removed.

An upload that is of no use is aborted. Who may not do that is told so, and what was remembered stays
until it is done; where S3 does not answer, its lifecycle rule does it.

Memory is at most nine parts of 8 MiB; images beyond 80 GB have larger parts, fewer at a time. Parts
that nobody comes back for are the business of the bucket's lifecycle rule
(``AbortIncompleteMultipartUpload``).
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ota.errors import Malformed, NotPermitted, OtaError, Outage, Refusal
from ota.stores.s3_bucket import Bucket
from ota.stores.s3_errors import Absent, Conflict, NoUpload, Unmet, damaged, told
from ota.stores.surveyed import Surveyed, survey
from signing import durable
from signing.edition import Upload

PART = 8 * 1024 * 1024
_MOST_PARTS = 10_000
_AT_ONCE = 4
_IN_FLIGHT = 48 * 1024 * 1024
_MIB = 1024 * 1024
_LIMIT = 16 * 1024

Progress = Callable[[int], None]


class _Contradiction(Exception):
    """S3 lists a part that is not the source's."""


class _Begun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered of an upload under way."""

    store: str
    name: str
    sha256: str
    length: int
    part: int
    upload: str


@dataclass(frozen=True)
class _Work:
    """One upload in parts: the source, and its id at S3."""

    source: Surveyed
    upload: str

    @property
    def name(self) -> str:
        """The object's."""
        return self.source.item.name


class Uploader:
    """Uploads into one bucket; ``digest`` reads an object back where no checksum tells."""

    def __init__(
        self,
        bucket: Bucket,
        folder: Path,
        digest: Callable[[str], tuple[int, str] | None],
        *,
        part: int = PART,
    ) -> None:
        self._bucket = bucket
        self._folder = folder
        self._digest = digest
        self._part = part

    def upload(self, item: Upload, progress: Progress | None) -> None:
        """See ``S3Store.upload``."""
        # (1)
        if self._there(item, None):
            self._abandon(item)  # what this machine had begun, where another one was first
        else:
            try:
                self._send(item, progress or (lambda _done: None))
            except Malformed:
                with suppress(NotPermitted):  # the source is what a person must look at first
                    self._abandon(item)
                raise
        self._forget(item.name)

    def _send(self, item: Upload, tell: Progress) -> None:
        # (2)
        with survey(item, self._size(item.length)) as source:
            with suppress(Unmet):  # another publisher was first
                if len(source.digests) == 1:
                    self._bucket.create(item.name, source.piece(0), "image")  # (3)
                    tell(item.length)
                else:
                    self._in_parts(source, tell)
            # (7)
            if not self._there(item, source):
                raise _unkept(item)

    # -- what is there -------------------------------------------------------------------------
    def _there(self, item: Upload, source: Surveyed | None) -> bool:
        """Whether the object is there; ``Refusal`` when it is another one.

        An object in parts has a checksum of checksums: it is compared with the source's, or, when
        that is gone or was cut otherwise, the object is read back.
        """
        try:
            head = self._bucket.call("head_object", item.name, ChecksumMode="ENABLED")
        except Absent:
            return False
        checksum = str(head.get("ChecksumSHA256", ""))
        same = told(head, "ContentLength", item.name) == item.length
        if same and checksum != _text(bytes.fromhex(item.sha256)):
            same = "-" in checksum and self._made_of(checksum, item, source)
            same = same or self._digest(item.name) == (item.length, item.sha256)
        if not same:
            raise Refusal("image-mismatch", f"{item.name} has other bytes", subject=item.name)
        return True

    def _made_of(self, checksum: str, item: Upload, source: Surveyed | None) -> bool:
        if source is not None:
            return _composite(source) == checksum
        with suppress(OtaError), survey(item, self._size(item.length)) as found:
            return _composite(found) == checksum
        return False

    def _size(self, length: int) -> int:
        """The size of parts; a function of the length alone, so that a resumed one cuts alike."""
        if length <= self._part * _MOST_PARTS:
            return self._part
        return -(-length // _MOST_PARTS // _MIB) * _MIB

    # -- parts -----------------------------------------------------------------------------------
    def _in_parts(self, source: Surveyed, tell: Progress) -> None:
        for last in (False, True):
            work = _Work(source, self._remembered(source.item) or self._begin(source.item))
            try:
                # (4)
                parts = self._listed(work)
                # (5)
                self._send_parts(work, parts, tell)
                # (6)
                self._complete(work, parts)
            except (NoUpload, Conflict, _Contradiction) as e:
                self._abort(work.name, work.upload)
                if self._there(source.item, source):
                    return
                if last:
                    raise _unkept(source.item) from e
            except Unmet:
                self._abort(work.name, work.upload)
                raise
            else:
                return

    def _remembered(self, item: Upload) -> str:
        """The id of the upload that was begun for exactly this, or ""."""
        data = durable.read(self._path(item.name), _LIMIT, "upload")
        try:
            found = msgspec.json.decode(data or b"", type=_Begun, strict=True)
        except msgspec.MsgspecError:
            return ""
        return found.upload if found == self._begun(item, found.upload) else ""

    def _begun(self, item: Upload, upload: str) -> _Begun:
        part = self._size(item.length)
        return _Begun(self._bucket.name, item.name, item.sha256, item.length, part, upload)

    def _begin(self, item: Upload) -> str:
        answer = self._bucket.call(
            "create_multipart_upload",
            item.name,
            ChecksumAlgorithm="SHA256",
            ChecksumType="COMPOSITE",
            **self._bucket.written(item.name, "image"),
        )
        begun = self._begun(item, str(told(answer, "UploadId", item.name)))
        durable.replace(self._path(item.name), msgspec.json.encode(begun), mode=0o600)
        return begun.upload

    def _listed(self, work: _Work) -> dict[int, str]:
        """Part number -> entity tag of the parts that S3 has; each must be the source's."""
        source, found = work.source, {}
        for part in self._bucket.parts(work.name, work.upload):
            index = int(told(part, "PartNumber", work.name)) - 1
            if index >= len(source.digests):
                raise _Contradiction
            wanted = (source.length(index), _text(source.digests[index]))
            if (part.get("Size"), part.get("ChecksumSHA256")) != wanted:
                raise _Contradiction
            found[index + 1] = str(told(part, "ETag", work.name))
        return found

    def _send_parts(self, work: _Work, parts: dict[int, str], tell: Progress) -> None:
        """Send what is missing from ``parts``, and add it there; stops at the first trouble."""
        source = work.source
        missing = [n for n in range(1, len(source.digests) + 1) if n not in parts]
        done = sum(source.length(n - 1) for n in parts)
        tell(done)
        workers = max(1, min(_AT_ONCE, _IN_FLIGHT // source.part))
        with ThreadPoolExecutor(workers, "upload") as pool:
            try:
                for future in as_completed(pool.submit(self._send_one, work, n) for n in missing):
                    number, parts[number] = future.result()
                    done += source.length(number - 1)
                    tell(done)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _send_one(self, work: _Work, number: int) -> tuple[int, str]:
        checksum = _text(work.source.digests[number - 1])
        answer = self._bucket.call(
            "upload_part",
            work.name,
            UploadId=work.upload,
            PartNumber=number,
            Body=io.BytesIO(work.source.piece(number - 1)),
            ChecksumSHA256=checksum,
        )
        if answer.get("ChecksumSHA256", checksum) != checksum:
            raise damaged(f"part {number} arrived as other bytes", work.name)
        return number, str(told(answer, "ETag", work.name))

    def _complete(self, work: _Work, parts: Mapping[int, str]) -> None:
        digests = work.source.digests
        listed = [
            {"PartNumber": n, "ETag": parts[n], "ChecksumSHA256": _text(digests[n - 1])}
            for n in sorted(parts)
        ]
        self._bucket.call(
            "complete_multipart_upload",
            work.name,
            UploadId=work.upload,
            MultipartUpload={"Parts": listed},
            MpuObjectSize=work.source.item.length,
            IfNoneMatch="*",
        )

    def _abandon(self, item: Upload) -> None:
        """The parts that were sent for this item, if any, are of no use."""
        upload = self._remembered(item)
        if upload:
            self._abort(item.name, upload)

    def _abort(self, name: str, upload: str) -> None:
        """Drop the parts; ``NotPermitted`` when we may not. See the module for all else."""
        try:
            self._bucket.call("abort_multipart_upload", name, UploadId=upload)
        except NotPermitted:
            raise
        except OtaError:
            pass
        self._forget(name)

    def _forget(self, name: str) -> None:
        if self._path(name).exists():
            durable.remove(self._path(name))

    def _path(self, name: str) -> Path:
        own = hashlib.sha256(f"{self._bucket.name}{name}".encode()).hexdigest()
        return self._folder / f"{own[:40]}.json"


def _composite(source: Surveyed) -> str:
    """The checksum that S3 gives to an object in these parts, the hash of their hashes.

    S3 user guide, "Checking object integrity".
    """
    whole = hashlib.sha256(b"".join(source.digests)).digest()
    return f"{_text(whole)}-{len(source.digests)}"


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _unkept(item: Upload) -> Outage:
    return Outage(
        f"{item.name}: S3 does not keep what was sent; tried twice",
        code="s3-upload",
        subject=item.name,
        remedy="the command again; look at who else writes to the bucket",
    )
