"""``ota-agent tuf``: the agent's own TUF client on any repository of specification 1.0.

For diagnosing a repository by hand, and for conformance suites. It is the same client
(``signing/client/workflow.py``), the same bounded transfers and the same hashing as in a cycle. Two
things follow the specification instead of the device's stricter rules: every verified role is
kept at once (5.4.5, 5.5.7, 5.6.6), and a timestamp of the same version with other content is
discarded without an error (5.4.3.1).

Trusted metadata stands in D under plain names (``root.json``, ``timestamp.json``,
``snapshot.json``, ``<role>.json``); ``.memory-root`` is the root under which it was made.

>>> ota-agent tuf --metadata-dir D init root.json
>>> ota-agent tuf --metadata-dir D --metadata-url U refresh
>>> ota-agent tuf --metadata-dir D --metadata-url U --target-base-url T --target-dir DIR \
...     --target-name P download
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from tuf.api.metadata import TargetFile

from ota.agent import agreement
from ota.agent.download import DownloadLimits, small
from ota.agent.transfer import Source, copy
from signing import durable, strict
from signing.client.workflow import Limits, TufClient
from signing.errors import Malformed, Misuse, NotFound, OtaError, Outage, Refusal

_LIMITS = DownloadLimits()
_SUPPORTED = frozenset({"sha256", "sha384", "sha512"})
_CACHED = 64 * 1024 * 1024
_MEMORY = ".memory-root"


def run(arguments: argparse.Namespace) -> int:
    """One action; 0 or 1."""
    try:
        folder = Path(arguments.metadata_dir)
        if arguments.action == "init":
            _init(folder, arguments.root)
        elif arguments.action == "refresh":
            _refreshed(folder, arguments.metadata_url)
        else:
            _download(folder, arguments)
    except (OtaError, OSError) as e:
        if arguments.debug:
            traceback.print_exc()
        code = e.code if isinstance(e, OtaError) else "io"
        sys.stderr.write(f"error: {strict.shown(str(e))} ({code})\n")
        return 1
    return 0


def _init(folder: Path, root: str | None) -> None:
    if root is None:
        raise Misuse("init: which ROOT.json?")
    data = durable.read(Path(root), 512_000, "root")
    if data is None:
        raise NotFound(f"there is no {root}", subject=root)
    TufClient({"root.json": data}, lambda _name, _limit: None, datetime.now(UTC))
    durable.folder(folder)
    durable.replace(folder / "root.json", data)
    durable.replace(folder / _MEMORY, data)


def _refreshed(folder: Path, url: str | None) -> TufClient:
    """Refresh, keeping whatever was verified even when a later role is not."""
    client = _client(folder, url)
    try:
        client.refresh()
    finally:
        _keep(folder, client)
    return client


def _client(folder: Path, url: str | None) -> TufClient:
    if not url:
        raise Misuse("--metadata-url: which repository?")
    source = _source(url)
    cache = {
        unquote(path.name): path.read_bytes()
        for path in sorted(folder.glob("*.json"))
        if path.stat().st_size <= _CACHED
    }
    newest = cache.get("root.json")
    if newest is None:
        raise NotFound(f"no root.json in {folder}", remedy="ota-agent tuf ... init ROOT.json")
    cache["root.json"] = durable.read(folder / _MEMORY, 512_000, "root") or newest

    def fetch(name: str, limit: int) -> bytes | None:
        return small(source, name, limit, _LIMITS.metadata_total)

    return TufClient(
        cache,
        fetch,
        datetime.now(UTC),
        bootstrap=newest,
        limits=Limits(snapshot=_CACHED, targets=_CACHED),
        keep_root=lambda _version, data: durable.replace(folder / "root.json", data),
        two_contents=True,
    )


def _keep(folder: Path, client: TufClient) -> None:
    """Write what this client verified; the root under which that was goes last."""
    new = client.verified()
    for name, data in new.items():
        path = folder / quote(name, safe="")
        if durable.read(path, _CACHED, name) != data:
            durable.replace(path, data)
    if "timestamp.json" in new:
        durable.replace(folder / _MEMORY, new["root.json"])


# -- targets -----------------------------------------------------------------------------------
def _download(folder: Path, arguments: argparse.Namespace) -> None:
    if not (arguments.target_name and arguments.target_base_url and arguments.target_dir):
        raise Misuse("download: --target-name, --target-base-url and --target-dir are needed")
    client = _refreshed(folder, arguments.metadata_url)
    source = _source(arguments.target_base_url)
    into = Path(arguments.target_dir)
    durable.folder(into)
    for name in arguments.target_name:
        try:
            found = client.find(name)
        finally:
            _keep(folder, client)
        if found is None:
            raise Refusal("not-listed", f"{name} is not listed", subject=name)
        _fetch(source, found.target, into, prefixed=client.root.consistent_snapshot is not False)


def _fetch(source: Source, target: TargetFile, into: Path, *, prefixed: bool) -> None:
    """One target, whole and verified under its name, or not at all."""
    names = tuple(sorted(_SUPPORTED & set(target.hashes)))
    if not names:
        raise Refusal("release-malformed", f"{target.path}: no hash that is supported")
    name = quote(target.path, safe="")
    if name in {"", ".", ".."}:
        raise Refusal("release-malformed", f"{target.path!r}: no file can have this name")
    final, temporary = into / name, into / f".{os.getpid()}.part"
    if final.is_file() and _holds(final, target, names):
        return
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            _receive(source, target, handle, prefixed=prefixed)
            os.fsync(handle)
        finally:
            os.close(handle)
        if not _holds(temporary, target, names):
            raise Refusal("image-mismatch", f"{target.path}: not the signed bytes")
        temporary.replace(final)
        durable.sync_folder(into)
    finally:
        temporary.unlink(missing_ok=True)


def _receive(source: Source, target: TargetFile, handle: int, *, prefixed: bool) -> None:
    path = target.path
    if prefixed:
        head, slash, tail = path.rpartition("/")
        path = f"{head}{slash}{next(iter(target.hashes.values()))}.{tail}"
    with source.open(path, 0, "", time.monotonic() + _LIMITS.image_total) as answer:
        if answer.missing:
            raise Outage(f"{target.path} is not there", code="missing", subject=path)
        copy(answer, handle, target.length, _LIMITS, None)
        if answer.read(1):
            raise Refusal("image-oversize", f"{target.path}: longer than its signed length")


def _holds(path: Path, target: TargetFile, names: tuple[str, ...]) -> bool:
    digests, length = agreement.hash_file(path, names, target.length, None)
    return length == target.length and digests == {n: target.hashes[n] for n in names}


def _source(url: str) -> Source:
    parts = urlsplit(url)
    if parts.scheme == "file":
        from ota.agent.transfer_file import FileSource  # noqa: PLC0415 - one of two is needed

        return FileSource(Path(unquote(parts.path)))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Malformed(f"{url!r:.200} is no http, https or file URL")
    from ota.agent.transfer_http import HttpSource  # noqa: PLC0415 - one of two is needed

    return HttpSource(url.rstrip("/"), connect=_LIMITS.connect, read=_LIMITS.read, encoded=True)
