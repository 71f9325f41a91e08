"""``ota playbook sign | publish | yank``: who answers for a procedure."""

from __future__ import annotations

from typing import Annotated

import typer

from ota.cli import inputs
from ota.cli import repo as repo_commands
from ota.cli import session as sessions
from ota.cli.playbook import noun
from ota.cli.playbook.noun import Name, app
from ota.errors import Misuse

Keys = Annotated[
    list[str] | None,
    typer.Option("--key", help="Keyholder; may be repeated.", autocompletion=inputs.keyholders),
]
Publish = Annotated[bool, typer.Option("--publish", help="And publish at once.")]


@app.command(
    epilog="Example: ota playbook sign restart-service.yaml --key playbooks-1 --key playbooks-2 "
    "--publish"
)
def sign(
    ctx: typer.Context,
    playbooks: Annotated[
        list[str] | None,
        typer.Argument(metavar="PLAYBOOK", help="YAML files or shipped names to list first."),
    ] = None,
    key: Keys = None,
    publish: Publish = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it says.")] = False,
) -> None:
    """List playbooks in the waiting change of the image repository, and sign it."""
    from ota.playbook import lint  # noqa: PLC0415 - jinja2 is slow to import
    from signing.playbooks import words as playbook_words  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    if publish and not key:
        raise Misuse("--publish needs the signatures of --key", remedy="ota playbook sign --help")
    found = [noun.read_file(text) for text in playbooks or ()]
    for playbook in found:
        for line in lint.findings(playbook):
            session.say(f"{playbook.name}@{playbook.version}: {line}")
    if dry_run:
        for playbook in found:
            for line in playbook_words.lines(playbook):
                session.print(line)
        return
    library = session.wiring.library
    for playbook in found:
        library.add(playbook, sessions.now())
    show = repo_commands.reviewer(session)
    signed = [item for name in key or () for item in library.sign(name, sessions.now(), show)]
    if publish:
        for name in library.publish(sessions.now()):
            session.say(f"published: {name}")
    repo_commands.print_signed(session, signed, "" if publish else "ota playbook publish")


@app.command(epilog="Example: ota playbook publish")
def publish(ctx: typer.Context) -> None:
    """Publish the waiting change of the image repository."""
    session = sessions.of(ctx)
    done = session.wiring.library.publish(sessions.now())
    session.rows([{"published": name} for name in done], ["published"])


@app.command(
    epilog="Example: ota playbook yank restart-service@1.0.0 --key playbooks-1 --key playbooks-2 "
    "--publish --yes"
)
def yank(ctx: typer.Context, name: Name, key: Keys = None, publish: Publish = False) -> None:
    """Take a playbook off the list; refused while a device or an open rollout needs it."""
    session = sessions.of(ctx)
    if publish and not key:
        raise Misuse("--publish needs the signatures of --key", remedy="ota playbook yank --help")
    library = session.wiring.library
    item = library.show(name, sessions.now())
    session.confirm(f"no device will run {item.target.short} any more")
    target = library.yank(name, sessions.now())
    show = repo_commands.reviewer(session)
    for keyholder in key or ():
        library.sign(keyholder, sessions.now(), show)
    if publish:
        library.publish(sessions.now())
    session.record({"path": target.path, "yanked": "published" if publish else "waiting"})
