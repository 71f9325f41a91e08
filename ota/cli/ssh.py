"""``ota ssh``: hosts of the SSH courier, looked at and pushed to by hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import session as sessions
from ota.errors import Outage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ota.errors import OtaError

app = typer.Typer(name="ssh", no_args_is_help=True, help="Devices reached by SSH.")

Limit = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="DEVICE[,DEVICE]", help="Only these; may stand repeatedly."),
]

_CHECK = ("device", "result", "agent", "host_key", "reason")
_PUSH = ("device", "result", "files", "sent", "kept", "removed", "seconds", "reason")
_VISIT = ("device", "result", "reason")
_STATUS = ("device", "site", "address", "via", "orders", "seen", "code", "next")


@app.command(epilog="Example: ota ssh check --limit press-07,press-08")
def check(ctx: typer.Context, limit: Limit = None) -> None:
    """Connect to each host, and ask its agent who it is. Nothing changes over there.

    Shows the host key that each one shows: with no fingerprint pinned, nothing else is tried.
    """
    session = sessions.of(ctx)
    tools = session.wiring.ssh.tools
    rows, errors = [], []
    for done in tools.check(tools.chosen(_devices(limit))):
        if done.error is not None:
            errors.append(done.error)
        row = {"device": done.device, **_result(done.error)}
        row["agent"] = done.value.agent if done.value else ""
        row["host_key"] = done.value.seen if done.value else getattr(done.error, "seen", "")
        rows.append(row)
    session.rows(_sorted(rows), _CHECK)
    _fail(errors, _failed(rows), len(rows), "ota ssh check")


@app.command(epilog="Example: ota ssh push --limit press-07")
def push(ctx: typer.Context, limit: Limit = None) -> None:
    """Bring the mirrors of devices that can not reach the store up to date.

    Resumed where an earlier push stopped; the devices verify what they get as from any store.
    """
    session = sessions.of(ctx)
    tools = session.wiring.ssh.tools
    wanted = _devices(limit)
    devices = tools.chosen(wanted) if wanted else tools.mirrored()
    shown: dict[str, int] = {}

    def progress(device: str, done: int, of: int) -> None:
        tenth = done * 10 // of if of else 10
        if shown.get(device, 0) < tenth:
            shown[device] = tenth
            session.say(f"{device}: {done} of {of} bytes")

    rows, errors = [], []
    for done in tools.push(devices, progress):
        if done.error is not None:
            errors.append(done.error)
        row = {"device": done.device, **_result(done.error), "seconds": round(done.seconds, 1)}
        row |= vars(done.value) if done.value else {}
        rows.append(row)
    session.rows(_sorted(rows), _PUSH)
    _fail(errors, _failed(rows), len(rows), "ota ssh push")


@app.command(epilog="Example: ota ssh visit --limit press-07")
def visit(ctx: typer.Context, limit: Limit = None) -> None:
    """Visit devices now: hand over what waits for them, take their reports in.

    For devices that could not be reached, after whatever it was has been mended.
    """
    session = sessions.of(ctx)
    parts = session.wiring.ssh
    devices = parts.tools.chosen(_devices(limit))
    parts.courier.want(devices)
    observed = session.wiring.campaign.observe(sessions.now())
    for problem in observed.problems:
        session.say(problem)
    session.say(f"{observed.accepted} new reports")
    rows = [
        {**row, "result": row["code"] or ("ok" if row["seen"] else "not yet")}
        for row in parts.tools.status()
        if row["device"] in devices
    ]
    session.rows(rows, _VISIT)
    errors: list[OtaError] = [
        Outage(row["reason"], code=row["code"], subject=row["device"])
        for row in rows
        if row["code"]
    ]
    _fail(errors, _failed(rows), len(rows), "ota ssh visit")


@app.command(epilog="Example: ota ssh status -o json")
def status(ctx: typer.Context) -> None:
    """Show every host, what is on its way to it, and how its last visit went."""
    session = sessions.of(ctx)
    session.rows(session.wiring.ssh.tools.status(), _STATUS)


def _devices(limit: Sequence[str] | None) -> list[str]:
    return [word.strip() for text in limit or () for word in text.split(",") if word.strip()]


def _result(error: OtaError | None) -> dict[str, Any]:
    return {"result": error.code if error else "ok", "reason": str(error) if error else ""}


def _sorted(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["device"]))


def _failed(rows: Iterable[dict[str, Any]]) -> list[str]:
    return sorted(row["device"] for row in rows if row["result"] not in {"ok", "not yet"})


def _fail(errors: Sequence[OtaError], devices: Sequence[str], of: int, command: str) -> None:
    """Raise the worst error, with the command that tries just those devices again."""
    if not errors:
        return
    worst = max(errors, key=lambda error: (error.exit_code == 3, error.exit_code))
    if of > 1:
        worst.args = (f"{len(errors)} of {of} devices: {worst}",)
    sys.stdout.flush()
    again = f"{command} --limit {','.join(devices)}"
    worst.remedy = f"{worst.remedy}; then {again}" if worst.remedy else again
    raise worst
