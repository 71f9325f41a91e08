"""``ota repo create | change | sign | export | import | discard``: changes that wait."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.cli.repo.noun import (
    Only,
    app,
    print_changes,
    print_signed,
    print_waiting,
    repository,
    required,
    reviewer,
    tell,
)


@app.command(epilog="Example: ota repo create && ota repo sign --key root-1")
def create(ctx: typer.Context) -> None:
    """Make first roots of both repositories, waiting for their keyholders' signatures."""
    session = sessions.of(ctx)
    session.wiring.repositories.create(sessions.now())
    print_waiting(session)
    session.say("next: ota repo sign --key NAME for each keyholder, then ota repo publish")


@app.command(epilog="Example: ota repo change --dry-run")
def change(
    ctx: typer.Context,
    only: Only = "",
    renew: Annotated[
        str, typer.Option("--renew-within", help="Sign again what ends within this, such as 60d.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what differs.")] = False,
) -> None:
    """Turn edits of repo-metadata/ into a change that waits for signatures."""
    from ota.repositories import repostatus  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    repos, now = session.wiring.repositories, sessions.now()
    within = inputs.duration(renew, "--renew-within") if renew else None
    ending = repostatus.ending(repos, now, within) if within else []
    made = repos.change(now, repository(only), ending, dry_run=dry_run)
    print_changes(session, made.values())
    if not made:
        session.say("the policy files say what is published: nothing to change")
    elif not dry_run:
        session.say("next: ota repo sign --key NAME, or ota repo export FILE for other machines")


@app.command(epilog="Example: ota repo sign --key root-1")
def sign(
    ctx: typer.Context,
    keys: Annotated[
        list[str],
        typer.Option("--key", help="Keyholder; may be repeated.", autocompletion=inputs.keyholders),
    ],
    only: Only = "",
) -> None:
    """Show what waits, ask, and sign every role that this keyholder holds."""
    session = sessions.of(ctx)
    repos, show = session.wiring.repositories, reviewer(session)
    signed = [i for k in keys for i in repos.sign(k, sessions.now(), repository(only), show)]
    print_signed(session, signed, "ota repo publish")


@app.command(epilog="Example: ota repo export root-2.json")
def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="To be carried to another machine.")],
    only: Only = "",
) -> None:
    """Write what waits, with its signatures, to one file; nothing secret is in it."""
    from signing import durable  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    data = session.wiring.repositories.export(repository(only))
    if file.exists():
        session.confirm(f"{file} will be replaced")
    durable.replace(file, data)
    session.record({"file": str(file), "bytes": len(data)})


@app.command("import", epilog="Example: ota repo import root-2.json")
def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="From ota repo export, here or elsewhere.")],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Drop what waits here first, such as what was published since."
        ),
    ] = False,
) -> None:
    """Take what an export holds: changes, or signatures for those that wait here.

    All of it or nothing. Nothing in the file is believed: what it says is read anew from the
    bytes to be signed.
    """
    from ota.errors import NotFound  # noqa: PLC0415 - `ota --help` stays quick
    from signing import durable  # noqa: PLC0415 - the same
    from signing.changes import bundle  # noqa: PLC0415 - the same

    session = sessions.of(ctx)
    data = durable.read(file, bundle.LIMIT, "bundle")
    if data is None:
        raise NotFound(f"{file} is not there", subject=str(file), remedy="ota repo export FILE")
    repos = session.wiring.repositories
    if replace and repos.waiting():
        session.confirm("what waits here and its signatures will be lost")
    with inputs.about(file):
        taken = repos.adopt(data, replace=replace)
    for name, pending in taken.items():
        tell(session, name, repos.review(pending))
    print_waiting(session)


@app.command(epilog="Example: ota repo discard image")
def discard(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="REPOSITORY", help="image or director.")],
) -> None:
    """Throw a waiting change away; what is published stays."""
    session = sessions.of(ctx)
    found = required(name)
    session.confirm(f"the waiting change of {found} and its signatures will be lost")
    session.record({"repository": found, "discarded": session.wiring.repositories.discard(found)})
