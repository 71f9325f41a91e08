"""``ota fleet``: devices, their labels and their keys."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs, output
from ota.cli import session as sessions
from ota.errors import Misuse, NotFound, OtaError, Outage, Refusal, Stale
from signing import strict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ota.fleet.retiring import Retirement
    from ota.ports import Device
    from ota.repositories.joining import Joined
    from signing.report import ComponentState

app = typer.Typer(name="fleet", no_args_is_help=True, help="Devices, labels and identity keys.")

Select = Annotated[
    str, typer.Option("-l", "--select", help="Label selector, such as site=lyon,!spare.")
]
DeviceId = Annotated[str, typer.Argument(metavar="DEVICE", help="The device's id.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")]


class Source(StrEnum):
    """Where devices are known besides here."""

    aws = "aws"
    ssm = "ssm"


_LIST = ("id", "state", "courier", "running", "last_seen", "labels")


@app.command(epilog="Example: ota fleet register enrolments/*.json --allow devices.csv")
def register(
    ctx: typer.Context,
    enrolments: Annotated[list[Path], typer.Argument(help="Files of ota-agent provision.")],
    allow: Annotated[
        Path | None, typer.Option(help="Allow-list, CSV or JSON: id, key, courier, labels.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, for all of them.")] = None,
    courier: Annotated[
        str, typer.Option(help="spool, iot-jobs, ssm or ssh; else as --allow says.")
    ] = "",
    unsafe_allow_any: Annotated[
        bool, typer.Option("--unsafe-allow-any", help="Take whoever asks: no allow-list.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Register devices, and publish each one's first, empty director metadata.

    A key that is known is never replaced here (ota fleet replace). Repeat it after a failure:
    what is done already stays as it is.
    """
    session = sessions.of(ctx)
    if allow is None and not unsafe_allow_any:
        raise Misuse("which devices may join? --allow FILE", remedy="ota fleet register --help")
    data = [inputs.read(path, 128 * 1024, "enrolment") for path in enrolments]
    labels = {k: v or "" for k, v in inputs.labels(label or []).items()}
    joined = session.wiring.join(data, allow, labels, courier, write=not dry_run)
    if dry_run:
        session.say("nothing was written")
    session.rows(
        [_joined(path, row) for path, row in zip(enrolments, joined, strict=True)],
        ("device", "result", "code", "enrolment"),
    )
    _fail([(p, r.error) for p, r in zip(enrolments, joined, strict=True) if r.error], len(joined))


def _joined(path: Path, row: Joined) -> dict[str, Any]:
    code = row.error.code if row.error else ""
    return {"device": row.device, "result": row.result, "code": code, "enrolment": str(path)}


def _fail(errors: Sequence[tuple[Path, OtaError]], of: int) -> None:
    """Raise the first error, with its file and how many there were."""
    if errors:
        path, error = errors[0]
        words = f"{path}: {error}"
        if of > 1:
            words = f"{len(errors)} of {of} were not taken; the first: {words}"
        error.args = (words,)
        raise error


@app.command(epilog="Example: ota fleet replace enrolments/gw-7.json")
def replace(
    ctx: typer.Context,
    enrolment: Annotated[Path, typer.Argument(help="The new file of ota-agent provision.")],
) -> None:
    """Give a registered device the key of a new enrolment, by your decision."""
    session = sessions.of(ctx)
    data = inputs.read(enrolment, 128 * 1024, "enrolment")
    session.confirm(f"{enrolment}: the device's old key will not count any more")
    with inputs.about(enrolment):
        device = session.wiring.registry.replace(data)
    session.wiring.desk.register(device, sessions.now())
    session.record(_shown(session.wiring.registry.device(device)))


@app.command(epilog="Example: ota fleet accept gw-7 --state-id 3f2a")
def accept(
    ctx: typer.Context,
    device: DeviceId,
    state_id: Annotated[str, typer.Option(help="Only this one; ota fleet show tells it.")] = "",
) -> None:
    """Accept a device that came back with other state, such as one restored from a backup."""
    session = sessions.of(ctx)
    session.confirm(f"{device}: its new state will count, its former state no more")
    session.record(_shown(session.wiring.registry.accept(device, state_id)))


