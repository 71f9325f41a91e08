"""What every command has at hand: where it works, how it prints, how it asks.

Commands print data through ``rows`` and ``record`` and tell what they do through ``say``. They
reach use cases through ``wiring``, which reads the settings when it is first asked for.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ota.cli import output
from ota.errors import NotFound, NotPermitted
from signing import strict

if TYPE_CHECKING:
    from ota.wiring.wiring import Wiring


class Format(StrEnum):
    """Forms of the data on stdout."""

    table = "table"
    json = "json"
    csv = "csv"


def now() -> datetime:
    """The clock of the command line, the only place where it reads one; whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass
class Session:
    """One run of ``ota``."""

    workspace: Path
    output: Format
    yes: bool

    @cached_property
    def wiring(self) -> Wiring:
        """Use cases of this workspace; ``NotFound`` when it is none."""
        from ota.settings import settings  # noqa: PLC0415 - `ota --help` stays quick
        from ota.wiring.wiring import Wiring  # noqa: PLC0415 - the same

        return Wiring(settings.load(self.workspace, os.environ), ask_secret, now)

    def close(self) -> None:
        """Let go of the registry, where it was opened."""
        if "wiring" in self.__dict__:
            self.wiring.close()

    def rows(self, items: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Print a list of things: a table, a JSON array, or CSV."""
        sys.stdout.write(output.rows(self.output.value, items, columns))

    def record(self, item: Mapping[str, Any]) -> None:
        """Print one thing: ``key: value`` lines, a JSON object, or CSV with one row."""
        sys.stdout.write(output.record(self.output.value, item))

    def details(self, item: Mapping[str, Any]) -> None:
        """Print one thing with its parts: several tables, a JSON object, or CSV with one row."""
        sys.stdout.write(output.details(self.output.value, item))

    def print(self, text: str) -> None:
        """One line of data on stdout; what a terminal would obey is shown as ``?``."""
        sys.stdout.write("".join(c if c.isprintable() else "?" for c in text) + "\n")

    def say(self, text: str) -> None:
        """One line about what happens, on stderr."""
        sys.stderr.write(strict.shown(text) + "\n")

    def confirm(self, what: str) -> None:
        """Ask a person before something that can not be taken back; ``--yes`` answers.

        Raises ``NotPermitted`` where nobody can be asked.
        """
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise NotPermitted(
                f"{what}: needs a person's yes",
                code="unconfirmed",
                remedy="the same command with --yes",
            )
        typer.confirm(f"{what}. Go on?", abort=True, err=True)

    def ask(self, what: str) -> None:
        """Ask a person at a terminal; scripts, which were shown the same, go on."""
        if not self.yes and sys.stdin.isatty():
            typer.confirm(f"{what}?", abort=True, err=True)


def of(ctx: typer.Context) -> Session:
    """The session of a command's context."""
    session = ctx.obj
    assert isinstance(session, Session)  # noqa: S101 - set by the callback of the application
    return session


def ask_secret(prompt: str) -> str:
    """Ask on the terminal, without echo; ``NotFound`` where there is none."""
    if not sys.stdin.isatty():
        raise NotFound(
            f"{prompt}: none is configured and there is no terminal to ask on",
            code="passphrase",
            remedy="export OTA_PASSPHRASE=..., or [passphrases] in ota.toml",
        )
    return getpass.getpass(f"{prompt}: ")
