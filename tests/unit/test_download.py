"""The downloader ends, whatever the store does, and continues where it was cut."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulators.images import Item, release
from simulators.webstore import Handler, WebStore, webstore

from ota.agent.download import Downloader, DownloadLimits, check_url
from signing.errors import Malformed, OtaError, Outage, Refusal

QUICK = DownloadLimits(
    minimum_rate=50_000,
    window=0.3,
    connect=2,
    read=1,
    metadata_total=1.0,
    image_total=3.0,
    spare_space=0,
)
DATA = bytes(range(256)) * 4096


def item(data: bytes = DATA) -> Item:
    return Item(release("app/app-1.bin", data))


NAME = f"image/targets/app/{item().release.sha256}.app-1.bin"


@pytest.fixture
def store() -> Iterator[WebStore]:
    with webstore() as server:
        server.objects[NAME] = DATA
        server.objects["meta"] = b"{}"
        yield server


@pytest.fixture
def downloader(store: WebStore, tmp_path: Path) -> Downloader:
    return Downloader(store.url, tmp_path / "downloads", QUICK)


def test_metadata(downloader: Downloader) -> None:
    """Small objects come whole; 404 is None; too long is a refusal."""
    assert downloader.metadata("meta", 10) == b"{}"
    assert downloader.metadata("none", 10) is None
    with pytest.raises(Refusal) as caught:
        downloader.metadata("meta", 1)
    assert caught.value.code == "oversize"


def test_image_arrives_and_is_counted(downloader: Downloader) -> None:
    """The part has exactly the signed length, is private, and a second call fetches nothing."""
    counted: list[int] = []
    path = downloader.image(item(), counted.append)
    assert path.read_bytes() == DATA
    assert sum(counted) == len(DATA)
    assert path.stat().st_mode & 0o777 == 0o600
    assert downloader.image(item()) == path


def test_resume_after_a_cut(store: WebStore, downloader: Downloader) -> None:
    """A cut keeps the part; the next call asks for the rest only."""

    def cut(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("ETag", f'"{hashlib.sha256(DATA).hexdigest()[:16]}"')
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(DATA[:300_000])
        handler.close_connection = True

    store.behaviour[NAME] = cut
    with pytest.raises(Outage):
        downloader.image(item())
    del store.behaviour[NAME]
    assert downloader.image(item()).read_bytes() == DATA
    assert store.requests[-1] == (NAME, "bytes=300000-")


def test_changed_object_is_not_glued(store: WebStore, downloader: Downloader) -> None:
    """If the tag no longer matches, the image is fetched anew, never glued to the old part."""
    test_resume_after_a_cut(store, downloader)
    downloader.discard(item().release.sha256)
    part = Path(str(downloader.image(item())))
    part.write_bytes(b"x" * 1000)
    part.with_suffix(".tag").write_text('"another"')
    assert downloader.image(item()).read_bytes() == DATA


def test_longer_part_is_dropped(downloader: Downloader) -> None:
    """A part past the signed length is never used."""
    part = downloader.image(item())
    part.write_bytes(DATA + b"more")
    assert downloader.image(item()).read_bytes() == DATA


def _raw(*lines: bytes, then: Callable[[Handler], None] | None = None) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.wfile.write(b"".join(lines))
        handler.wfile.flush()
        if then is not None:
            then(handler)
        handler.close_connection = True

    return answer


def _drip(handler: Handler) -> None:
    for _ in range(60):
        time.sleep(0.1)
        handler.wfile.write(b"x")
        handler.wfile.flush()


def _endless(handler: Handler) -> None:
    for _ in range(4000):
        handler.wfile.write(b"x" * 65536)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HOSTILE: list[tuple[str, type[OtaError], Callable[[Handler], None]]] = [
    ("drip", Outage, _raw(OK, b"Content-Length: 1048576\r\n\r\n", then=_drip)),
    ("drip in the headers", Outage, _raw(OK, b"X-A: ", then=_drip)),
    ("endless", Refusal, _raw(OK, b"\r\n", then=_endless)),
    ("longer by its own word", Refusal, _raw(OK, b"Content-Length: 99999999\r\n\r\n")),
    ("cut", Outage, _raw(OK, b"Content-Length: 1048576\r\n\r\n", b"x" * 10)),
    ("cut chunk", Outage, _raw(CHUNKED, b"ff\r\nabc")),
    ("bad chunk", Outage, _raw(CHUNKED, b"zz\r\nabc\r\n")),
    ("not HTTP", Outage, _raw(b"SSH-2.0-OpenSSH_9\r\n\r\n")),
    (
        "redirect",
        Outage,
        _raw(b"HTTP/1.1 302 Found\r\nLocation: /meta\r\nContent-Length: 0\r\n\r\n"),
    ),
    ("server error", Outage, _raw(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")),
    ("range nobody asked for", Outage, _raw(b"HTTP/1.1 206 P\r\nContent-Length: 1\r\n\r\nx")),
    ("silence", Outage, _raw(b"", then=lambda _h: time.sleep(1.5))),
]


@pytest.mark.parametrize(("name", "kind", "behave"), HOSTILE, ids=[h[0] for h in HOSTILE])
def test_hostile_image(
    store: WebStore,
    downloader: Downloader,
    name: str,
    kind: type[OtaError],
    behave: Callable[[Handler], None],
) -> None:
    """Each ends within its limits under its own error, and the honest store works next."""
    store.behaviour[NAME] = behave
    started = time.monotonic()
    with pytest.raises(kind):
        downloader.image(item())
    assert time.monotonic() - started < QUICK.image_total + 2
    store.behaviour.clear()
    downloader.discard(item().release.sha256)
    assert downloader.image(item()).read_bytes() == DATA


@pytest.mark.parametrize("name", ["drip", "drip in the headers", "cut", "cut chunk", "not HTTP"])
def test_hostile_metadata_is_an_outage(store: WebStore, downloader: Downloader, name: str) -> None:
    """A broken line is never taken for tampering."""
    store.behaviour["meta"] = next(b for n, _, b in HOSTILE if n == name)
    with pytest.raises(Outage):
        downloader.metadata("meta", 2_000_000)


def test_nobody_listens(tmp_path: Path) -> None:
    """A refused connection is an outage."""
    with webstore() as gone:
        url = gone.url
    with pytest.raises(Outage) as caught:
        Downloader(url, tmp_path, QUICK).metadata("meta", 10)
    assert caught.value.code == "outage", "refused is not slow"


def test_full_disk(store: WebStore, tmp_path: Path) -> None:
    """ENOSPC before and during the copy is ``no-space``; the part stays within its folder."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(small)], check=True, timeout=10
    )
    try:
        with pytest.raises(Outage) as before:
            Downloader(store.url, small / "d", QUICK).image(item())
        assert before.value.code == "no-space"
        limits = DownloadLimits(spare_space=-(2**30))
        with pytest.raises(Outage) as during:
            Downloader(store.url, small / "d", limits).image(item())
        assert during.value.code == "no-space"
    finally:
        subprocess.run(["umount", str(small)], check=True, timeout=10)


