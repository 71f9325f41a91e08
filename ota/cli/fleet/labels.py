"""``ota fleet label | import | export | sync``: labels, by hand, by file, and from AWS."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.cli.fleet.noun import DeviceId, DryRun, Select, app, shown


class Source(StrEnum):
    """Where devices are known besides here."""

    aws = "aws"
    ssm = "ssm"


@app.command(epilog="Example: ota fleet label gw-7 site=lyon spare-")
def label(
    ctx: typer.Context,
    device: DeviceId,
    changes: Annotated[list[str], typer.Argument(help="KEY=VALUE sets, KEY- removes.")],
) -> None:
    """Set or remove labels of a device."""
    session = sessions.of(ctx)
    session.wiring.registry.label(device, inputs.labels(changes))
    session.record(shown(session.wiring.registry.device(device)))


@app.command("import", epilog="Example: ota fleet import labels.csv --dry-run")
def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV (id,courier,label:NAME) or JSON.")],
    dry_run: DryRun = False,
) -> None:
    """Set labels and couriers of registered devices from a file: all of it, or nothing."""
    from ota.fleet import exchange  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    entries = exchange.read(file)
    registry = session.wiring.registry
    number = (registry.check if dry_run else registry.update)(entries)
    session.record({"file": str(file), "devices": number, "written": not dry_run})


@app.command(epilog="Example: ota fleet export --out devices.csv")
def export(
    ctx: typer.Context,
    out: Annotated[Path | None, typer.Option(help="A .csv or .json file; else stdout.")] = None,
    select: Select = "",
) -> None:
    """Write devices in a form that can be edited and imported again."""
    from ota.fleet import exchange  # noqa: PLC0415 - `ota --help` stays quick
    from signing import durable  # noqa: PLC0415 - the same

    session = sessions.of(ctx)
    as_json = out.suffix.lower() == ".json" if out else session.output == sessions.Format.json
    form = exchange.json_text if as_json else exchange.csv_text
    text = form(session.wiring.registry.devices(select))
    if out is None:
        sys.stdout.write(text)
    else:
        durable.replace(out, text.encode())
        session.say(f"{out}: written")


@app.command(epilog="Example: ota fleet sync aws --dry-run")
def sync(
    ctx: typer.Context,
    source: Annotated[Source, typer.Argument(help="Where from.")],
    query: Annotated[str, typer.Option(help="Of fleet indexing: thingName:press-*.")] = "",
    listed: Annotated[
        bool, typer.Option("--list", help="List things: for accounts without fleet indexing.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Bring what AWS IoT knows of devices over as labels, and compare both sides.

    It registers and retires nobody: what differs is listed. From ssm: which managed node a
    device is, by the name that the node was activated with.
    """
    session = sessions.of(ctx)
    if source is Source.ssm:
        rows = session.wiring.ssm.sync(write=not dry_run)
        session.rows([{"device": d, "node": node} for d, node in rows], ("device", "node"))
        return
    found = session.wiring.sync_aws(query, listed=listed, write=not dry_run)
    session.rows(
        [{"device": r.device, "finding": r.finding, "detail": r.detail} for r in found.rows],
        ("device", "finding", "detail"),
    )
    session.say(f"{found.things} things, {found.devices} devices, {found.written} written")
