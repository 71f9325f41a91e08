"""What the verbs of ``ota repo`` share."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ota.cli import session as sessions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ota.repositories.repo import Signed
    from signing.changes.ceremony import Pending, Repository

app = typer.Typer(
    name="repo", no_args_is_help=True, help="The image and director repositories, signed by roles."
)

Only = Annotated[str, typer.Option("--only", help="image or director; both without it.")]
SIGNED = ("repository", "roles", "missing")


def print_signed(session: sessions.Session, signed: Iterable[Signed]) -> None:
    """What was signed, and on stderr what the change says."""
    latest = {item.repository: item for item in signed}
    for item in latest.values():
        tell(session, item.repository, item.summary)
    print_latest(session, latest.values())


def print_latest(session: sessions.Session, signed: Iterable[Signed]) -> None:
    """What was signed last in each repository, and what it still lacks."""
    latest = {item.repository: item for item in signed}
    session.rows(
        [
            {"repository": s.repository, "roles": s.roles, "missing": s.missing}
            for s in latest.values()
        ],
        SIGNED,
    )


def tell(session: sessions.Session, name: str, words: Iterable[str]) -> None:
    """What a change says, one line each, on stderr."""
    for line in words:
        session.say(f"{name}: {line}")


def print_changes(session: sessions.Session, changes: Iterable[Pending]) -> None:
    """Changes in words, one row each."""
    repos = session.wiring.repositories
    rows = [
        {"repository": change.repository, "change": line}
        for change in changes
        for line in repos.review(change)
    ]
    session.rows(rows, ("repository", "change"))


def print_waiting(session: sessions.Session) -> None:
    """The roles that wait, one row each."""
    from ota.repositories import repostatus  # noqa: PLC0415 - `ota --help` stays quick

    found = repostatus.pending(session.wiring.repositories)
    session.rows(
        [
            {"repository": p.repository, "role": role, "missing": text}
            for p in found
            for role, text in p.missing.items()
        ],
        ("repository", "role", "missing"),
    )


def ended(session: sessions.Session) -> list[str]:
    """Roles that people sign and that have expired; each is told on stderr with what to do.

    Devices refuse nothing then, but update nothing either: whatever else is signed waits for it.
    """
    from ota.repositories import repostatus  # noqa: PLC0415 - `ota --help` stays quick

    found = repostatus.ending(session.wiring.repositories, sessions.now(), timedelta())
    names = [f"{where} {role}" for where, role in found]
    for name in names:
        session.say(f"warning: {name} has expired; no device updates until people sign it again")
    return names


def repository(text: str) -> Repository | None:
    """``image``, ``director`` or None for an empty text; ``Malformed`` for others."""
    return required(text) if text else None


def required(text: str) -> Repository:
    """``image`` or ``director``; ``Malformed`` for others."""
    from ota.repositories.repo import repository_name  # noqa: PLC0415 - `ota --help` stays quick

    return repository_name(text)


class Counter:
    """One line on stderr for each tenth of the devices, where there are ``least`` of them."""

    def __init__(self, session: sessions.Session, least: int = 0) -> None:
        self._session = session
        self._least = least

    def __call__(self, done: int, of: int) -> None:
        """Tell that ``done`` of so many are done."""
        if of < self._least:
            return
        if done == of or done % max(1, of // 10) == 0:
            self._session.say(f"{done} of {of} devices")
