"""``ota fleet register | replace | accept | retire``: who belongs, and with which key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.cli.fleet.noun import DeviceId, DryRun, app, ended, shown
from ota.errors import Misuse, OtaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ota.repositories.joining import Joined


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
    session.record(shown(session.wiring.registry.device(device)))


@app.command(epilog="Example: ota fleet accept gw-7 --state-id 3f2a")
def accept(
    ctx: typer.Context,
    device: DeviceId,
    state_id: Annotated[str, typer.Option(help="Only this one; ota fleet show tells it.")] = "",
) -> None:
    """Accept a device that came back with other state, such as one restored from a backup."""
    session = sessions.of(ctx)
    session.confirm(f"{device}: its new state will count, its former state no more")
    session.record(shown(session.wiring.registry.accept(device, state_id)))


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
            **shown(wiring.registry.device(device)),
            "retirement": ended(wiring.registry.retirements(device)[-1]),
            "old_orders_can_be_replayed_until": exposed,
        }
    )


def _with(receipt: bytes | None) -> str:
    return "without a receipt" if receipt is None else "with its verified receipt"
