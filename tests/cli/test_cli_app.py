"""The application itself: help, global options, forms of output, errors, interruption."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from ota.cli import inputs, output
from ota.cli.app import app, hoist, run
from ota.errors import Malformed
from tests.cli.conftest import Ota

ROOT = Path(__file__).resolve().parents[2]


def commands() -> list[tuple[str, ...]]:
    """Every command, as it is typed."""
    found: list[tuple[str, ...]] = []

    def walk(command: Any, words: tuple[str, ...]) -> None:
        inner = getattr(command, "commands", None)
        if inner is None:
            found.append(words)
        for name, child in (inner or {}).items():
            walk(child, (*words, name))

    walk(typer.main.get_command(app), ())
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_has_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command's help says what it does and shows an example that names it."""
    assert run([*words, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: ota {' '.join(words)} ")
    assert "Example: ota " in out
    assert words[-1] in out.split("Example: ")[1]
    assert not re.search(r"<(list|str|path|int|Path)\b|\{", out), "words of Python's in the help"


def test_lists_of_verbs_are_not_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    """What a command does fits beside its name in the list of its noun."""
    for noun in sorted({words[:-1] for words in commands()}):
        assert run([*noun, "--help"]) == 0
        listed = capsys.readouterr().out.partition("Commands:")[2]
        assert "...\n" not in listed, noun


def test_all_promised_commands_exist() -> None:
    """The command line holds every command that the product promises."""
    promised = """
    init;key generate;key list;repo create;repo sign;repo publish;repo status;repo verify;
    release add;release sign;release publish;release list;release show;release yank;
    fleet register;fleet replace;fleet accept;fleet retire;fleet label;fleet import;fleet export;
    fleet list;fleet show;rollout plan;rollout approve;rollout start;rollout step;rollout run;
    rollout status;rollout pause;rollout resume;rollout abort;rollout rollback;rollout list;
    rollout history;store serve;completion
    """
    names = {" ".join(words) for words in commands()}
    assert {name.strip() for name in promised.split(";")} <= names


@pytest.mark.parametrize("words", [(), ("fleet",), ("rollout",)])
def test_noun_alone_shows_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A noun without a verb is a usage error that shows the verbs."""
    assert run(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: ota ")
    assert "Commands:" in err


@pytest.mark.parametrize(
    ("words", "message", "help_of"),
    [
        (["bogus"], "No such command 'bogus'.", "ota"),
        (["fleet", "bogus"], "No such command 'bogus'.", "ota fleet"),
        (["fleet", "list", "--bogus"], "No such option: --bogus", "ota fleet list"),
        (["fleet", "show"], "Missing argument 'DEVICE'.", "ota fleet show"),
        (["-o", "xml", "fleet", "list"], "Invalid value for '-o' / '--output'", "ota"),
        (["fleet", "list", "-o"], "-o needs a value", "ota"),
    ],
)
def test_usage_errors(
    words: list[str], message: str, help_of: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped line is exit 2 with the help that mends it."""
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.endswith(f"code: usage\nnext: {help_of} --help\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` prints the installed version."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ota ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fleet", "list", "-o", "json"], ["-o", "json", "fleet", "list"]),
        (["a", "--yes", "b", "-C", "x"], ["--yes", "-C", "x", "a", "b"]),
        (["a", "--output=csv"], ["--output=csv", "a"]),
        (["a", "--", "-o", "json"], ["a", "--", "-o", "json"]),
    ],
)
def test_hoist(words: list[str], expected: list[str]) -> None:
    """Global options move to the front; everything after ``--`` stays."""
    assert hoist(words) == expected


@given(st.lists(st.text("ab-oyC=/", max_size=4).filter(lambda w: w not in {"-o", "-C"})))
def test_hoist_keeps_every_word(words: list[str]) -> None:
    """No word is lost or made up."""
    assert sorted(hoist(words)) == sorted(words)


def completed(**asked: str) -> subprocess.CompletedProcess[str]:
    """What ``ota`` answers a shell that completes a line."""
    return subprocess.run(
        [sys.executable, "-m", "ota"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | asked,
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each shell gets a script for ``ota``, and the script's question is answered."""
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_OTA_COMPLETE" in script
    answer = completed(
        _OTA_COMPLETE=f"complete_{shell}",
        COMP_WORDS="ota rollout pa",
        COMP_CWORD="2",
        _TYPER_COMPLETE_ARGS="ota rollout pa",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert "pause" in answer.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ota -C WS release sign --key tar", ["targets-1", "targets-2", "targets-3"]),
        ("ota -C WS rollout approve --key app", ["approver"]),
        ("ota -C nowhere release sign --key ", []),
        ("ota repo publish --only ", ["image", "director"]),
    ],
)
def test_completion_knows_keyholders(ota: Ota, line: str, expected: list[str]) -> None:
    """A shell offers the workspace's keyholders, from their public files alone."""
    words = line.replace("WS", str(ota.folder))
    answer = completed(
        _OTA_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
    )
    assert (answer.stdout.split(), answer.stderr) == (expected, "")


def test_debug_shows_the_traceback(empty: Ota) -> None:
    """Without ``--debug`` no traceback; with it, one, and the same last lines."""
    plain = empty("key", "list")
    debug = empty("key", "list", "--debug")
    assert "Traceback" not in plain.err
    assert debug.err.startswith("Traceback")
    assert debug.err.endswith(plain.err)


def test_full_disk_is_a_named_error(ota: Ota, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC reaches a person as an error of exit 1, not as a traceback."""
    import errno  # noqa: PLC0415 - this claim only

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = ota("key", "generate", "spare")
    monkeypatch.undo()
    assert (result.code, result.err) == (
        1,
        "error: WS/keys/spare.pem: No space left on device\ncode: no-space\nnext: df -h\n",
    )
    assert not [path for path in (ota.folder / "keys").iterdir() if "spare" in path.name]


def test_mistake_of_the_program_is_one_line() -> None:
    """An unforeseen exception prints no traceback and asks for a report."""
    script = (
        "import sys\nfrom ota.cli import app, key\n"
        "def boom(*_): raise ZeroDivisionError('boom')\n"
        "app.hoist = lambda a: list(a)\nimport ota.repositories.keyring\nfrom ota.cli.session import Session\n"
        "Session.wiring = property(boom)\napp.run(['key', 'list'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: a mistake of this program: ZeroDivisionError: boom\ncode: internal\n"
        "next: the same command with --debug, and report what it prints\n"
    )


def test_closed_pipe_is_quiet(ota: Ota) -> None:
    """``ota ... | head -0`` ends without a traceback."""
    done = subprocess.run(  # noqa: S602 - a pipe is the claim
        f"'{sys.executable}' -m ota -C '{ota.folder}' key list | true",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_is_quick() -> None:
    """``ota --help`` imports none of the heavy libraries."""
    script = (
        "import sys\nfrom ota.cli.app import run\nrun(['--help'])\n"
        "heavy = {'boto3', 'paramiko', 'rich', 'sqlalchemy', 'yaml', 'tuf', 'cryptography'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("7d", 604_800), ("2w", 1_209_600), ("0s", 0)],
)
def test_durations_are_those_of_a_spec(text: str, seconds: int) -> None:
    """What a spec may say, a switch may say; and it is said back in the same words."""
    assert inputs.duration(text, "--x").total_seconds() == seconds
    assert inputs.duration(inputs.spoken(seconds), "--x").total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "-5s", "5 s", "5y", "1.5h", "999999d", "9999999s"])
def test_what_is_no_duration_is_named(text: str) -> None:
    """Nothing is guessed, and nothing is so long that a calendar ends before it."""
    with pytest.raises(Malformed, match="--x: "):
        inputs.duration(text, "--x")


# -- forms of output ---------------------------------------------------------------------------


@given(st.lists(st.fixed_dictionaries({"a": st.text(max_size=8), "b": st.integers()}), max_size=4))
def test_tables_have_one_line_a_row(items: list[dict[str, Any]]) -> None:
    """Whatever a value holds, a row stays one line and no control character gets through."""
    text = output.rows("table", items, ["a", "b"])
    assert text.count("\n") == len(items) + 1
    assert all(c.isprintable() for c in text.replace("\n", ""))


def test_csv_is_no_formula() -> None:
    """A cell that a spreadsheet would run is written as text; numbers stay numbers."""
    text = output.rows("csv", [{"a": "=1+1", "b": -1}], ["a", "b"])
    assert text == "a,b\n'=1+1,-1\n"


def test_details_in_csv_keep_their_parts() -> None:
    """A thing with parts stays one CSV row, its parts as JSON."""
    text = output.details("csv", {"id": "x", "parts": [{"n": 1}]})
    assert text == 'id,parts\nx,"[{""n"": 1}]"\n'


def test_an_error_can_not_steer_a_terminal(ota: Ota, tmp_path: Path) -> None:
    """A message repeats words of a hostile file: on one line, without control characters."""
    spec = tmp_path / "s.yaml"
    spec.write_text('"x\\e[2J\\nnext: rm -rf /": 1\n')
    found = ota("rollout", "plan", spec).err
    assert "s.yaml:1: x?[2J next: rm -rf /: unknown key" in found
    assert all(c.isprintable() or c == "\n" for c in found)


def test_an_error_without_a_remedy_names_its_own_help(ota: Ota, tmp_path: Path) -> None:
    """The next command to try is the help of the command that failed, not of the whole program."""
    wrong = tmp_path / "wrong.json"
    wrong.write_text("no bundle")
    assert ota("repo", "import", wrong).err.endswith("next: ota repo import --help\n")
