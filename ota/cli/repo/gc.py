"""``ota repo gc``: remove from the store what nobody can be led to any more."""

from __future__ import annotations

from typing import Annotated

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.cli.repo.noun import app
from ota.errors import Outage

_SHOWN = 20


@app.command(epilog="Example: ota repo gc --yes   (from a timer, once a day)")
def gc(
    ctx: typer.Context,
    grace: Annotated[
        str, typer.Option("--grace", help="How long a thing stays after it is needed last.")
    ] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove metadata and images that nothing leads to any more, after a time of grace.

    Nothing goes that a director, an open rollout, a waiting change or an unfinished publish names,
    nor the set before the newest. The first run only notes what is unneeded.
    """
    from signing import strict  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    life = inputs.duration(grace, "--grace")
    found = session.wiring.collect(life, dry_run=True)
    if found.due and not dry_run:
        session.confirm(f"{len(found.due)} objects will be removed from the store")
    if not dry_run:
        found = session.wiring.collect(life, dry_run=False)
    gone = "due" if dry_run else "removed"
    session.rows(
        [
            {"kind": kind, "kept": t.kept, "waiting": t.waiting, gone: t.due, "bytes": t.bytes}
            for kind, t in found.tallies.items()
        ],
        ("kind", "kept", "waiting", gone, "bytes"),
    )
    for name in found.due[:_SHOWN] if dry_run else ():
        session.say(f"would remove {name}")
    if dry_run and len(found.due) > _SHOWN:
        session.say(f"... and {len(found.due) - _SHOWN} more")
    if found.next_due is not None:
        session.say(f"the next ones are due at {strict.stamp(found.next_due)}")
    for device, error in found.problems.items():
        session.say(f"director of {device}: {error}; nothing of it is removed")
    if found.problems:
        raise Outage(
            f"{len(found.problems)} devices could not be read",
            subject=min(found.problems),
            remedy="ota repo verify",
        )
