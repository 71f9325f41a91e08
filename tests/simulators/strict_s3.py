"""An S3 that takes nothing for granted: what the emulator does not model, and what no honest S3 says.

It checks every signature with botocore's own SigV4, session tokens and their end, the clock, the
region, every checksum and entity tag, that all ``x-amz-`` headers are signed, and that parts but
the last have 5 MiB (``least``). Pages are short (``page``). ``before`` may answer in its place,
``after`` may lose the answer of what it has done.

>>> with strict_s3() as s3:
...     s3.before = lambda r: s3.fault(503, "SlowDown") if r.operation == "PutObject" else None
...     s3.use(monkeypatch)
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import hashlib
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from simulators.pki import Authority
from simulators.serving import in_thread

REGION = "eu-west-1"
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([a-z0-9-]+)/s3/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)


@dataclass(frozen=True)
class Key:
    """Credentials that it knows."""

    id: str
    secret: str
    token: str = ""
    expires: datetime | None = None
    reads: tuple[str, ...] | None = None
    """Keys that it may get, as patterns, and nothing else; None: everything."""


@dataclass
class Stored:
    """An object: ``checksum`` as S3 tells it; ``data`` is empty when nothing is kept."""

    data: bytes
    length: int
    etag: str
    checksum: str
    headers: dict[str, str]


@dataclass
class Begun:
    """A multipart upload: number -> (data, length, entity tag, checksum)."""

    key: str
    headers: dict[str, str]
    parts: dict[int, tuple[bytes, int, str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What was asked, after the signature held."""

    operation: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    by: Key


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Said(Exception):
    """An error of S3 as a reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body)
        self.reply = reply


class StrictS3(ThreadingHTTPServer):
    """See the module. ``may(action, key)`` is the policy of whoever asks."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if context is not None:
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.scheme = "http" if context is None else "https"
        self.bucket, self.region = "updates", REGION
        self.regions = {REGION}
        self.key = Key("AKIAIOSFODNN7EXAMPLE", "a throw-away secret")
        self.keys = {self.key.id: self.key}
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Begun] = {}
        self.requests: list[Request] = []
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.may: Callable[[str, str], bool] = lambda _action, _key: True
        self.before: Callable[[Request], Reply | None] = lambda _request: None
        self.after: Callable[[Request], bool] = lambda _request: False
        self.cut: dict[str, int] = {}
        self.page = 2
        self.least = 5 * 1024 * 1024
        self.keep = 1 << 40
        """Bytes of a body that are kept; of longer ones only length and hashes."""
        self.lock = threading.Lock()
        self._came: list[int] = []
        self._left: list[int] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        """One connection, in a thread of its own."""
        self._came.append(client_address[1])
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Until it is closed."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._left.append(client_address[1])

    def settle(self) -> None:
        """Wait until everything that was sent so far is carried out and its senders are gone."""
        with socket.create_connection(self.server_address[:2]) as last:
            mine = last.getsockname()[1]
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if mine in self._came and sorted(self._came) == sorted(self._left):
                return
            time.sleep(0.005)
        raise RuntimeError("somebody is still connected")

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the test."""

    def use(self, monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
        """Make it the S3 of boto3's environment."""
        words = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.key.id,
            "AWS_SECRET_ACCESS_KEY": self.key.secret,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "2",
            **more,
        }
        for name, value in words.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    def asked(self, operation: str) -> list[Request]:
        """The requests of one operation, in order."""
        return [r for r in self.requests if r.operation == operation]

    def put(self, key: str, data: bytes) -> None:
        """Put an object there behind everybody's back."""
        self.objects[key] = _stored(data, {})

    # -- answers -------------------------------------------------------------------------------
    def fault(
        self, status: int, code: str, message: str = "as the test wants it", **more: str
    ) -> Reply:
        """An error as S3 writes it; ``more`` are further elements."""
        extra = "".join(f"<{n}>{escape(v)}</{n}>" for n, v in more.items())
        text = f"<Code>{code}</Code><Message>{escape(message)}</Message>{extra}"
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{text}</Error>'
        return Reply(status, body.encode(), {"Content-Type": "application/xml"})

    def refuse(self, status: int, code: str, **more: str) -> Said:
        """The same, to be raised."""
        return Said(self.fault(status, code, **more))

    def answer(self, request: Request) -> Reply:
        """Do what was asked."""
        action = _ACTIONS[request.operation]
        if request.headers.get("x-amz-expected-bucket-owner", "111122223333") != "111122223333":
            raise self.refuse(403, "AccessDenied")
        if not self._may(request.by, action, request.key):
            raise self.refuse(403, "AccessDenied", message="Access Denied")
        with self.lock:
            reply: Reply = getattr(self, f"_{_snake(request.operation)}")(request)
            return reply

    def _may(self, who: Key, action: str, key: str) -> bool:
        if who.reads is None:
            return self.may(action, key)
        return action == "s3:GetObject" and any(fnmatch.fnmatchcase(key, p) for p in who.reads)

    # -- objects -------------------------------------------------------------------------------
    def _found(self, request: Request) -> Stored:
        if request.key not in self.objects:
            if not self._may(request.by, "s3:ListBucket", ""):
                raise self.refuse(403, "AccessDenied", message="Access Denied")
            raise self.refuse(404, "NoSuchKey", Key=request.key)
        return self.objects[request.key]

    def _head_object(self, request: Request) -> Reply:
        found = self._found(request)
        return Reply(200, b"", _described(found, request) | {"Content-Length": str(found.length)})

    def _get_object(self, request: Request) -> Reply:
        found = self._found(request)
        described = _described(found, request)
        if request.headers.get("if-match", found.etag) != found.etag:
            raise self.refuse(412, "PreconditionFailed")
        span = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if span is None:
            return Reply(200, found.data, described)
        start = int(span[1])
        if start >= found.length:
            raise self.refuse(416, "InvalidRange")
        described.pop("x-amz-checksum-sha256", "")
        span_text = f"bytes {start}-{found.length - 1}/{found.length}"
        return Reply(206, found.data[start:], described | {"Content-Range": span_text})

    def _put_object(self, request: Request) -> Reply:
        self._check_conditions(request)
        self._check_body(request)
        made = _stored(
            request.body if len(request.body) <= self.keep else b"", request.headers, request.body
        )
        self.objects[request.key] = made
        return Reply(200, b"", {"ETag": made.etag, "x-amz-checksum-sha256": made.checksum})

    def _delete_object(self, request: Request) -> Reply:
        self.objects.pop(request.key, None)
        return Reply(204)

    def _check_conditions(self, request: Request) -> None:
        there = self.objects.get(request.key)
        if request.headers.get("if-none-match") == "*" and there is not None:
            raise self.refuse(412, "PreconditionFailed")
        wanted = request.headers.get("if-match")
        if wanted is not None and there is None:
            raise self.refuse(404, "NoSuchKey")
        if wanted is not None and there is not None and wanted != there.etag:
            raise self.refuse(412, "PreconditionFailed")

    def _check_body(self, request: Request) -> None:
        said = request.headers.get("x-amz-checksum-sha256")
        if said is None:
            raise self.refuse(400, "InvalidRequest", message="a checksum is wanted here")
        if said != _base64(request.body):
            raise self.refuse(400, "BadDigest")

    def _list_objects_v2(self, request: Request) -> Reply:
        after = request.query.get("continuation-token", "")
        keys = sorted(k for k in self.objects if k.startswith(request.query.get("prefix", "")))
        rest = [k for k in keys if k > after]
        items = "".join(f"<Contents><Key>{escape(k)}</Key></Contents>" for k in rest[: self.page])
        more = len(rest) > self.page
        mark = escape(rest[self.page - 1]) if more else ""
        tail = f"<NextContinuationToken>{mark}</NextContinuationToken>" if more else ""
        words = f"<IsTruncated>{str(more).lower()}</IsTruncated>{tail}"
        return _xml(f"<ListBucketResult {_NAMESPACE}>{items}{words}</ListBucketResult>")

    # -- parts ---------------------------------------------------------------------------------
    def _begun(self, request: Request) -> Begun:
        found = self.uploads.get(request.query["uploadId"])
        if found is None or found.key != request.key:
            raise self.refuse(404, "NoSuchUpload")
        return found

    def _create_multipart_upload(self, request: Request) -> Reply:
        if request.headers.get("x-amz-checksum-algorithm") != "SHA256":
            raise self.refuse(400, "InvalidRequest")
        name = uuid.uuid4().hex
        self.uploads[name] = Begun(request.key, request.headers)
        text = f"<UploadId>{name}</UploadId>"
        return _xml(
            f"<InitiateMultipartUploadResult {_NAMESPACE}>{text}</InitiateMultipartUploadResult>"
        )

    def _upload_part(self, request: Request) -> Reply:
        begun, number = self._begun(request), int(request.query["partNumber"])
        self._check_body(request)
        checksum, tag = _base64(request.body), _etag(request.body)
        kept = request.body if len(request.body) <= self.keep else b""
        begun.parts[number] = (kept, len(request.body), tag, checksum)
        return Reply(200, b"", {"ETag": tag, "x-amz-checksum-sha256": checksum})

    def _list_parts(self, request: Request) -> Reply:
        begun, after = self._begun(request), int(request.query.get("part-number-marker", "0"))
        rest = [n for n in sorted(begun.parts) if n > after]
        items = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{escape(tag)}</ETag><Size>{length}</Size>"
            f"<ChecksumSHA256>{checksum}</ChecksumSHA256></Part>"
            for n, (_, length, tag, checksum) in ((n, begun.parts[n]) for n in rest[: self.page])
        )
        more = len(rest) > self.page
        mark = f"<NextPartNumberMarker>{rest[self.page - 1]}</NextPartNumberMarker>" if more else ""
        words = f"<IsTruncated>{str(more).lower()}</IsTruncated>{mark}"
        return _xml(f"<ListPartsResult {_NAMESPACE}>{items}{words}</ListPartsResult>")

    def _complete_multipart_upload(self, request: Request) -> Reply:
        begun = self._begun(request)
        self._check_conditions(request)
        named = [
            (
                int(p.findtext("{*}PartNumber", "0")),
                p.findtext("{*}ETag"),
                p.findtext("{*}ChecksumSHA256"),
            )
            for p in ET.fromstring(request.body).findall("{*}Part")  # noqa: S314 - boto3's own
        ]
        parts = [begun.parts.get(number) for number, _, _ in named]
        wanted = [(p[2], p[3]) if p else None for p in parts]
        if not named or wanted != [(tag, checksum) for _, tag, checksum in named]:
            raise self.refuse(400, "InvalidPart")
        whole = [p for p in parts if p is not None]
        if any(p[1] < self.least for p in whole[:-1]):
            raise self.refuse(400, "EntityTooSmall")
        length = sum(p[1] for p in whole)
        if request.headers.get("x-amz-mp-object-size", str(length)) != str(length):
            raise self.refuse(400, "InvalidRequest")
        together = b"".join(base64.b64decode(p[3]) for p in whole)
        checksum = f"{_base64(together)}-{len(whole)}"
        tag = f'"{hashlib.md5(together).hexdigest()}-{len(whole)}"'  # noqa: S324 - S3's way
        data = b"".join(p[0] for p in whole)
        self.objects[request.key] = Stored(data, length, tag, checksum, begun.headers)
        del self.uploads[request.query["uploadId"]]
        text = f"<ETag>{escape(tag)}</ETag><ChecksumSHA256>{checksum}</ChecksumSHA256>"
        return _xml(
            f"<CompleteMultipartUploadResult {_NAMESPACE}>{text}</CompleteMultipartUploadResult>"
        )

    def _abort_multipart_upload(self, request: Request) -> Reply:
        self._begun(request)
        del self.uploads[request.query["uploadId"]]
        return Reply(204)

    # -- who asks ------------------------------------------------------------------------------
    def authenticate(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Key:
        """Who asks; raises what S3 says of a request that is not signed as it should be."""
        match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        if match is None:
            raise self.refuse(403, "AccessDenied", message="Access Denied")
        key_id, day, region, signed, signature = match.groups()
        amz_date = headers.get("x-amz-date", "")
        if region not in self.regions:
            raise self.refuse(400, "AuthorizationHeaderMalformed", Region=self.region)
        try:
            moment = datetime.strptime(amz_date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise self.refuse(403, "AccessDenied") from None
        if abs(moment - self.now()) > timedelta(minutes=15) or day != amz_date[:8]:
            times = {"RequestTime": amz_date, "ServerTime": f"{self.now():%Y-%m-%dT%H:%M:%SZ}"}
            raise self.refuse(403, "RequestTimeTooSkewed", **times)
        key = self.keys.get(key_id)
        if key is None:
            raise self.refuse(403, "InvalidAccessKeyId")
        if headers.get("x-amz-security-token", "") != key.token:
            raise self.refuse(400, "InvalidToken")
        if key.expires is not None and key.expires <= self.now():
            raise self.refuse(400, "ExpiredToken")
        names = signed.split(";")
        loose = [h for h in headers if (h.startswith("x-amz-") or h == "host") and h not in names]
        if loose or signature != self._signature(key, method, target, headers, names, region):
            raise self.refuse(403, "SignatureDoesNotMatch", Loose=" ".join(loose))
        claimed = headers.get("x-amz-content-sha256", "")
        if claimed not in {"UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()}:
            raise self.refuse(400, "XAmzContentSHA256Mismatch")
        return key

    def _signature(
        self,
        key: Key,
        method: str,
        target: str,
        headers: dict[str, str],
        names: list[str],
        region: str,
    ) -> str:
        """What botocore's own signer makes of it."""
        auth = S3SigV4Auth(Credentials(key.id, key.secret, key.token or None), "s3", region)
        url = f"{self.scheme}://{headers['host']}{target}"
        request = AWSRequest(method, url, headers={n: headers.get(n, "") for n in names})
        request.context["timestamp"] = headers["x-amz-date"]
        text = auth.string_to_sign(request, auth.canonical_request(request))
        return str(auth.signature(text, request))


class _Handler(BaseHTTPRequestHandler):
    server: StrictS3
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the answer to its headers

    def log_message(self, *args: object) -> None:
        """Be quiet."""

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        parts = urlsplit(self.path)
        path = unquote(parts.path).lstrip("/")
        bucket, _, key = path.partition("/")
        query = {n: v[0] for n, v in parse_qs(parts.query, keep_blank_values=True).items()}
        operation, s3 = _operation(self.command, key, query), self.server
        request = Request(operation, key, query, headers, body, s3.key)
        try:
            who = s3.authenticate(self.command, self.path, headers, body)
            request = replace(request, by=who)
            s3.requests.append(request)
            if bucket != s3.bucket:
                raise s3.refuse(404, "NoSuchBucket", BucketName=bucket)
            reply = s3.before(request) or s3.answer(request)
        except Said as e:
            reply = e.reply
        if s3.after(request):
            self.close_connection = True
            return
        self._reply(reply, s3.cut.pop(key, None))

    def _reply(self, reply: Reply, cut: int | None) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body if cut is None else reply.body[:cut])
        self.close_connection = self.close_connection or cut is not None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names


_ACTIONS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "DeleteObject": "s3:DeleteObject",
    "ListObjectsV2": "s3:ListBucket",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "ListParts": "s3:ListMultipartUploadParts",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
}


def _operation(method: str, key: str, query: dict[str, str]) -> str:
    if "uploadId" in query:
        return {
            "PUT": "UploadPart",
            "POST": "CompleteMultipartUpload",
            "GET": "ListParts",
            "DELETE": "AbortMultipartUpload",
        }[method]
    if "uploads" in query:
        return "CreateMultipartUpload"
    if not key:
        return "ListObjectsV2"
    return {"GET": "Get", "HEAD": "Head", "PUT": "Put", "DELETE": "Delete"}[method] + "Object"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _stored(data: bytes, headers: dict[str, str], of: bytes | None = None) -> Stored:
    whole = data if of is None else of
    return Stored(data, len(whole), _etag(whole), _base64(whole), headers)


def _described(found: Stored, request: Request) -> dict[str, str]:
    headers = {"ETag": found.etag}
    for name in ("cache-control", "content-type", "x-amz-server-side-encryption"):
        if name in found.headers:
            headers[name] = found.headers[name]
    if request.headers.get("x-amz-checksum-mode") == "ENABLED":
        headers["x-amz-checksum-sha256"] = found.checksum
    return headers


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'  # noqa: S324 - S3's way


def _base64(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _xml(text: str) -> Reply:
    return Reply(200, text.encode(), {"Content-Type": "application/xml"})


@contextlib.contextmanager
def strict_s3(authority: Authority | None = None) -> Iterator[StrictS3]:
    """Run it in a thread on a free loopback port; over TLS with an ``authority``."""
    context = None
    if authority is not None:
        own = authority.issue("s3", server=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.certificate, own.key)
    with in_thread(StrictS3(context)) as server:
        yield server
