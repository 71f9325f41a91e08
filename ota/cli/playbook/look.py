"""``ota playbook list | show | lint``: what there is, what it does, what is wrong with it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ota.cli import session as sessions
from ota.cli.playbook import noun
from ota.cli.playbook.noun import Source, app
from ota.errors import Malformed

_LIST = ("name", "version", "platforms", "roads", "state", "summary")


@app.command("list", epilog="Example: ota playbook list; ota playbook list --shipped")
def list_(
    ctx: typer.Context,
    shipped: Annotated[
        bool, typer.Option("--shipped", help="Those that ship with the product, unsigned.")
    ] = False,
) -> None:
    """List playbooks, published or waiting for signatures."""
    session = sessions.of(ctx)
    if shipped:
        session.rows(_shipped(), _LIST)
        return
    found = session.wiring.library.listing(sessions.now())
    session.rows([noun.row(item) for item in found], _LIST)


def _shipped() -> list[dict[str, Any]]:
    from ota import shipped as files  # noqa: PLC0415 - `ota --help` stays quick
    from ota.playbook.library import Listed  # noqa: PLC0415 - the same
    from signing.playbooks import target as playbook_target  # noqa: PLC0415 - the same

    return [
        noun.row(Listed(playbook_target.describe(noun.read_file(str(path))), "unsigned"))
        for path in files.playbooks()
    ]


@app.command(epilog="Example: ota playbook show restart-service@1.0.0")
def show(ctx: typer.Context, playbook: Source) -> None:
    """Show everything that a playbook says: parameters, commands, files, guards."""
    from signing.playbooks import words as playbook_words  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    found = noun.read(session, playbook)
    if session.output == sessions.Format.table:
        for line in playbook_words.lines(found):
            session.print(line)
        return
    import msgspec  # noqa: PLC0415 - the same

    from signing.playbooks.playbook import encode  # noqa: PLC0415 - `ota --help` stays quick

    session.details(msgspec.json.decode(encode(found)))


@app.command(epilog="Example: ota playbook lint my-playbook.yaml")
def lint(
    ctx: typer.Context,
    playbooks: Annotated[
        list[str], typer.Argument(metavar="PLAYBOOK", help="YAML files, or shipped names.")
    ],
    strict: Annotated[
        bool, typer.Option("--strict", help="Findings are errors: exit 2 when there is one.")
    ] = False,
) -> None:
    """Check playbooks before anybody signs them; errors name file, line and key."""
    from ota.playbook import lint as rules  # noqa: PLC0415 - jinja2 is slow to import

    session = sessions.of(ctx)
    rows = [
        {"playbook": f"{found.name}@{found.version}", "finding": line}
        for found in map(noun.read_file, playbooks)
        for line in rules.findings(found)
    ]
    if rows or session.output != sessions.Format.table:
        session.rows(rows, ("playbook", "finding"))
    else:
        session.say("no findings")
    if rows and strict:
        raise Malformed(f"{len(rows)} findings", subject=rows[0]["playbook"])
