"""An upload in parts, killed at every request and resumed; and what it must not be resumed with."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulators.strict_s3 import Request, StrictS3, strict_s3

from ota.errors import Malformed, Outage
from ota.stores.s3 import S3Store
from ota.stores.s3_bucket import Place
from signing.edition import Upload

NAME = "image/targets/app/x.bin"
KEY = f"p/{NAME}"
PART = 64 * 1024
PARTS = 4
DATA = os.urandom((PARTS - 1) * PART + 17)
REQUESTS = 1 + 1 + 1 + PARTS + 1 + 1
"""Head, create, list, the parts, complete, head."""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    with strict_s3() as server:
        server.least = PART
        server.use(monkeypatch, AWS_MAX_ATTEMPTS="1")
        yield server


def make(folder: Path) -> S3Store:
    """A publisher's store, as a process of its own makes it."""
    return S3Store(Place("updates", "p"), folder / "uploads", part=PART)


def item(folder: Path, data: bytes = DATA) -> Upload:
    source = folder / "source.bin"
    source.write_bytes(data)
    return Upload(NAME, source, hashlib.sha256(DATA).hexdigest(), len(DATA))


def killed(s3: StrictS3, folder: Path, at: int, *, after: bool) -> bool:
    """Upload in a process that is killed at its Nth request, before or after it is carried out."""
    upload, seen = item(folder), list[Request]()
    pid = os.fork()
    if pid == 0:
        try:
            make(folder).upload(upload)
        finally:
            os._exit(0)

    def strike(request: Request) -> bool:
        seen.append(request)
        if len(seen) == at:
            os.kill(pid, signal.SIGKILL)
        return len(seen) >= at

    if after:
        s3.after = strike
    else:
        s3.before = lambda request: s3.fault(503, "SlowDown") if strike(request) else None
    _, status = os.waitpid(pid, 0)
    s3.settle()
    s3.before, s3.after = (lambda _request: None), (lambda _request: False)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, REQUESTS + 1))
def test_killed_at_any_request_and_resumed(
    s3: StrictS3, tmp_path: Path, at: int, after: bool
) -> None:
    """The object appears whole; parts that had arrived are not sent again; none is left."""
    assert killed(s3, tmp_path, at, after=after)
    there = s3.objects.get(KEY)
    assert there is None or there.data == DATA
    had = {n for upload in s3.uploads.values() for n in upload.parts}
    s3.requests.clear()
    seen: list[int] = []
    make(tmp_path).upload(item(tmp_path), seen.append)
    assert s3.objects[KEY].data == DATA
    sent = {int(r.query["partNumber"]) for r in s3.asked("UploadPart")}
    assert sent == (set() if there else set(range(1, PARTS + 1)) - had)
    assert seen == sorted(seen)
    assert [upload.parts for upload in s3.uploads.values() if upload.parts] == []
    assert list((tmp_path / "uploads").glob("*")) == []


@pytest.mark.parametrize("tamper", ["other bytes", "one part more"])
def test_a_part_that_is_not_the_sources_ends_the_upload(
    s3: StrictS3, tmp_path: Path, tamper: str
) -> None:
    """Listed by S3 with another hash, or beyond the end: aborted, all of it is sent again."""
    assert killed(s3, tmp_path, 5, after=True)
    ((name, begun),) = s3.uploads.items()
    if tamper == "other bytes":
        begun.parts[1] = (b"x" * PART, PART, '"x"', "AAAA")
    else:
        begun.parts[PARTS + 1] = (b"x", 1, '"x"', "AAAA")
    s3.requests.clear()
    make(tmp_path).upload(item(tmp_path))
    assert name not in s3.uploads
    assert len(s3.asked("AbortMultipartUpload")) == 1
    assert len(s3.asked("UploadPart")) == PARTS
    assert s3.objects[KEY].data == DATA


def test_an_upload_that_s3_has_dropped_is_begun_anew(s3: StrictS3, tmp_path: Path) -> None:
    """A lifecycle rule, or a person, aborted it."""
    assert killed(s3, tmp_path, 5, after=True)
    s3.uploads.clear()
    make(tmp_path).upload(item(tmp_path))
    assert s3.objects[KEY].data == DATA


def test_an_upload_that_never_holds_ends(s3: StrictS3, tmp_path: Path) -> None:
    """S3 forgets each upload at once: two tries, then an outage with its own code."""
    gone = s3.fault(404, "NoSuchUpload")
    s3.before = lambda r: gone if r.operation == "CompleteMultipartUpload" else None
    with pytest.raises(Outage) as caught:
        make(tmp_path).upload(item(tmp_path))
    assert caught.value.code == "s3-upload"
    assert len(s3.asked("CreateMultipartUpload")) == 2
    assert s3.uploads == {}


def test_a_source_that_changed_meanwhile_is_not_glued_to_the_old_parts(
    s3: StrictS3, tmp_path: Path
) -> None:
    """The parts are dropped, nothing appears; with the right source all is well again."""
    assert killed(s3, tmp_path, 5, after=True)
    with pytest.raises(Malformed) as caught:
        make(tmp_path).upload(item(tmp_path, bytes(len(DATA))))
    assert caught.value.code == "source-changed"
    assert (s3.uploads, s3.objects) == ({}, {})
    make(tmp_path).upload(item(tmp_path))
    assert s3.objects[KEY].data == DATA


@pytest.mark.parametrize("memory", [b"", b"{}", b"\x00", b'{"store":"s3://updates/p/"}'])
def test_a_spoilt_memory_costs_one_upload(s3: StrictS3, tmp_path: Path, memory: bytes) -> None:
    """What was remembered is unreadable: begun anew, nothing believed."""
    assert killed(s3, tmp_path, 5, after=True)
    (path,) = (tmp_path / "uploads").glob("*.json")
    path.write_bytes(memory)
    make(tmp_path).upload(item(tmp_path))
    assert s3.objects[KEY].data == DATA
    assert not path.exists()
