"""``ota repo suspects``: what a stolen offline key could have let in, and which devices have it."""

from __future__ import annotations

from typing import Annotated

import typer

from ota.cli import session as sessions
from ota.cli.repo.noun import app


@app.command(
    epilog="Example: ota repo suspects --key targets-2 --since 2026-11-01T00:00:00Z --yank"
)
def suspects(
    ctx: typer.Context,
    key: Annotated[str, typer.Option("--key", help="The keyholder whose key was stolen.")],
    since: Annotated[str, typer.Option("--since", help="When, at the earliest: a UTC time.")],
    yank: Annotated[
        bool, typer.Option("--yank", help="Take them off, in the waiting change.")
    ] = False,
) -> None:
    """After a keyholder's key was stolen: what it may have listed, and who ran it.

    Lists what nothing signed before the theft vouches for, and the devices that have or ran it. Replace
    the keyholder in repo-metadata/ and run ota repo change: one sitting signs both.
    """
    from ota.repositories import compromised  # noqa: PLC0415 - `ota --help` stays quick
    from signing import strict  # noqa: PLC0415 - the same

    session = sessions.of(ctx)
    wiring, now = session.wiring, sessions.now()
    found = compromised.suspects(wiring.repositories, key, strict.instant(since, "--since"), now)
    devices = (
        *compromised.affected(found, wiring.registry.devices("state!=retired")),
        *compromised.ran(found, wiring.registry.newest()),
    )
    if yank and found:
        session.confirm(f"no device will install {', '.join(r.path for r in found)} any more")
        for release in found:
            wiring.releases.yank(release.path, now)
    session.details(
        {
            "suspects": [
                {"path": r.path, "version": r.version, "sha256": r.sha256, "yanked": yank}
                for r in found
            ],
            "devices": [vars(item) for item in devices],
        }
    )
    if yank and found:
        session.say("next: ota repo change, ota repo sign --key NAME, ota repo publish")
