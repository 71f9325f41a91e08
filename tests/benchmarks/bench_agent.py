"""What the agent costs a device: its start, its memory and its speed with a large image.

The wheel is installed in an empty environment as devices have it (no boto3, no typer). There,
``ota-agent --help`` starts against ``python -c "import tuf.ngclient"``, and ``ota-agent once``
installs an image of 1 GiB with the ``single-file`` installer over loopback HTTP from ``ota store
serve``, against ``hashlib.file_digest`` over the same file. Memory is the peak resident set of
the agent's process as the kernel counts it.

``python tests/benchmarks/bench_agent.py [-o json] [--mib N] [--runs N] [--lean FOLDER]``
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import figures
from figures import ROOT, Figure

from ota.quickstart.stage import Stage, now
from ota.repositories.release import Build

HARDWARE = "gw-rev-b"
MEMORY = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
found = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"status": done.returncode, "mib": found.ru_maxrss / 1024}))
"""
CONFIG = """\
device = "gw-1"
state_dir = "{home}/state"
store = "{store}"
[feed]
kind = "spool"
path = "{spool}"
[components.image]
hardware_id = "gw-rev-b"
installer = "single-file"
options = {{path = "{home}/image"}}
health = {{kind = "command", argv = ["/bin/true"]}}
"""


def outside(env: dict[str, str] | None = None) -> dict[str, str]:
    """An environment that does not know the tree."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OTA_", "VIRTUAL"))}
    return kept | (env or {})


def call(*words: str | Path, cwd: Path) -> str:
    """Run a command outside of the tree; its stdout, or the end with its stderr."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=outside(),
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise SystemExit(f"{words[0]} failed: {done.stderr[-2000:]}")
    return done.stdout


def lean(folder: Path) -> Path:
    """The ``bin`` folder of an environment that holds the base install at the lock's versions."""
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", ROOT)
    call(sys.executable, *build, cwd=folder)
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(x.rstrip(" \\") for x in lines if "--hash" not in x) + "\n")
    wheel = next((folder / "dist").glob("*.whl"))
    call(ROOT / ".ci/venv", folder / "lean", cwd=folder)
    call(ROOT / ".ci/install", folder / "lean", "-c", constraints, wheel, cwd=folder)
    return folder / "lean" / "bin"


# -- start -----------------------------------------------------------------------------------------
def start(binaries: Path, folder: Path, runs: int) -> Figure:
    """``ota-agent --help`` against importing python-tuf's client."""

    def agent() -> float:
        return figures.timed(lambda: call(binaries / "ota-agent", "--help", cwd=folder))

    def peer() -> float:
        words = ("-c", "import tuf.ngclient")
        return figures.timed(lambda: call(binaries / "python", *words, cwd=folder))

    figures.in_turn(2, agent, peer)
    ours, theirs = figures.in_turn(runs, agent, peer)
    ratio = figures.ratio(ours, theirs)
    return Figure("cold start of --help", ratio, "x", bound=1.3, peer="import tuf.ngclient")


# -- a large image ---------------------------------------------------------------------------------
class Device:
    """A provisioned device with one assigned image; every run starts from the same disk."""

    def __init__(self, folder: Path, binaries: Path, stage: Stage, url: str) -> None:
        self.home = folder / "device"
        self._saved = folder / "saved"
        self._binaries = binaries
        self._url, self._folder_url = url, (stage.folder / "store").as_uri()
        self.home.mkdir()
        self.config = self.home / "agent.toml"
        words = {"home": self.home, "store": url, "spool": stage.folder / "spool" / "gw-1"}
        self.config.write_text(CONFIG.format(**words))
        director, image = (r["file"] for r in stage.roots())
        roots = ("--director-root", director, "--image-root", image, "--yes")
        agent = binaries / "ota-agent"
        call(agent, "provision", *roots, "--config", self.config, cwd=self.home)
        enrolment = self.home / "state" / "identity" / "enrolment.json"
        assert stage.wiring.join([enrolment.read_bytes()], None, {}, "spool")[0].error is None
        rollout = stage.start("image", "image@1", [{"name": "all", "rest": True}])
        assert stage.wiring.campaign.step(rollout, now()).orders
        shutil.copytree(self.home, self._saved, symlinks=True)

    def _again(self) -> None:
        shutil.rmtree(self.home)
        shutil.copytree(self._saved, self.home, symlinks=True)

    def memory(self) -> float:
        """Peak MiB of ``ota-agent once``."""
        self._again()
        once = (self._binaries / "ota-agent", "once", "--config", self.config)
        found = json.loads(call(self._binaries / "python", "-c", MEMORY, *once, cwd=self.home))
        assert found["status"] == 0, found
        return float(found["mib"])

    def phases(self, *, served: bool = True) -> dict[str, float]:
        """Seconds of download, verification and staging; from a folder unless ``served``."""
        self._again()
        if not served:
            text = self.config.read_text().replace(self._url, self._folder_url)
            self.config.write_text(text)
        script = Path(__file__).with_name("phases.py")
        found: dict[str, float] = json.loads(
            call(self._binaries / "python", script, self.config, cwd=self.home)
        )
        return found