@app.command(epilog="Example: ota fleet retire gw-7 --receipt gw-7.receipt.json")
def retire(
    ctx: typer.Context,
    device: DeviceId,
    receipt: Annotated[
        Path | None, typer.Option(help="What the device signed when it was decommissioned.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Take a device out of service: no plans, no orders, no reports; its history stays.

    With its receipt, which is verified and kept: that its keys and state are gone is then the
    device's own signed word. A receipt may be brought later, by the same command.
    """
    from signing import statement  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    wiring = session.wiring
    data = None
    if receipt is not None:
        data = inputs.read(receipt, statement.longest("receipt"), "receipt")
    if dry_run:
        with inputs.about(receipt):
            orders = wiring.leaving.check(device, data)
        withdrawn = f"; withdrawn would be: {', '.join(orders)}" if orders else ""
        session.say(f"{device}: would be retired, {_with(data)}{withdrawn}; nothing was written")
        return
    with inputs.about(receipt):
        if data is not None:
            wiring.registry.check_receipt(device, data)
        session.confirm(f"{device}: will be retired, {_with(data)}")
        exposed = wiring.leaving.leave(device, data, sessions.now())
    session.record(
        {
            **_shown(wiring.registry.device(device)),
            "retirement": _ended(wiring.registry.retirements(device)[-1]),
            "old_orders_can_be_replayed_until": exposed,
        }
    )


def _with(receipt: bytes | None) -> str:
    return "without a receipt" if receipt is None else "with its verified receipt"


def _ended(end: Retirement) -> dict[str, Any]:
    """One end of a device; the same fields with a receipt and without."""
    found = end.receipt
    return {
        "since": end.since,
        "receipt": "verified" if found else "none",
        "verified": end.verified,
        "signed": found.time if found else None,
        "order": found.order if found else "",
        "destroyed": list(found.destroyed) if found else [],
        "sha256": strict.digest(end.envelope) if found else "",
        "key": end.keyid,
    }


@app.command(epilog="Example: ota fleet label gw-7 site=lyon spare-")
def label(
    ctx: typer.Context,
    device: DeviceId,
    changes: Annotated[list[str], typer.Argument(help="KEY=VALUE sets, KEY- removes.")],
) -> None:
    """Set or remove labels of a device."""
    session = sessions.of(ctx)
    session.wiring.registry.label(device, inputs.labels(changes))
    session.record(_shown(session.wiring.registry.device(device)))


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


@app.command("list", epilog="Example: ota fleet list -l site=lyon -o csv")
def list_(ctx: typer.Context, select: Select = "") -> None:
    """List devices; as JSON also whether a retired one left a verified receipt."""
    session = sessions.of(ctx)
    registry = session.wiring.registry
    kept = registry.with_receipt()
    found = [_listed(d) | {"receipt": output.last_word(d, kept)} for d in registry.devices(select)]
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
    found = _shown(registry.device(device))
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
    found["retirements"] = [_ended(end) for end in ends]
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


def _listed(device: Device) -> dict[str, Any]:
    return {
        "id": device.id,
        "state": device.state,
        "courier": device.courier,
        "running": {name: _running(c) for name, c in sorted(device.components.items())},
        "last_seen": device.last_seen,
        "labels": dict(device.labels),
    }


def _running(component: ComponentState) -> str:
    if component.current is None:
        return "nothing"
    return component.current.version or f"sha256:{component.current.sha256[:12]}"


def _shown(device: Device) -> dict[str, Any]:
    return {
        **_listed(device),
        "key": device.key.keyid,
        "state_id": device.state_id,
        "held_state_id": device.held_state_id,
        "counter": device.counter,
        "components": _components(device.components),
    }


def _components(components: Mapping[str, ComponentState]) -> dict[str, Any]:
    return {
        name: {
            "hardware_id": c.hardware_id,
            "floor": c.floor,
            "current": c.current.sha256 if c.current else None,
            "previous": c.previous.sha256 if c.previous else None,
        }
        for name, c in sorted(components.items())
    }