def test_file_store(tmp_path: Path) -> None:
    """A folder is a store too, with resume; links in it are not followed."""
    root = tmp_path / "a store"
    (root / NAME).parent.mkdir(parents=True)
    (root / NAME).write_bytes(DATA)
    downloader = Downloader(f"file://{str(root).replace(' ', '%20')}", tmp_path / "d", QUICK)
    assert downloader.metadata("nothing", 5) is None
    part = downloader.image(item())
    assert part.read_bytes() == DATA
    with part.open("r+b") as out:
        out.truncate(1000)
    assert downloader.image(item()).read_bytes() == DATA
    (root / "link").symlink_to("/etc/hostname")
    with pytest.raises(Outage):
        downloader.metadata("link", 1000)
    with pytest.raises(Outage):
        downloader.metadata("image", 1000)


@pytest.mark.parametrize(
    "url",
    [
        "http://updates.example/",
        "ftp://127.0.0.1/",
        "https://u:p@h/",
        "https://h/?q=1",
        "",
        "x",
        "https://",
        "https:///x",
        "https://h:x/",
        "https://[::1/",
    ],
)
def test_urls_that_are_not_stores(url: str) -> None:
    """Clear text beyond loopback, secrets in URLs and other schemes are refused."""
    with pytest.raises(Malformed):
        check_url(url)


def test_sweep_keeps_one(downloader: Downloader, tmp_path: Path) -> None:
    """Only the part in use survives a sweep."""
    part = downloader.image(item())
    (tmp_path / "downloads" / ("0" * 64 + ".part")).write_bytes(b"old")
    downloader.sweep(keep=item().release.sha256)
    assert sorted(p.name for p in part.parent.iterdir()) == sorted(
        [part.name, part.with_suffix(".tag").name]
    )
