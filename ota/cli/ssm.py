"""``ota ssm``: what Systems Manager shows and does besides rollouts."""

from __future__ import annotations

from typing import Annotated

import typer

from ota.cli import session as sessions

app = typer.Typer(name="ssm", no_args_is_help=True, help="Devices managed by AWS Systems Manager.")


@app.callback()
def ssm() -> None:
    """Devices managed by AWS Systems Manager."""


@app.command(epilog="Example: ota ssm nodes")
def nodes(ctx: typer.Context) -> None:
    """List managed nodes named like a device, and whether the labels agree."""
    session = sessions.of(ctx)
    differ = {device for device, _ in session.wiring.ssm.sync(write=False)}
    rows = [
        {"device": device, "node": node, "label": "differs" if device in differ else ""}
        for device, node in sorted(session.wiring.ssm.tools.nodes().items())
    ]
    session.rows(rows, ("device", "node", "label"))


@app.command(epilog="Example: ota ssm associate --minutes 60")
def associate(
    ctx: typer.Context,
    minutes: Annotated[int, typer.Option(help="Between two looks; 30 or more.")] = 60,
) -> None:
    """Have State Manager wake every tagged node at an interval, and gather its inventory.

    The tag is the prefix of [couriers.ssm], its value `managed`. What is there already stays.
    """
    session = sessions.of(ctx)
    parts = session.wiring.ssm
    found = parts.tools.associate(minutes, parts.told.calendars)
    session.rows(
        [{"association": name, "result": result} for name, result in found.items()],
        ("association", "result"),
    )


@app.command(epilog="Example: ota ssm compliance -l site=lyon")
def compliance(
    ctx: typer.Context,
    select: Annotated[str, typer.Option("-l", "--select", help="Label selector.")] = "",
) -> None:
    """Show what devices signed about their components in Systems Manager's compliance.

    As Custom:OTA, for people to look at. Nothing here ever reads it back.
    """
    session = sessions.of(ctx)
    rows = [
        {"device": device, "node": node, "components": number}
        for device, node, number in session.wiring.ssm.comply(select)
    ]
    session.rows(rows, ("device", "node", "components"))
