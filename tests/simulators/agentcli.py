"""``ota-agent`` as its owner calls it: a configuration file, a store folder, real processes.

>>> device = Device(tmp_path)
>>> device.provision()
>>> device.call("once", "-o", "json")
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from simulators.repos import Repo, World

from ota.agent.main import main
from signing import layout, strict
from signing.strict import digest

ROOT = Path(__file__).resolve().parents[2]


class Said(NamedTuple):
    """What a call printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class LiveWorld(World):
    """Both repositories as of now: real processes read the real clock."""

    def __init__(self, device: str = "press-07") -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        self.device = device
        self.image, self.director = Repo(now=now), Repo(device, now)
        self.image.delegate("app")
        self.images = {}
        self.image.publish()
        self.director.publish()

    def assign(self, path: str = "app/app-1.bin", **custom: Any) -> None:
        """With an end in a week."""
        end = strict.stamp(self.director.now + timedelta(days=7))
        super().assign(path, **{"not_after": end} | custom)


class Device:
    """One device with one component ``app`` in ``slots/app.bin``; see the module."""

    def __init__(
        self, folder: Path, *, top: str = "", installer: str = "", feed: str = "", extra: str = ""
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.world = LiveWorld()
        self.slot = folder / "slots" / "app.bin"
        self.state = folder / "state"
        self.config = folder / "agent.toml"
        self.healthy = folder / "healthy"
        self.healthy.touch()
        self.config.write_text(
            f"""device = "press-07"
state_dir = "{self.state}"
store = "{(folder / "store").as_uri()}"
{top}

[components.app]
hardware_id = "gw-rev-b"
{installer or f'installer = "single-file"{chr(10)}options = {{ path = "{self.slot}" }}'}
health = {{ kind = "command", argv = ["/usr/bin/test", "-e", "{self.healthy}"], deadline = 0.4, interval = 0.1 }}
factory = {{ version = "0.9", release_counter = 1 }}

[feed]
{feed or f'kind = "spool"{chr(10)}path = "{folder / "spool"}"'}
{extra}"""
        )
        self.publish()
        for name, repo in (("director", self.world.director), ("image", self.world.image)):
            (folder / f"{name}.root.json").write_bytes(repo.files["1.root.json"])

    def publish(self) -> None:
        """Copy the world's files into the store folder."""
        store = self.folder / "store"
        for file, data in self.world.director.files.items():
            write(store / layout.director_metadata("press-07", file), data)
        for file, data in self.world.image.files.items():
            write(store / layout.image_metadata(file), data)
        for role in self.world.image.delegated.values():
            for path, target in role.targets.items():
                sha256 = target.hashes["sha256"]
                write(store / layout.image_target(path, sha256), self.world.images[sha256])

    def ship(self, path: str = "app/app-1.bin", data: bytes = b"one", **custom: Any) -> None:
        """List, assign and publish a release."""
        words = {"version", "security_fix", "hardware_ids", "release_counter"}
        signed = {name: value for name, value in custom.items() if name in words}
        self.world.release(path, data, **signed)
        rest = {k: v for k, v in custom.items() if k == "release_counter" or k not in words}
        self.world.assign(path, **rest)
        self.publish()

    def fingerprints(self) -> tuple[str, str]:
        """SHA-256 of the director's and of the image repository's first root."""
        return (
            digest((self.folder / "director.root.json").read_bytes()),
            digest((self.folder / "image.root.json").read_bytes()),
        )

    def argv(self, verb: str, *words: str) -> list[str]:
        return [sys.executable, "-m", "ota.agent.main", verb, "--config", str(self.config), *words]

    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(ROOT)}

    def call(self, verb: str, *words: str) -> Said:
        """Run one verb to its end, in this process, away from any terminal."""
        out, err = io.StringIO(), io.StringIO()
        keyboard, sys.stdin = sys.stdin, io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main([verb, "--config", str(self.config), *words])
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 1
        finally:
            sys.stdin = keyboard
        return Said(code, out.getvalue(), err.getvalue())

    def process(self, verb: str, *words: str) -> Said:
        """Run one verb to its end in a process of its own."""
        done = subprocess.run(
            self.argv(verb, *words),
            input="",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment(),
        )
        return Said(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def running(self, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """``run`` in a process of its own for as long as the block lasts; stderr goes to ``log``."""
        with log.open("ab") as err:
            process = subprocess.Popen(
                self.argv("run"), stdout=subprocess.DEVNULL, stderr=err, env=self.environment()
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def roots(self) -> list[str]:
        return [
            "--director-root",
            str(self.folder / "director.root.json"),
            "--image-root",
            str(self.folder / "image.root.json"),
        ]

    def provision(self) -> Said:
        """As an owner does who was told both fingerprints."""
        director, image = self.fingerprints()
        words = ["--director-root-sha256", director, "--image-root-sha256", image]
        said = self.call("provision", *self.roots(), *words)
        assert said.code == 0, said.err
        return said


def write(path: Path, data: bytes) -> None:
    """Write, making folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
