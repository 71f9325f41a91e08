"""``ota repo publish | apply | refresh``: signed changes and timestamps become public."""

from __future__ import annotations

from typing import Annotated

import typer

from ota.cli import progress
from ota.cli import session as sessions
from ota.cli.repo.noun import Counter, Only, app, ended, repository
from ota.errors import Outage, Stale

_SHOWN = 20


@app.command(epilog="Example: ota repo publish")
def publish(ctx: typer.Context, only: Only = "") -> None:
    """Publish what has its signatures; completes what a killed publish began."""
    session = sessions.of(ctx)
    with progress.bar("upload") as tick:
        done = session.wiring.repositories.publish(
            sessions.now(), repository(only), lambda _name, number, of: tick(number, of)
        )
    session.rows([{"published": name} for name in done], ["published"])
    ended(session)


@app.command(epilog="Example: ota repo apply")
def apply(ctx: typer.Context, only: Only = "") -> None:
    """The same as publish: apply a signed change."""
    publish(ctx, only)


@app.command(epilog="Example: ota repo refresh   (from a timer, every six hours)")
def refresh(
    ctx: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="What is not due, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is due.")] = False,
) -> None:
    """Sign timestamps anew before they expire, which would stop the fleet's updates.

    Exit 1 as well when a role that people sign has expired: no timer can mend that.
    """
    session = sessions.of(ctx)
    done = session.wiring.refresh(every=every, dry_run=dry_run, progress=Counter(session, 100))
    signed = "due" if dry_run else "refreshed"
    state = "failed" if "image" in done.problems else signed if done.image else "not due"
    session.record({"image": state, "devices": len(done.devices)})
    for device in done.devices[:_SHOWN] if dry_run else ():
        session.say(f"due: {device}")
    for name, error in done.problems.items():
        session.say(f"{name}: {error}")
    if done.problems:
        raise Outage(
            f"not refreshed: {', '.join(sorted(done.problems)[:5])} ({len(done.problems)} in all)",
            subject=min(done.problems),
            remedy="ota repo verify",
        )
    expired = ended(session)
    if expired:
        raise Stale(
            f"what people sign has expired: {', '.join(expired)}",
            code="expired",
            subject=expired[0],
            remedy="ota repo change --renew-within 60d, then sign and publish",
        )
