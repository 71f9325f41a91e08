"""What the verbs of ``ota repo`` share."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ota.cli import inputs
from ota.cli import session as sessions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ota.repositories.repo import Show, Signed
    from signing.changes.ceremony import Pending, Repository

app = typer.Typer(
    name="repo", no_args_is_help=True, help="The image and director repositories, signed by roles."
)

Only = Annotated[
    str,
    typer.Option(
        "--only",
        help="image or director; both without it.",
        autocompletion=inputs.repositories,
    ),
]
SIGNED = ("repository", "roles", "missing")
OTHERS = "ota repo export FILE, for who must sign too; or ota repo sign --key NAME here"


def reviewer(session: sessions.Session) -> Show:
    """Shows a signer what each change says, once, before it is signed; at a terminal it asks."""
    shown: set[tuple[str, tuple[str, ...]]] = set()

    def show(name: Repository, words: tuple[str, ...]) -> None:
        if (name, words) not in shown:
            shown.add((name, words))
            tell(session, name, words)
            session.ask(f"sign this change of the {name} repository")

    return show


def print_signed(session: sessions.Session, signed: Iterable[Signed], publish: str) -> None:
    """What was signed last in each repository, what it still lacks, and what comes next.

    ``publish`` is the command that publishes it, "" once it is published.
    """
    latest = {item.repository: item for item in signed}.values()
    table = session.output == sessions.Format.table
    session.rows(
        [
            {
                "repository": item.repository,
                "roles": list(_folded(dict.fromkeys(item.roles, ""))) if table else item.roles,
                "missing": lacking(item.missing) if table else item.missing,
            }
            for item in latest
        ],
        SIGNED,
    )
    if any(item.missing for item in latest):
        session.say(f"next: {OTHERS}")
    elif publish:
        session.say(f"next: {publish}")


def lacking(missing: Mapping[str, str]) -> list[str]:
    """``root 1 of 2 signed``, a line's worth; all bins of a component are one item."""
    return [f"{name} {text} signed" for name, text in _folded(missing).items()]


def _folded(roles: Mapping[str, str]) -> dict[str, str]:
    """Roles with their words; bins of one component that say the same become ``16 bins of app``."""
    from signing import bins  # noqa: PLC0415 - `ota --help` stays quick

    found: dict[str, str] = {}
    several: dict[tuple[str, str], int] = {}
    for name, text in roles.items():
        if bins.is_bin(name):
            key = (bins.component_of(name), text)
            several[key] = several.get(key, 0) + 1
        else:
            found[name] = text
    return found | {f"{n} bins of {name}": text for (name, text), n in several.items()}


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
    table = session.output == sessions.Format.table
    rows = [
        {"repository": p.repository, "role": role, "missing": text}
        for p in found
        for role, text in (_folded(p.missing) if table else p.missing).items()
    ]
    if rows or not table:
        session.rows(rows, ("repository", "role", "missing"))
    if found and not rows:
        session.say("everything is signed; next: ota repo publish")


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
