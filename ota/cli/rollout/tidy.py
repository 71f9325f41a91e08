"""``ota rollout tidy``: remove what ended rollouts have left at their couriers."""

from __future__ import annotations

from typing import Annotated

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.cli.rollout.noun import app


@app.command(epilog="Example: ota rollout tidy --older-than 30d --yes   (from a timer, daily)")
def tidy(
    ctx: typer.Context,
    older_than: Annotated[
        str, typer.Option(help="Keep jobs of rollouts that ended less long ago.")
    ] = "7d",
    limit: Annotated[int, typer.Option(min=1, help="Orders in one run; run it again.")] = 500,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Close and remove jobs and groups of ended rollouts at couriers such as iot-jobs.

    Journals and reports stay: a job was never more than a hint.
    """
    session = sessions.of(ctx)
    age = inputs.duration(older_than, "--older-than")
    if not dry_run:
        session.confirm(f"jobs of rollouts that ended more than {older_than} ago will be removed")
    campaign = session.wiring.campaign
    found = campaign.tidy(sessions.now(), age, limit, write=not dry_run)
    for row in found:
        for problem in row.problems:
            session.say(f"{row.rollout}: {problem}")
    gone = "due" if dry_run else "removed"
    rows = [{"rollout": r.rollout, "state": r.state, gone: len(r.removed)} for r in found]
    session.rows(rows, ("rollout", "state", gone))
