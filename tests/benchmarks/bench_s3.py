"""What publishing a large image to S3 costs the publisher: memory and speed.

``ota release publish`` uploads an image of 2 GiB in parts to a strict S3 on loopback, which runs in
a process of its own, checks every signature and checksum, and keeps nothing of the parts. Memory is
the peak resident set of ``ota`` as the kernel counts it; its time stands against hashing the
same file once with hashlib.

``python tests/benchmarks/bench_s3.py [-o json] [--mib N]``
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import figures
from figures import ROOT, Figure

HARDWARE = "gw-rev-b"
URL = "s3://updates/plant"
KEPT = 1024 * 1024
RUN = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - began
found = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"status": done.returncode, "mib": found.ru_maxrss / 1024, "seconds": seconds}))
"""


def serve(line: Connection) -> None:
    """The S3 of this benchmark: says its address and keys, ends when told."""
    from simulators.strict_s3 import strict_s3  # noqa: PLC0415 - in a process of its own

    with strict_s3() as s3:
        s3.keep = KEPT
        line.send((s3.url, s3.region, s3.key.id, s3.key.secret))
        line.recv()


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """Run it; boto3's environment."""
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    process.start()
    url, region, key, secret = mine.recv()
    try:
        yield {
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_DEFAULT_REGION": region,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        mine.send("end")
        process.join(20)


def workspace(folder: Path, image: Path) -> Path:
    """A workspace whose store is the bucket, with one signed release that waits."""
    from ota.quickstart.stage import SIGN_RELEASES, Stage, now  # noqa: PLC0415 - see main
    from ota.repositories.release import Build  # noqa: PLC0415 - the same
    from ota.stores.s3 import S3Store  # noqa: PLC0415 - the same
    from ota.stores.s3_bucket import Place  # noqa: PLC0415 - the same

    stage = Stage(folder / "plant")
    stage.prepare()
    stage.wiring.releases.add(Build(image, "image", "1", (HARDWARE,), format="file"), now())
    for name in SIGN_RELEASES:
        stage.wiring.releases.sign(name, now())
    stage.wiring.close()
    toml = stage.folder / "ota.toml"
    toml.write_text(toml.read_text().replace("file:store", URL))
    store, files = S3Store(Place("updates", "plant"), folder / "uploads"), stage.folder / "store"
    for path in (p for p in files.rglob("*.json") if ".tmp" not in p.parts):
        store.swap(str(path.relative_to(files)), path.read_bytes(), None)
    return stage.folder


def published(folder: Path) -> dict[str, Any]:
    """Peak MiB and seconds of ``ota release publish``."""
    words = (sys.executable, "-m", "ota", "-C", str(folder), "release", "publish")
    done = subprocess.run(
        (sys.executable, "-c", RUN, *words),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if found["status"]:
        raise SystemExit(done.stderr[-2000:])
    return found


def main() -> None:
    """Measure and print."""
    options = figures.arguments(__doc__, mib={"type": int, "default": 2048})
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as name, running() as words:
        os.environ.update(words)
        folder, image = Path(name), Path(name) / "image.bin"
        with image.open("wb") as out:
            for _ in range(options.mib // 4):
                out.write(os.urandom(4 << 20))
        place = workspace(folder, image)
        with image.open("rb") as source:
            plain = figures.timed(lambda: hashlib.file_digest(source, "sha256"))
        found = published(place)
    rate = options.mib / found["seconds"]
    figures.show(
        "s3",
        [
            Figure(f"peak memory of publish, {options.mib} MiB", found["mib"], "MiB", bound=200.0),
            Figure("upload to a strict S3 on loopback", rate, "MiB/s"),
            Figure(
                "the same", found["seconds"] / plain, "x", peer="hashlib.file_digest of the file"
            ),
        ],
        options.output,
    )


if __name__ == "__main__":
    main()
