"""``ota release``: what may run; described, signed, published, taken off."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs, progress
from ota.cli import repo as repo_commands
from ota.cli import session as sessions
from ota.cli.repo.noun import ended
from ota.errors import Misuse

if TYPE_CHECKING:
    from ota.repositories.release import Listed
    from signing.release import Release

app = typer.Typer(name="release", no_args_is_help=True, help="Releases: what may run.")


class ImageFormat(StrEnum):
    """How an installer reads the image."""

    file = "file"
    tar = "tar"
    zip = "zip"


Sign = Annotated[
    list[str] | None,
    typer.Option(
        "--sign",
        help="Sign at once as this keyholder; repeatable.",
        autocompletion=inputs.keyholders,
    ),
]
Publish = Annotated[bool, typer.Option("--publish", help="And publish at once.")]
Name = Annotated[str, typer.Argument(metavar="RELEASE", help="COMPONENT@VERSION, or a path.")]
_LIST = ("path", "version", "release_counter", "hardware_ids", "format", "length", "state")


@app.command(
    epilog="Example: ota release add app-2.0.0.tar.gz --component app --version 2.0.0 "
    "--hardware gw-rev-b --sign targets-1 --sign targets-2 --publish"
)
def add(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The image: any file, of any size.")],
    component: Annotated[str, typer.Option(help="The part of the device it is for.")],
    version: Annotated[str, typer.Option(help="For people, as 2.0.0; never compared.")],
    hardware: Annotated[list[str], typer.Option(help="What it is built for; repeatable.")],
    security_fix: Annotated[
        bool, typer.Option("--security-fix", help="Raise the counter: no way back to older ones.")
    ] = False,
    notes: Annotated[str, typer.Option(help="For people; signed with it.")] = "",
    path: Annotated[
        str,
        typer.Option(help="Where it is listed. Default: COMPONENT/COMPONENT-VERSION.EXTENSION."),
    ] = "",
    image_format: Annotated[
        ImageFormat | None,
        typer.Option("--format", help="What the installer unpacks. Default: by content."),
    ] = None,
    sign: Sign = None,
    publish: Publish = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only describe it.")] = False,
) -> None:
    """Describe a build and list it in the waiting change of the image repository."""
    from ota.repositories.release import Build  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    _check_publish(sign, publish=publish)
    build = Build(
        file,
        component,
        version,
        tuple(hardware),
        security_fix,
        notes,
        path or None,
        image_format.value if image_format else None,
    )
    releases = session.wiring.releases
    with progress.bar(file.name) as tick:
        make = releases.describe if dry_run else releases.add
        release = make(build, sessions.now(), tick)
    if not dry_run:
        _finish(session, sign, publish=publish)
    session.record(_release(release))
    if not dry_run and not sign:
        session.say("next: ota release sign --key NAME, for each who must sign")


@app.command(epilog="Example: ota release sign --key targets-1")
def sign(
    ctx: typer.Context,
    keys: Annotated[
        list[str],
        typer.Option("--key", help="Keyholder; may be repeated.", autocompletion=inputs.keyholders),
    ],
) -> None:
    """Show what the waiting change of the image repository says, and sign it."""
    session = sessions.of(ctx)
    releases, show = session.wiring.releases, repo_commands.reviewer(session)
    signed = [item for name in keys for item in releases.sign(name, sessions.now(), show)]
    repo_commands.print_signed(session, signed, "ota release publish")


@app.command(epilog="Example: ota release publish")
def publish(ctx: typer.Context) -> None:
    """Publish the waiting change: images first, metadata next, the timestamp last."""
    session = sessions.of(ctx)
    session.rows([{"published": name} for name in _publish(session)], ["published"])


@app.command("list", epilog="Example: ota release list -o csv")
def list_(ctx: typer.Context) -> None:
    """List every release, published or waiting."""
    session = sessions.of(ctx)
    found = session.wiring.releases.listing(sessions.now())
    session.rows([_listed(item) for item in found], _LIST)


@app.command(epilog="Example: ota release show app@2.0.0 -o json")
def show(ctx: typer.Context, name: Name) -> None:
    """Show a release: one for each hardware that it was built for."""
    session = sessions.of(ctx)
    found = [_listed(item) for item in session.wiring.releases.show(name, sessions.now())]
    if session.output == sessions.Format.table:
        for item in found:
            session.record(item)
    else:
        session.rows(found, list(found[0]))


@app.command(epilog="Example: ota release yank app@1.0.0 --sign targets-1 --sign targets-2")
def yank(
    ctx: typer.Context,
    name: Name,
    sign: Sign = None,
    publish: Publish = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether it may go.")] = False,
) -> None:
    """Take a release off the list; refused while a device or an open rollout needs it."""
    session = sessions.of(ctx)
    _check_publish(sign, publish=publish)
    releases = session.wiring.releases
    paths = releases.paths(name, sessions.now())
    if not paths:
        session.say(f"{name}: the waiting change takes it off already")
    if dry_run:
        releases.check_yank(paths, sessions.now())
        session.rows([{"path": path, "yanked": "dry run"} for path in paths], ("path", "yanked"))
        return
    session.confirm(f"no device will install {', '.join(paths) or name} any more")
    for path, reasons in releases.yank_all(paths, sessions.now()).items():
        if reasons:
            session.say(f"{path}: only from where it does not belong; it is {reasons[0]}")
    _finish(session, sign, publish=publish)
    session.rows(
        [{"path": path, "yanked": "published" if publish else "waiting"} for path in paths],
        ("path", "yanked"),
    )


def _check_publish(sign: list[str] | None, *, publish: bool) -> None:
    if publish and not sign:
        raise Misuse("--publish needs the signatures of --sign", remedy="ota release sign --key")


def _finish(session: sessions.Session, sign: list[str] | None, *, publish: bool) -> None:
    """Sign and publish at once, where asked for; progress goes to stderr."""
    show = repo_commands.reviewer(session)
    for name in sign or ():
        for signed in session.wiring.releases.sign(name, sessions.now(), show):
            lacks = ", ".join(repo_commands.lacking(signed.missing)) or "nothing"
            session.say(f"signed as {name}: {', '.join(signed.roles)}; missing: {lacks}")
    if publish:
        _publish(session)


def _publish(session: sessions.Session) -> list[str]:
    with progress.bar("upload") as tick:
        done = session.wiring.releases.publish(
            sessions.now(), lambda _name, number, of: tick(number, of)
        )
    for name in done:
        session.say(f"published: {name}")
    ended(session)
    return done


def _listed(item: Listed) -> dict[str, Any]:
    return {**_release(item.release), "state": item.state}


def _release(release: Release) -> dict[str, Any]:
    return {
        "path": release.path,
        "component": release.component,
        "version": release.version,
        "hardware_ids": release.hardware_ids,
        "release_counter": release.release_counter,
        "security_fix": release.security_fix,
        "format": release.format,
        "length": release.length,
        "sha256": release.sha256,
        "notes": release.notes,
    }
