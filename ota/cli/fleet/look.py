"""``ota fleet list | show``: what devices run, what they are to run, what they said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import output
from ota.cli import session as sessions
from ota.cli.fleet.noun import DeviceId, Select, app, ended, listed, shown
from ota.errors import NotFound, OtaError, Outage, Refusal, Stale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ota.fleet.retiring import Retirement

_LIST = ("id", "state", "courier", "running", "last_seen", "labels")


@app.command("list", epilog="Example: ota fleet list -l site=lyon -o csv")
def list_(ctx: typer.Context, select: Select = "") -> None:
    """List devices; as JSON also whether a retired one left a verified receipt."""
    session = sessions.of(ctx)
    registry = session.wiring.registry
    kept = registry.with_receipt()
    found = [listed(d) | {"receipt": output.last_word(d, kept)} for d in registry.devices(select)]
    session.rows(found, _LIST)


@app.command(epilog="Example: ota fleet show gw-7 -o json")
def show(
    ctx: typer.Context,
    device: DeviceId,
    reports: Annotated[int, typer.Option(min=0, max=1000, help="How many reports.")] = 5,
    receipt: Annotated[
        Path | None, typer.Option(help="Write its newest receipt, as it was signed, to this file.")
    ] = None,
) -> None:
    """Show a device: what it runs, what it is to run, and its newest reports."""
    session = sessions.of(ctx)
    registry = session.wiring.registry
    found = shown(registry.device(device))
    found["assigned"], trouble = _assigned(session, device)
    found["reports"] = [
        {
            "counter": r.report.counter,
            "time": r.report.time,
            "event": r.report.event,
            "phase": r.report.update.phase if r.report.update else "",
            "code": r.report.code,
            "status": r.status,
        }
        for r in registry.history(device, reports)
    ]
    found["contradictions"] = [code for code, _ in registry.evidence(device)]
    ends = registry.retirements(device)
    found["retirements"] = [ended(end) for end in ends]
    if receipt is not None:
        _write_receipt(device, ends, receipt)
    session.details(found)
    if trouble is not None:
        raise trouble


def _assigned(
    session: sessions.Session, device: str
) -> tuple[dict[str, Any] | None, OtaError | None]:
    """What the director assigns, or why nobody can say; what the registry knows is shown anyway."""
    try:
        found = session.wiring.assignments(device)
    except (Outage, Stale, Refusal) as e:
        return None, e
    return {
        name: {"path": a.path, "order": a.order, "kind": a.kind, "not_after": a.not_after}
        for name, a in found.items()
    }, None


def _write_receipt(device: str, ends: Sequence[Retirement], path: Path) -> None:
    from signing import durable  # noqa: PLC0415 - `ota --help` stays quick

    envelope = next((end.envelope for end in reversed(ends) if end.envelope), None)
    if envelope is None:
        raise NotFound(
            f"{device} left no receipt", subject=device, remedy=f"ota fleet show {device}"
        )
    durable.create(path, envelope)
