"""``ota repo roots | status | verify``: how both repositories stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.cli.repo.noun import app
from ota.errors import Outage, Refusal, Stale

if TYPE_CHECKING:
    from ota.repositories.repostatus import Finding

_RESTORE = "restore what is named from a backup of the store, then ota repo verify; who changed it?"


@app.command(epilog="Example: ota repo roots -o json")
def roots(ctx: typer.Context) -> None:
    """List the first root of each repository, to be carried to devices by hand."""
    session = sessions.of(ctx)
    session.rows(session.wiring.first_roots(), ("repository", "sha256", "file"))


@app.command(epilog="Example: ota repo status --fail-within 30d -o json")
def status(
    ctx: typer.Context,
    fail_within: Annotated[
        str, typer.Option("--fail-within", help="Exit 1 when anything ends within this, as 30d.")
    ] = "",
) -> None:
    """Show roles with versions and expiries, waiting changes and unfinished publishes."""
    from ota.repositories import repostatus  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    within = inputs.duration(fail_within, "--fail-within") if fail_within else None
    found = repostatus.status(session.wiring.repositories, sessions.now())
    ending = session.wiring.expiring(within) if within else []
    session.details(
        {
            "unfinished": found.unfinished,
            "roles": [_role(r) for r in found.roles],
            "waiting": [
                {"repository": p.repository, "role": role, "signed": signed, "missing": text}
                for p in found.pending
                for role, (signed, text) in p.roles.items()
            ],
            "changes": [
                {"repository": p.repository, "change": line}
                for p in found.pending
                for line in p.summary
            ],
        }
        | ({"expiring": [vars(e) for e in ending]} if within else {})
    )
    if ending:
        names = ", ".join(f"{e.repository} {e.name}" for e in ending[:20])
        raise Stale(
            f"ends within {fail_within}: {names}",
            code="expiring",
            subject=ending[0].name,
            remedy="ota repo change --renew-within 60d for what people sign, else ota repo refresh",
        )


def _role(role: Any) -> dict[str, Any]:
    return {
        "repository": role.repository,
        "role": role.role,
        "version": role.version,
        "expires": role.expires,
        "health": role.health,
        "threshold": f"{role.threshold} of {len(role.keyholders)}",
        "keyholders": role.keyholders,
        "bins": role.bins,
    }


@app.command(epilog="Example: ota repo verify --all -o csv")
def verify(
    ctx: typer.Context,
    show_all: Annotated[bool, typer.Option("--all", help="List what holds, too.")] = False,
) -> None:
    """Check every byte in the store that a device could be given, from your own roots."""
    session = sessions.of(ctx)
    found = list(session.wiring.verify())
    bad = [finding for finding in found if not finding.ok]
    session.rows([_finding(f) for f in (found if show_all else bad)], ("name", "result", "message"))
    session.say(f"{len(found)} checked, {len(bad)} wrong")
    _raise(bad)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "result": finding.code or "ok",
        "message": finding.message,
    }


def _raise(bad: list[Finding]) -> None:
    from signing.refusals import REFUSALS  # noqa: PLC0415 - `ota --help` stays quick

    tampered = [f for f in bad if f.code in REFUSALS]
    if tampered:
        first = tampered[0]
        usual = REFUSALS[first.code].remedy
        remedy = _RESTORE if usual.startswith("ota repo verify") else usual
        raise Refusal(
            first.code, f"{first.name}: {first.message}", subject=first.name, remedy=remedy
        )
    if bad:
        first = bad[0]
        raise Outage(
            f"{first.name}: {first.message}",
            code=first.code,
            subject=first.name,
            remedy="ota repo status; then ota repo refresh, or for what people sign"
            " ota repo change --renew-within 60d",
        )
