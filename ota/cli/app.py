"""The ``ota`` application: global options, nouns, and the way errors reach a person.

stdout is data, stderr is progress and errors. Global options may stand anywhere on the line.
Every error prints ``error:``, what it is about, its stable ``code:`` and ``next:``, the command
to try; no traceback without ``--debug``. Exit codes: 0 done, 1 error, 2 usage, 3 verification
refused, 4 not permitted, 5 stopped by a gate, 6 waiting for a human, 7 another operator holds
it, 8 still running at the time limit, 130 interrupted.

>>> run(["-C", "plant", "fleet", "list", "-o", "json"])
0
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from ota.cli import (
    completion,
    device,
    fleet,
    infra,
    init,
    key,
    playbook,
    quickstart,
    release,
    repo,
    rollout,
    ssh,
    ssm,
    store,
    tree,
)
from ota.cli.session import Format, Session
from ota.errors import Misuse, OtaError, Outage
from signing import strict

_WITH_VALUE = ("-C", "--workspace", "-o", "--output")
_INTERRUPTED = 130
_FLAGS = ("--debug", "--yes", "-y")

app = typer.Typer(
    name="ota",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "terminal_width": 100},
    epilog="Example: ota quickstart   (a fleet on this machine, in half a minute)",
)
app.command("init", epilog=init.EXAMPLE)(init.init)
app.command("quickstart", epilog=quickstart.EXAMPLE)(quickstart.quickstart)
app.command("completion", epilog=completion.EXAMPLE)(completion.completion)
for noun in (key, repo, release, fleet, device, rollout, playbook, ssh, ssm, store, infra):
    app.add_typer(noun.app)


def _version(value: bool) -> None:
    if value:
        from importlib import metadata  # noqa: PLC0415 - slow to import

        try:
            found = metadata.version("ota-orchestrator")
        except metadata.PackageNotFoundError:
            found = "from a source folder"
        typer.echo(f"ota {found}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    workspace: Annotated[
        Path,
        typer.Option("-C", "--workspace", envvar="OTA_WORKSPACE", help="The operator's folder."),
    ] = Path(),
    output: Annotated[
        Format, typer.Option("-o", "--output", help="Form of the data on stdout.")
    ] = Format.table,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask: for scripts.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Signed over-the-air updates: sign, publish, roll out in waves, verify, roll back.

    Whoever carries an update can not change it, aim it, or lie about it.
    """
    del debug  # read from the arguments by run(), so that it works for usage errors too
    ctx.obj = Session(workspace, output, yes)
    ctx.call_on_close(ctx.obj.close)


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code; never raises for a foreseen error."""
    debug = "--debug" in args
    sys.excepthook = _unforeseen if not debug else sys.__excepthook__
    try:
        command = tree.command(app)
        code = command.main(hoist(args), prog_name="ota", standalone_mode=False)
        sys.stdout.flush()
    except (OtaError, TyperException, Abort, OSError) as e:
        if debug:
            traceback.print_exc()
        return _explain(e, _command(args))
    if code == _INTERRUPTED:
        sys.stderr.write("interrupted; the same command again goes on, or begins anew\n")
    return code if isinstance(code, int) else 0


def hoist(args: Sequence[str]) -> list[str]:
    """Move global options to the front, so that ``ota fleet list -o json`` works; ``Misuse``.

    >>> hoist(["fleet", "list", "-o", "json"])
    ['-o', 'json', 'fleet', 'list']
    """
    front: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in _WITH_VALUE:
            value = next(words, None)
            if value is None:
                raise Misuse(f"{word} needs a value", remedy="ota --help")
            front += [word, value]
        elif word in _FLAGS or word.startswith(("--workspace=", "--output=")):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def _command(args: Sequence[str]) -> str:
    """The command of a line, as far as it names one: ``ota repo import``."""
    words = iter(args)
    found = ["ota"]
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            found.append(word)
    known: object = tree.command(app)
    named = []
    for word in found[1:]:
        known = getattr(known, "commands", {}).get(word)
        if known is None:
            break
        named.append(word)
    return " ".join(["ota", *named])


def _explain(error: Exception, command: str) -> int:
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, Abort):
        _print(
            Misuse("not confirmed: nothing was done after the question", remedy=f"{command} again"),
            command,
        )
        return 1
    if type(error).__name__ == "NoArgsIsHelpError" and isinstance(error, TyperException):
        sys.stderr.write(error.format_message() + "\n")
        return error.exit_code
    if isinstance(error, TyperException):
        where = getattr(getattr(error, "ctx", None), "command_path", "ota")
        text = error.format_message() or "a command is missing"
        _print(Misuse(text, remedy=f"{where} --help"), command)
        return error.exit_code
    if isinstance(error, OSError):
        what = error.filename if isinstance(error.filename, str) else ""
        error = Outage(error.strerror or str(error), subject=what, remedy="ls -ld, df -h")
    if not isinstance(error, OtaError):
        raise error
    _print(error, command)
    return error.exit_code


def _print(error: OtaError, command: str) -> None:
    lines = [f"error: {error}"]
    if error.subject and error.subject not in str(error):
        lines.append(f"what: {error.subject}")
    lines.append(f"code: {error.code}")
    lines.append(f"next: {error.remedy or f'{command} --help'}")
    sys.stderr.write("".join(f"{strict.shown(line)}\n" for line in lines))


def _unforeseen(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    sys.stderr.write(
        f"error: a mistake of this program: {kind.__name__}: {error}\n"
        "code: internal\nnext: the same command with --debug, and report what it prints\n"
    )
