"""Every command that takes a file, given every kind of wrong file: named, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ota

Words = Callable[[Path, Path], tuple[str | Path, ...]]

COMMANDS: dict[str, Words] = {
    "register": lambda f, _: ("fleet", "register", f, "--unsafe-allow-any"),
    "register --allow": lambda f, good: ("fleet", "register", good, "--allow", f),
    "replace": lambda f, _: ("fleet", "replace", f, "--yes"),
    "fleet import": lambda f, _: ("fleet", "import", f),
    "plan": lambda f, good: ("rollout", "plan", f, "--out", good.with_name("plan.out")),
    "show": lambda f, _: ("rollout", "show", f),
    "approve": lambda f, _: ("rollout", "approve", f, "--key", "approver"),
    "start": lambda f, _: ("rollout", "start", f),
    "repo import": lambda f, _: ("repo", "import", f),
    "key import": lambda f, _: ("key", "import", "kx", "--public", f),
    "playbook lint": lambda f, _: ("playbook", "lint", f),
    "playbook sign": lambda f, _: ("playbook", "sign", f, "--key", "targets-1"),
    "infra render": lambda f, _: ("infra", "render", "--values", f),
}
"""Command -> its words for a wrong file; the second path is a good enrolment."""
FILES: dict[str, bytes] = {
    "noise": bytes(range(256)) * 8,
    "empty": b"",
    "object": b"{}",
    "list": b"[]",
    "deep": b"[" * 50_000,
    "number": b"1e999",
    "terminal": b'{"\\u001b[2J": "\x1b[2J"}',
}


@pytest.fixture
def good(template: Path) -> Path:
    """An enrolment that is registered already."""
    return template.parent / "gw-1.json"


def wrong(ota: Ota, words: tuple[str | Path, ...], file: Path, codes: set[int]) -> None:
    """One call: the exit code, the file's name, a code and a next step; the workspace as before."""
    before = ota.files()
    result = ota(*words)
    assert result.code in codes, (words, result.err)
    assert file.name in result.err, (words, result.err)
    assert "\ncode: " in result.err
    assert "\nnext: " in result.err
    assert result.out == "" or words[1] == "register"
    assert all(c.isprintable() or c == "\n" for c in result.err)
    assert ota.files() == before, words
    assert not file.with_name("plan.out").exists()


@pytest.mark.parametrize("name", FILES)
def test_wrong_content(ota: Ota, good: Path, name: str) -> None:
    """Whatever a file holds: usage (2) or refused (3), by its name."""
    file = ota.folder.parent / f"wrong-{name}"
    file.write_bytes(FILES[name])
    for words in COMMANDS.values():
        wrong(ota, words(file, good), file, {2, 3})


def test_another_kind_of_file(ota: Ota, good: Path, second: Path) -> None:
    """Good files in the place of others: a spec as a plan, an enrolment as an allow-list ..."""
    plan = second.with_name("plan.json")
    ota.ok("rollout", "plan", second, "--out", plan)
    for file, fits in ((second, {"plan"}), (plan, {"show", "approve", "start"}), (good, {"register", "register --allow", "replace"})):  # fmt: skip
        for command, words in COMMANDS.items():
            if command not in fits:
                wrong(ota, words(file, good), file, {2, 3})
    result = ota("rollout", "start", plan, "--approval", plan)
    assert (result.code, "plan.json: approval: payload type is" in result.err) == (3, True)


def test_cut_anywhere(ota: Ota, good: Path, second: Path) -> None:
    """A file that was not wholly copied."""
    plan = second.with_name("plan.json")
    ota.ok("rollout", "plan", second, "--out", plan)
    for file, commands in ((plan, ("show", "approve", "start")), (good, ("register", "replace"))):
        cut = second.with_name(f"cut-{file.name}")
        for share in (0.1, 0.5, 0.99):
            data = file.read_bytes()
            cut.write_bytes(data[: int(len(data) * share)])
            for command in commands:
                wrong(ota, COMMANDS[command](cut, good), cut, {3})


def test_no_file(ota: Ota, good: Path) -> None:
    """Nothing there, a folder, or a file below a file: usage, by its name."""
    folder = ota.folder.parent / "a-folder"
    folder.mkdir()
    missing = ota.folder.parent / "missing"
    below = good / "below"
    for file in (folder, missing, below):
        for words in COMMANDS.values():
            wrong(ota, words(file, good), file, {2})
        wrong(ota, ("release", "add", file, "--component", "app", "--version", "9",
                    "--hardware", "gw-rev-b"), file, {2})  # fmt: skip
        wrong(ota, ("-C", file, "repo", "status"), file, {2})