@contextlib.contextmanager
def served(stage: Stage) -> Iterator[str]:
    """``ota store serve`` in a process of its own; its URL."""
    argv = [sys.executable, "-m", "ota", "-C", str(stage.folder), "-o", "json", "store", "serve"]
    process = subprocess.Popen(
        argv, env=outside({"PYTHONPATH": str(ROOT)}), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield _first_object(process.stdout)["url"]
    finally:
        process.terminate()
        process.wait(timeout=20)


def _first_object(lines: Any) -> dict[str, str]:
    text = ""
    for line in lines:
        text += line
        with contextlib.suppress(ValueError):
            found: dict[str, str] = json.loads(text)
            return found
    raise SystemExit(f"ota store serve said {text!r}")


def make_image(path: Path, mib: int) -> None:
    """A file of ``mib`` MiB that no compression makes smaller."""
    with path.open("wb") as out:
        for _ in range(mib // 4):
            out.write(os.urandom(4 << 20))


def digest(path: Path) -> tuple[float, float]:
    """Plain hashlib on a file: seconds, and seconds of processor time."""

    def read() -> None:
        with path.open("rb") as source:
            hashlib.file_digest(source, "sha256")

    worked = time.process_time()
    return figures.timed(read), time.process_time() - worked


def copy(source: Path, target: Path) -> float:
    """Seconds of reading a file and writing another one, for comparison."""
    began = time.perf_counter()
    buffer = memoryview(bytearray(1 << 20))
    with source.open("rb", buffering=0) as taken, target.open("wb", buffering=0) as given:
        while count := taken.readinto(buffer):
            given.write(buffer[:count])
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def large(binaries: Path, folder: Path, mib: int, runs: int) -> list[Figure]:
    """Memory and speed with a large image."""
    image = folder / "image.bin"
    make_image(image, mib)
    stage = Stage(folder / "plant")
    stage.prepare()
    stage.publish(Build(image, "image", "1", (HARDWARE,), format="file"))
    with served(stage) as url:
        device = Device(folder, binaries, stage, url)
        stage.wiring.close()
        memory = max(device.memory() for _ in range(2))
        web: list[dict[str, float]] = []
        local: list[dict[str, float]] = []
        hashed: list[tuple[float, float]] = []
        copied: list[float] = []
        stored = next(p for p in (stage.folder / "store/image/targets").rglob("*") if p.is_file())
        for _ in range(runs):
            copied.append(copy(stored, folder / "copy"))
            web.append(device.phases())
            hashed.append(digest(stored))
            local.append(device.phases(served=False))
    plain, worked = ([row[n] for row in hashed] for n in (0, 1))
    return [
        Figure(f"peak memory of once with {mib} MiB", memory, "MiB", bound=110.0),
        Figure("plain hashlib", mib / figures.median(plain), "MiB/s"),
        Figure("a plain copy of the file", mib / figures.median(copied), "MiB/s"),
        *speeds("served by ota store serve", mib, web, plain, worked),
        *speeds("from a folder", mib, local, plain, worked),
    ]


def speeds(
    store: str,
    mib: int,
    found: list[dict[str, float]],
    plain: list[float],
    worked: list[float],
) -> Iterator[Figure]:
    """Download, verification and staging (they overlap) against hashing the file once."""
    heavy = [p["download"] + p["verify"] + p["stage"] for p in found]
    whole = [p["whole"] for p in found]
    yield Figure(f"{store}: all three", mib / figures.median(heavy), "MiB/s")
    yield Figure(f"{store}: the whole look", mib / figures.median(whole), "MiB/s")
    yield Figure(
        f"{store}: all three",
        figures.ratio(plain, heavy),
        "x",
        bound=0.5,
        direction="at least",
        peer="hashlib.file_digest of the same file",
    )
    yield Figure(
        f"{store}: all three, processor time",
        figures.ratio(worked, [p["processor"] for p in found]),
        "x",
        peer="the same; what a busy machine does not change",
    )


def main() -> None:
    """Measure and print."""
    options = figures.arguments(
        __doc__,
        mib={"type": int, "default": 1024},
        runs={"type": int, "default": 5},
        lean={"type": Path, "help": "bin folder of a lean environment that is there already"},
    )
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as name:
        folder = Path(name)
        binaries = options.lean or lean(folder)
        found = [start(binaries, folder, 3 * options.runs)]
        found += large(binaries, folder, options.mib, options.runs)
    figures.show("agent", found, options.output)


if __name__ == "__main__":
    main()
