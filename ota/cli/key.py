"""``ota key``: keys of the people and services that the policies name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs
from ota.cli import session as sessions

if TYPE_CHECKING:
    from ota.repositories.keyring import Holder

app = typer.Typer(name="key", no_args_is_help=True, help="Keys of the keyholders.")

_COLUMNS = ("name", "roles", "scheme", "keyid", "private")
_PEM_LIMIT = 64 * 1024


def _row(holder: Holder) -> dict[str, Any]:
    key = holder.key
    return {
        "name": holder.name,
        "roles": holder.roles,
        "scheme": key.scheme if key else None,
        "keyid": key.keyid[:16] if key else None,
        "private": holder.private if key else "missing",
    }


@app.command(epilog="Example: ota key generate root-1")
def generate(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Keyholders, as in repo-metadata/*.toml.")],
    scheme: Annotated[
        str, typer.Option(help="ed25519, ecdsa-p256, ecdsa-p384 or rsa-3072.")
    ] = "ed25519",
) -> None:
    """Make keys: the private half encrypted under keys/, the public half in repo-metadata/.

    The passphrase comes from a prompt, OTA_PASSPHRASE_NAME, OTA_PASSPHRASE or ota.toml.
    """
    session = sessions.of(ctx)
    for name in names:
        made = session.wiring.keyring.generate(name, scheme, session.wiring.new_passphrase(name))
        session.record(_row(made)) if len(names) == 1 else session.say(f"{name}: made")
    if len(names) > 1:
        made_now = [_row(h) for h in session.wiring.keyring.list() if h.name in names]
        session.rows(made_now, _COLUMNS)


@app.command("import", epilog="Example: ota key import root-1 --uri 'hsm:1?label=plant'")
def import_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Keyholder, as in repo-metadata/*.toml.")],
    uri: Annotated[
        str | None,
        typer.Option(
            help="Where the private key lives: file:PATH, hsm:ID?label=TOKEN, awskms:KEY or"
            " 'exec:/PROGRAM ARGUMENT...'. Never a PIN."
        ),
    ] = None,
    public: Annotated[
        Path | None,
        typer.Option(help="The public key in PEM; else it is read from where --uri points."),
    ] = None,
    unproven: Annotated[
        bool,
        typer.Option("--unsafe-unproven", help="Do not let the key sign a proof first."),
    ] = False,
) -> None:
    """Take a key that exists: its public half in repo-metadata/, its URI in ota.toml.

    The key signs a proof first; a PIN or passphrase comes as for signing. With --public alone it
    is somebody else's key. Nothing is written unless all is well.
    """
    session = sessions.of(ctx)
    pem = inputs.read(public, _PEM_LIMIT, "public key") if public else None
    with inputs.about(public):
        holder = session.wiring.import_key(name, uri, pem, prove=not unproven)
    session.record(_row(holder))


@app.command("list", epilog="Example: ota key list --check -o json")
def list_(
    ctx: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Look whether each private key can be reached.")
    ] = False,
) -> None:
    """List every keyholder, the roles it stands for, and where its private key is.

    --check adds "reachable": yes, - for a key that lies elsewhere, or what is wrong; it asks for
    no PIN or passphrase.
    """
    session = sessions.of(ctx)
    ring = session.wiring.keyring
    rows = [(holder, _row(holder)) for holder in ring.list()]
    if check:
        for holder, row in rows:
            row["reachable"] = ring.reach(holder)
    columns = (*_COLUMNS, "reachable") if check else _COLUMNS
    session.rows([row for _, row in rows], columns)
