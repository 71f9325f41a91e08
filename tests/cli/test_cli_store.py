"""``ota store serve``: a real server on loopback, with ranges, that shows nothing unfinished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from tests.cli.conftest import Ota

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def url(ota: Ota) -> Iterator[str]:
    """The store's address; the server is interrupted afterwards and must end cleanly."""
    target = ota.folder / "store" / "image" / "targets" / "app"
    (target / ".tmp-1").write_bytes(b"half")
    (target / "big.bin").write_bytes(bytes(range(256)) * 16)
    server = subprocess.Popen(
        [sys.executable, "-m", "ota", "-C", str(ota.folder), "store", "serve", "-o", "csv"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    )
    assert server.stdout
    assert server.stdout.readline() == "url\n"
    yield server.stdout.readline().strip()
    server.send_signal(signal.SIGTERM)
    _, err = server.communicate(timeout=20)
    assert "Traceback" not in err


def get(url: str, **headers: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", url, headers=headers, redirect=False, retries=False)


def test_serves_ranges_and_hides_the_unfinished(url: str) -> None:
    """Whole files, ranges with If-Range, 404 for missing, hidden and outside names."""
    assert get(url + "image/metadata/timestamp.json").status == 200
    big = url + "image/targets/app/big.bin"
    whole = get(big)
    part = get(big, Range="bytes=10-19", **{"If-Range": whole.headers["etag"]})
    assert (part.status, part.data) == (206, bytes(range(10, 20)))
    assert part.headers["content-range"] == "bytes 10-19/4096"
    stale = get(big, Range="bytes=10-19", **{"If-Range": '"other"'})
    assert (stale.status, len(stale.data)) == (200, 4096)
    for name in ("image/targets/app/.tmp-1", "nothing", "..%2fota.toml", "image/", ".repo.lock"):
        assert get(url + name).status == 404, name
    assert urllib3.request("PUT", big, body=b"x", retries=False).status == 405


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (["--host", "0.0.0.0"], 2, "usage"),  # noqa: S104 - must be refused
        (["--host", "example.org"], 2, "usage"),
        (["--port", "70000"], 2, "usage"),
    ],
)
def test_only_loopback(ota: Ota, words: list[str], code: int, name: str) -> None:
    """The pilot's server never listens to a network."""
    result = ota("store", "serve", *words)
    assert (result.code, result.out) == (code, "")
    assert f"code: {name}\n" in result.err


def test_port_taken(ota: Ota) -> None:
    """A port in use is an error of exit 1 that says how to take a free one."""
    import socket  # noqa: PLC0415 - the other server

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = ota("store", "serve", "--port", str(port))
    assert (result.code, result.err) == (
        1,
        f"error: 127.0.0.1:{port}: Address already in use\ncode: outage\nnext: --port 0\n",
    )
