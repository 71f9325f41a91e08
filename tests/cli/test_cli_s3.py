"""``ota`` on a bucket: the same commands, two machines, and settings that are wrong."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulators.buckets import Made
from simulators.ministack import Account

from ota.cli.app import run
from ota.stores.s3 import S3Store
from tests.cli.conftest import BOTH, Ota


def moved(ota: Ota, made: Made, folder: Path) -> Ota:
    """A copy of the workspace, on another machine, whose store is the bucket."""
    shutil.copytree(ota.folder, folder, ignore=shutil.ignore_patterns("store"))
    text = (folder / "ota.toml").read_text()
    url = f"s3://{made.place.bucket}/{made.place.prefix}"
    (folder / "ota.toml").write_text(text.replace("file:store", url))
    return Ota(folder, ota.capsys, ota.now)


@pytest.fixture
def made(ota: Ota, aws: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Made:
    """A bucket with what the template has published."""
    made = Made.bucket(aws, monkeypatch, tmp_path)
    store, files = made.store(), ota.folder / "store"
    for path in sorted(p for p in files.rglob("*") if p.is_file() and ".tmp" not in p.parts):
        name = str(path.relative_to(files))
        if name.endswith("timestamp.json"):
            store.swap(name, path.read_bytes(), None)
        elif not name.startswith("."):
            store.put(name, path.read_bytes())
    return made


def add(ota: Ota, version: str) -> None:
    """A release that waits, signed by two."""
    image = ota.folder.parent / f"app-{version}.bin"
    image.write_bytes(os.urandom(3 * 1024 * 1024))
    words = ("--component", "app", "--version", version, "--hardware", "gw-rev-b")
    ota.ok("release", "add", image, *words, *BOTH[:-1])


def test_a_release_goes_into_the_bucket_and_every_byte_verifies(
    ota: Ota, made: Made, tmp_path: Path
) -> None:
    """Sign, publish, list, verify, refresh: nobody notices where the store is."""
    mine = moved(ota, made, tmp_path / "mine")
    add(mine, "2.0.0")
    assert "upload: 3145728 bytes" in mine.ok("release", "publish").err
    assert "app/app-2.0.0.bin" in mine.ok("release", "list").out
    mine.ok("repo", "verify")
    mine.ok("repo", "refresh", "--all")
    mine.ok("repo", "verify")
    image = next(n for n in made.store().list("image/targets/app/") if "2.0.0" in n)
    assert made.head(image)["ContentLength"] == 3 * 1024 * 1024
    assert not (mine.folder / "store").exists()


def test_of_two_machines_that_publish_at_once_one_gets_exit_7(
    ota: Ota, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have uploaded; one wins. The other's release is made again on top, and both are listed."""
    machines = [moved(ota, made, tmp_path / name) for name in ("ana", "ben")]
    for machine, version in zip(machines, ("2.0.0", "3.0.0"), strict=True):
        add(machine, version)
    gate = multiprocessing.get_context("fork").Barrier(2)
    upload = S3Store.upload

    def together(store: S3Store, *words: Any) -> None:
        upload(store, *words)
        gate.wait(60)

    monkeypatch.setattr(S3Store, "upload", together)
    codes = both(lambda m: run(["-C", str(m.folder), "release", "publish"]), machines)
    monkeypatch.setattr(S3Store, "upload", upload)
    assert sorted(codes) == [0, 7]
    loser, version = (machines[0], "2.0.0") if codes[0] else (machines[1], "3.0.0")
    again = loser("release", "publish")
    assert (again.code, "stale-base" in again.err) == (7, True)
    loser.ok("repo", "discard", "image", "--yes")
    add(loser, version)
    loser.ok("release", "publish")
    for machine in machines:
        listed = machine.ok("release", "list", "-o", "csv").out
        assert listed.count("published") == 3
        machine.ok("repo", "verify")


def both(work: Callable[[Ota], int], machines: list[Ota]) -> list[int]:
    """Each in a process of its own; their exit codes."""
    pids = []
    for machine in machines:
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = work(machine)
            finally:
                os._exit(code)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def test_a_bucket_is_not_served(ota: Ota, made: Made, tmp_path: Path) -> None:
    """``ota store serve`` has no folder to serve: it says what to do instead."""
    result = moved(ota, made, tmp_path / "mine")("store", "serve")
    assert result.code == 2
    assert "is a bucket" in result.err
    assert "HTTPS front" in result.err


def test_no_permission_is_exit_4_and_names_it(
    ota: Ota, made: Made, aws: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The action, the resource, whose policy, the next command; nothing is published."""
    mine = moved(ota, made, tmp_path / "mine")
    add(mine, "2.0.0")
    before = list(made.store().list(""))
    arn = f"arn:aws:s3:::{made.place.bucket}"
    allowed = [
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{arn}/*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": arn},
    ]
    aws.use(monkeypatch, aws.user(*allowed))
    result = mine("release", "publish")
    assert result.code == 4
    assert f"allow s3:PutObject on {arn}/plant-7/image/targets/app/" in result.err
    assert "Traceback" not in result.err
    aws.use(monkeypatch)
    assert list(made.store().list("")) == before
    mine.ok("release", "publish")


WRONG = {
    "store.url": ("url = 's3://'", "url = 's3://UPPER/x'", "url = 's3://b..b/x'", "url = 's3:x'"),
    "prefix": (
        "url = 's3://updates/a/../b'",
        "url = 's3://updates/.a'",
        "url = 's3://updates/a b'",
    ),
    "store.kms_key": ("url = 's3://updates'\nkms_key = 'alias/x'",),
    "store.sse": ("url = 's3://updates'\nsse = 'rot13'", "url = 'file:store'\nsse = 'aws:kms'"),
    "store.owner": ("url = 's3://updates'\nowner = '123'", "owner = '111122223333'"),
    "store.storage_class": ("url = 's3://updates'\nstorage_class = 'GLACIER'",),
    "secret_key": ("url = 's3://updates'\nsecret_key = 'x'",),
}


@pytest.mark.parametrize("text", [t for group in WRONG.values() for t in group])
def test_a_wrong_table_is_named(ota: Ota, text: str) -> None:
    """Exit 2, with the key; nothing is asked of AWS."""
    (ota.folder / "ota.toml").write_text(f"[store]\n{text}\n")
    result = ota("release", "list")
    assert result.code == 2
    assert next(key for key, group in WRONG.items() if text in group) in result.err


def test_a_full_table_is_taken(ota: Ota) -> None:
    """Every option of a bucket reaches the store."""
    (ota.folder / "ota.toml").write_text(
        "[store]\nurl = 's3://updates/eu/plant-7/'\nowner = '111122223333'\nsse = 'aws:kms'\n"
        "kms_key = 'alias/ota-store'\nbucket_key = false\nstorage_class = 'INTELLIGENT_TIERING'\n"
        "[aws]\nregion = 'eu-central-1'\n"
    )
    store = ota.wiring().store
    assert isinstance(store, S3Store)
    place = store._bucket._place
    assert (place.bucket, place.prefix, place.owner) == ("updates", "eu/plant-7", "111122223333")
    assert (place.sse, place.kms_key, place.bucket_key) == ("aws:kms", "alias/ota-store", False)
    assert (place.storage_class, place.region) == ("INTELLIGENT_TIERING", "eu-central-1")
