"""``ota init``: make a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ota.cli import session as sessions

EXAMPLE = "Example: ota init plant"
_NEXT = "next: edit {0}/repo-metadata (who signs what), then ota -C {0} key generate root-1 ..."


def init(
    ctx: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="The new workspace.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be made.")
    ] = False,
) -> None:
    """Make a workspace: settings and role policies to adapt before the first key is made."""
    from ota import workspace  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    place = folder or session.workspace
    made = workspace.create(place, dry_run=dry_run)
    session.rows([{"file": str(path)} for path in made], ["file"])
    session.say("nothing was written" if dry_run else _NEXT.format(place))
