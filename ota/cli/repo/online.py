"""``ota repo rotate-online | recover``: online keys replaced, stores restored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ota.cli import session as sessions
from ota.cli.repo.noun import Counter, Only, app, repository, required
from ota.errors import Misuse, NeedsHuman, NotPermitted, Outage

if TYPE_CHECKING:
    from ota.errors import OtaError
    from ota.repositories.rotating import Rotated
    from signing.changes.ceremony import Repository


@app.command("rotate-online", epilog="Example: ota repo rotate-online director")
def rotate_online(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="REPOSITORY", help="image or director.")],
) -> None:
    """Replace online keys by those that the policy names now; no device is left behind.

    Run it again until it is done: it makes the change, signs every device's metadata with old and
    new keys, and publishes the root once its keyholders have signed.
    """
    from ota.repositories import rotating  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    repos = session.wiring.repositories
    done = rotating.rotate(repos, required(name), sessions.now(), Counter(session))
    _print(session, [done])


@app.command(epilog="Example: ota repo recover --online --only director")
def recover(
    ctx: typer.Context,
    online: Annotated[
        bool, typer.Option("--online", help="Online keys were stolen: replace them.")
    ] = False,
    bump: Annotated[
        int, typer.Option("--bump", help="The store was restored: lift versions by this many.")
    ] = 0,
    only: Only = "",
) -> None:
    """After a theft of online keys, or after a store was restored from a backup.

    --online: name new keys in repo-metadata/ first. The root goes out at once, then every
    device's metadata anew, with nothing assigned; run it again until it is done.
    """
    session = sessions.of(ctx)
    if online == bool(bump):
        raise Misuse("either --online or --bump N", remedy="ota repo recover --help")
    if bump:
        _lift(session, bump)
    else:
        _recover(session, repository(only))


def _recover(session: sessions.Session, only: Repository | None) -> None:
    from ota.repositories import rotating  # noqa: PLC0415 - `ota --help` stays quick
    from ota.repositories.opened import REPOSITORIES  # noqa: PLC0415 - the same

    repos = session.wiring.repositories
    session.confirm("online keys are replaced; assignments of every device are withdrawn")
    done: list[Rotated] = []
    waits: NeedsHuman | None = None
    kept: NotPermitted | None = None
    for name in (only,) if only else REPOSITORIES:
        try:
            done.append(rotating.recover(repos, name, sessions.now(), Counter(session)))
        except NeedsHuman as e:
            waits = waits or e
        except NotPermitted as e:
            if only or e.code != "key-kept":
                raise
            kept = e
    if waits is not None:
        raise waits
    if kept is not None and not done:
        raise kept
    _print(session, done)


def _lift(session: sessions.Session, by: int) -> None:
    from ota.repositories import restoring  # noqa: PLC0415 - `ota --help` stays quick

    wiring = session.wiring
    session.confirm(f"every version is lifted by {by}")
    tick = Counter(session)
    done = restoring.lift(wiring.repositories, by, wiring.reported(), sessions.now(), tick)
    session.record(
        {
            "roots": len(done.roots),
            "devices": len(done.devices),
            "waiting": list(done.pending.roles),
        }
    )
    session.say("next: ota repo sign --key NAME for each keyholder, then ota repo publish")
    _raise(session, done.problems)


def _print(session: sessions.Session, done: list[Rotated]) -> None:
    session.rows(
        [{"repository": d.repository, "root": d.root, "devices": len(d.devices)} for d in done],
        ("repository", "root", "devices"),
    )
    for item in done:
        _raise(session, item.problems)


def _raise(session: sessions.Session, problems: dict[str, OtaError]) -> None:
    for name, error in problems.items():
        session.say(f"{name}: {error}")
    if problems:
        raise Outage(
            f"{len(problems)} devices remain: {', '.join(sorted(problems)[:5])}",
            subject=min(problems),
            remedy="the same command again",
        )
