"""``ota playbook run | status``: a playbook in waves behind a gate, and what each device signed.

``run`` writes the spec of a rollout from its options; whatever else a spec can say goes into a file
for ``ota rollout plan``. From there on it is a rollout like any other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.cli.playbook import native, noun
from ota.cli.playbook.noun import Name, Params, app
from ota.errors import Malformed, Misuse, NotFound

if TYPE_CHECKING:
    from ota.cli.session import Session

_MOST = 10_000
_STATUS = ("device", "outcome", "code", "steps", "verified")


@app.command(
    epilog="Example: ota playbook run restart-service@1.0.0 --param service=nginx "
    "--wave 1 --wave 10% --wave rest --key author --approve approver"
)
def run(
    ctx: typer.Context,
    name: Name,
    param: Params = None,
    select: Annotated[str, typer.Option(help="Label selector; all devices without it.")] = "",
    limit: Annotated[
        list[str] | None,
        typer.Option(help="Only these: ID,ID..., @FILE with one a line, or failed:ROLLOUT."),
    ] = None,
    wave: Annotated[
        list[str] | None, typer.Option(help="A count, a share such as 10%, or rest; repeatable.")
    ] = None,
    soak: Annotated[str, typer.Option(help="After each wave.")] = "0s",
    deadline: Annotated[str, typer.Option(help="Of each wave.")] = "1h",
    failed: Annotated[str, typer.Option(help="A count or a share that may fail.")] = "0",
    key: Annotated[str, typer.Option(help="The author's key.")] = "author",
    approve: Annotated[
        list[str] | None, typer.Option(help="Approver's key at hand: start and run at once.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Of the plan. Default: NAME-VERSION.plan.json.")
    ] = None,
    time_limit: Annotated[str, typer.Option(help="With --approve: exit 8 when it comes.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it, sign nothing.")] = False,
    road: Annotated[
        str, typer.Option("--native", help="ssh: machines without an agent; nothing is verified.")
    ] = "",
    push: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE=PATH", help="With --native: bring this file there first."),
    ] = None,
    sudo: Annotated[
        bool, typer.Option("--sudo", help="With --native: as root over there.")
    ] = False,
    again: Annotated[
        str, typer.Option(metavar="RUN", help="With --native: the id of a run to go on with.")
    ] = "",
    collect: Annotated[
        Path | None, typer.Option(help="With --native: a folder for what steps collected.")
    ] = None,
) -> None:
    """Plan a playbook for devices; with --approve, run it and wait for what they sign."""
    from signing import durable  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    if road:
        asked = native.Asked(
            road, name, noun.parameters(param), tuple(push or ()), sudo, again, collect
        )
        native.go(session, asked, _devices(session, limit or []), dry_run=dry_run)
        return
    chosen = _selector(session, select, limit or [])
    spec = {
        "rollout": name.partition("@")[0][:20].strip("-") or "playbook",
        "playbook": name,
        "parameters": noun.parameters(param),
        "waves": [_wave(number, text) for number, text in enumerate(wave or ["rest"], 1)],
        "soak": soak,
        "deadline": deadline,
        "gate": {"failed": failed},
    } | ({"select": chosen} if chosen else {})
    made = session.wiring.plan(json.dumps(spec).encode(), "ota playbook run")
    if dry_run:
        session.details(session.wiring.describe(made))
        session.say("nothing was signed")
        return
    path = out or Path(f"{name.replace('@', '-')}.plan.json")
    data = session.wiring.sign_plan(made, key)
    durable.replace(path, data)
    if not approve:
        session.details(session.wiring.describe(made))
        session.say(f"next: ota rollout approve {path} --key NAME")
        return
    _go(session, data, approve, time_limit)


def _go(session: Session, plan: bytes, approvers: list[str], time_limit: str) -> None:
    from datetime import timedelta  # noqa: PLC0415 - `ota --help` stays quick

    from ota.cli.rollout.move import Teller  # noqa: PLC0415 - the same
    from ota.cli.rollout.noun import review  # noqa: PLC0415 - the same

    limit = inputs.duration(time_limit, "--time-limit").total_seconds() if time_limit else None
    ends = sessions.now() + timedelta(days=1)
    campaign = session.wiring.campaign
    review(session, session.wiring.describe_file(plan))
    for approver in approvers:
        approval = session.wiring.sign_approval(plan, approver, ends)
        campaign.approve(plan, approval, sessions.now())
    session.wiring.unlock_director()
    rollout = campaign.start(plan, [], sessions.now())["rollout"]
    try:
        session.wiring.run(rollout, "done", limit, 1.0, Teller(session))
    finally:
        _show(session, rollout)


@app.command(epilog="Example: ota playbook status -o json")
def status(
    ctx: typer.Context,
    rollout: Annotated[
        str, typer.Argument(help="Of a rollout, or a native run; the newest without it.")
    ] = "",
    unverified: Annotated[
        bool, typer.Option("--native", help="Runs on machines without an agent.")
    ] = False,
) -> None:
    """Show what each device said of each step, and whether the device verified what it ran."""
    session = sessions.of(ctx)
    if unverified or rollout.startswith("native-"):
        native.show(session, rollout)
        return
    _show(session, rollout or _newest(session))


def _show(session: Session, rollout: str) -> None:
    rows = session.wiring.campaign.runs(rollout, sessions.now())
    session.say(f"rollout {rollout}")
    session.rows(noun.brief(session, rows), _STATUS)


def _newest(session: Session) -> str:
    found = session.wiring.campaign.rollouts(sessions.now())
    names = [str(row["rollout"]) for row in found if row["component"] == "playbooks"]
    if not names:
        raise NotFound("no playbook was run yet", remedy="ota playbook run NAME@VERSION")
    return names[-1]


def _wave(number: int, text: str) -> dict[str, Any]:
    """``1``, ``10%`` or ``rest`` as a wave of a spec."""
    name = f"wave-{number}"
    if text == "rest":
        return {"name": name, "rest": True}
    share = text.removesuffix("%")
    if not share.isdecimal() or len(share) > 6:
        raise Misuse(f"--wave {text!r:.20}: neither a count, nor a share such as 10%, nor rest")
    return {"name": name, ("percent" if text.endswith("%") else "count"): int(share)}


def _selector(session: Session, select: str, limits: list[str]) -> str:
    """The selector, narrowed to the devices of ``--limit``."""
    if not limits:
        return select
    devices = _devices(session, limits)
    return ",".join(filter(None, [select, f"id in ({','.join(devices)})"]))


def _devices(session: Session, limits: list[str]) -> list[str]:
    """The devices of ``--limit``, each once."""
    devices: list[str] = []
    for text in limits:
        if text.startswith("@"):
            data = inputs.read(Path(text[1:]), 1024 * 1024, "list of devices")
            devices += data.decode("utf-8", "replace").split()
        elif text.startswith("failed:"):
            devices += _failed(session, text.removeprefix("failed:"))
        else:
            devices += [word for word in text.split(",") if word]
    if limits and not 1 <= len(devices) <= _MOST:
        raise Malformed(f"--limit: {len(devices)} devices; 1 to {_MOST} are possible")
    return list(dict.fromkeys(devices))


def _failed(session: Session, run: str) -> list[str]:
    """Devices of a rollout, or of a native run, that did not get through."""
    if run.startswith("native-"):
        found = session.wiring.native_runs().show(run)["devices"]
        return [device for device, row in found.items() if row["outcome"] != "done"]
    rows = session.wiring.campaign.runs(run, sessions.now())
    return [row["device"] for row in rows if row["outcome"] != "committed"]
