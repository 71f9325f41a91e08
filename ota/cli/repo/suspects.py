"""``ota repo suspects``: what a stolen offline key could have let in, and which devices have it."""

from __future__ import annotations

from typing import Annotated

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.cli.repo.noun import app
from ota.errors import NotPermitted


@app.command(
    epilog="Example: ota repo suspects --key targets-2 --since 2026-11-01T00:00:00Z --yank"
)
def suspects(
    ctx: typer.Context,
    key: Annotated[
        str,
        typer.Option(
            "--key", help="The keyholder whose key was stolen.", autocompletion=inputs.keyholders
        ),
    ],
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
    used: dict[str, list[str]] = {}
    if yank and found:
        used = wiring.releases.in_use([r.path for r in found])
        free = [path for path, reasons in used.items() if not reasons]
        session.confirm(f"no device will install {', '.join(free) or 'none of them'} any more")
        wiring.releases.yank_all(free, now)
    session.details(
        {
            "suspects": [
                {
                    "path": r.path,
                    "version": r.version,
                    "sha256": r.sha256,
                    "yanked": yank and not used[r.path],
                }
                for r in found
            ],
            "devices": [vars(item) for item in devices],
        }
    )
    if yank and found:
        session.say("next: ota repo change, ota repo sign --key NAME, ota repo publish")
    kept = [f"{path}: {reasons[0]}" for path, reasons in used.items() if reasons]
    if kept:
        raise NotPermitted(
            f"{len(kept)} of {len(found)} are in use and stay: {'; '.join(kept[:5])}",
            code="in-use",
            remedy="ota rollout abort, or roll out another release first; then the same again",
        )
