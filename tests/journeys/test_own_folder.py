"""The agent writes into its own folder, its slots and its feed, and nowhere else: strace watches.

A real process each; every system call that could make, change or remove something is looked at,
with the path that the kernel saw.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from simulators.plant import TREE, Plant
from simulators.threats import TWO, news, standing

CALLS = (
    *("open", "openat", "openat2", "creat", "truncate", "ftruncate", "mkdir", "mkdirat", "rmdir"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink"),
    *("unlinkat", "mknod", "mknodat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown"),
    *("fchownat", "utimensat", "setxattr", "fsetxattr", "fallocate"),
)
_WRITING = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)")
_LINE = re.compile(r"(?:\d+ +)?([a-z0-9_]+)\((.*)\) = (\S+)")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FOLDER = re.compile(r"(?:AT_FDCWD|\d+)<([^>]*)>")
_NOWHERE = ("/dev/null", "/dev/tty", "/proc/", "pipe:", "socket:", "anon_inode:", "/memfd:")


def written(words: Sequence[str], log: Path) -> set[Path]:
    """Run it; every path that it made, changed or removed, or tried to."""
    command = ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", f"trace={','.join(CALLS)}"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [*command, "-o", str(log), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=TREE,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    return {path for line in log.read_text(errors="replace").splitlines() for path in _paths(line)}


def _paths(line: str) -> Iterator[Path]:
    found = _LINE.match(line)
    if found is None or (found[1].startswith("open") and not _WRITING.search(found[2])):
        return
    texts, folders = _TEXT.findall(found[2]), _FOLDER.findall(found[2])
    for number, text in enumerate(texts or [""]):
        if found[1] in {"symlink", "symlinkat"} and number == 0:
            continue  # where a link points is no place that is written
        base = folders[min(number, len(folders) - 1)] if folders else str(TREE)
        name = text.encode().decode("unicode_escape")
        path = os.path.normpath(os.path.join(base, name)) if name else base  # noqa: PTH118 - joins "" too
        if not path.startswith(_NOWHERE):
            yield Path(path)


@pytest.fixture(scope="module")
def plant(ground: Path) -> Iterator[Plant]:
    plant = standing(ground / "plant")
    news(plant)
    yield plant
    plant.wiring.close()


def test_an_update(plant: Plant, tmp_path: Path) -> None:
    """Refresh, download, installation, probe, report: all of it within what is the agent's."""
    gateway = plant["a"]
    agent = [sys.executable, "-m", "ota.agent.main"]
    found = written([*agent, "once", "--config", str(gateway.toml)], tmp_path / "log")
    assert gateway.running == TWO
    own = (gateway.home / "state", gateway.spool)
    stray = {p for p in found if not any(p.is_relative_to(folder) for folder in own)}
    beside = {p for p in stray if p.parent == gateway.home and "app" in p.name}  # the slot's names
    assert stray - beside <= {gateway.home}
    assert {p.name for p in found} >= {"current", "timestamp.json", "state.db", "app"}


def test_a_look_at_a_hostile_store(plant: Plant, tmp_path: Path) -> None:
    """``ota-agent tuf`` writes into the two folders that it was given."""
    trust, targets = tmp_path / "trust", tmp_path / "targets"
    tuf = [sys.executable, "-m", "ota.agent.main", "tuf", "--metadata-dir", str(trust)]
    first = plant.store / "image" / "metadata" / "1.root.json"
    found = written([*tuf, "init", str(first)], tmp_path / "log")
    image = plant.store / "image"
    urls = ["--metadata-url", (image / "metadata").as_uri()]
    where = ["--target-base-url", (image / "targets").as_uri(), "--target-dir", str(targets)]
    names = ["--target-name", "app/app-2.0.0.bin", "--target-name", "mcu/mcu-1.0.0.bin"]
    found |= written([*tuf, *urls, "download", *names, *where], tmp_path / "log")
    assert (targets / "app%2Fapp-2.0.0.bin").read_bytes() == TWO
    assert {
        p for p in found if not p.is_relative_to(trust) and not p.is_relative_to(targets)
    } == set()
    assert {"root.json", "timestamp.json", "snapshot.json", "targets.json", "app.json"} <= {
        p.name for p in trust.iterdir()
    }
