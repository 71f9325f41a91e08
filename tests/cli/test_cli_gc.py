"""``ota repo gc`` as it is typed, and killed for real at what it persists."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from simulators.killing import traced

from tests.cli.conftest import BOTH, Ota


@pytest.fixture
def past(ota: Ota) -> Ota:
    """A release was taken off, and another one published after it."""
    for version in ("2.0.0", "3.0.0"):
        build = ota.folder.parent / f"app-{version}.bin"
        build.write_text(version)
        words = ("--component", "app", "--version", version, "--hardware", "gw-rev-b")
        ota.ok("release", "add", build, *words, *BOTH)
        if version == "2.0.0":
            ota.ok("release", "yank", "app@2.0.0", "--yes", *BOTH)
    return ota


def objects(ota: Ota) -> set[str]:
    return {n for n in ota.files() if n.startswith("store/")}


def test_notes_then_removes(past: Ota) -> None:
    """The whole output of a first run, of a dry one, of one that nobody confirms, of the real one."""
    before = objects(past)
    first = past.ok("repo", "gc")
    assert first.out == (
        "KIND  KEPT  WAITING  REMOVED  BYTES\n"
        "image metadata  9  4  0  0\n"
        "director metadata  9  0  0  0\n"
        "images  3  1  0  0\n"
    )
    assert first.err == "the next ones are due at 2026-12-23T08:00:00Z\n"
    assert objects(past) == before
    past.later(days=31)
    dry = past("repo", "gc", "--dry-run", "-o", "json")
    kinds = {row["kind"]: row for row in dry.json}
    assert (dry.code, kinds["images"]["due"], kinds["images"]["waiting"]) == (0, 1, 0)
    assert any(line.endswith("app-2.0.0.bin") for line in dry.err.splitlines())
    assert objects(past) == before
    asked = past("repo", "gc")
    assert (asked.code, objects(past)) == (4, before)
    assert "--yes" in asked.err
    done = past.ok("repo", "gc", "--yes", "-o", "json")
    gone = {row["kind"]: row["removed"] for row in done.json}
    assert sum(gone.values()) == len(before) - len(objects(past)) > 1
    assert not any(name.endswith("app-2.0.0.bin") for name in objects(past))
    past.ok("repo", "refresh", "--all")
    past.ok("repo", "verify")


def test_says_what_is_wrong(past: Ota) -> None:
    """Each is a usage error that names what to change; nothing is noted."""
    before = past.files()
    for words in (("--grace", "5m"), ("--grace", "soon"), ("--grace", "-1d")):
        result = past("repo", "gc", *words)
        assert (result.code, result.out) == (2, ""), words
        assert "grace" in result.err
    assert past.files() == before


def test_killed_it_goes_on(past: Ota) -> None:
    """SIGKILL at system calls that persist something: what is listed is there, the end is the same."""
    past.ok("repo", "gc")
    past.later(days=31)
    past.ok("repo", "refresh", "--all")
    image = past.folder.parent / "frozen"
    freeze(past.folder, image)
    words = ["-C", str(past.folder), "repo", "gc", "--yes"]
    honest = traced(words)
    assert honest.code == 0
    end = objects(past)
    for call, at in list(honest.points(7)):
        freeze(image, past.folder)
        assert traced(words, f"inject={call}:signal=KILL:when={at}").killed, (call, at)
        past.ok("repo", "verify")
        past.ok("repo", "gc", "--yes")
        assert objects(past) == end, (call, at)


def freeze(source: Path, target: Path) -> None:
    """Make one folder a copy of another."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
