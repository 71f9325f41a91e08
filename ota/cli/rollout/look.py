"""``ota rollout status | list | history``: look, change nothing."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs, progress
from ota.cli import session as sessions
from ota.cli.rollout.move import progress_line
from ota.cli.rollout.noun import Rollout, app, only
from ota.errors import Outage, Refusal

if TYPE_CHECKING:
    from ota.cli.session import Session

_MOVING = frozenset({"RUNNING", "ROLLING_BACK"})
_CLOSED = frozenset({"COMPLETED", "ROLLED_BACK", "ABORTED"})
_LIST = ("rollout", "state", "component", "releases", "wave", "committed", "devices", "age")
_WAVE = ("name", "state", "size", "committed", "in_progress", "pending", "failed", "reverted")
_KEPT = ("last_step_age", "in_flight", "wave")
_MORE = ("refused", "stale", "unreachable", "silent")


@app.command(epilog="Example: ota rollout status --max-age 10m")
def status(
    ctx: typer.Context,
    rollout: Annotated[str, typer.Argument(help="The only open one without it.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Until it is closed.")] = False,
    max_age: Annotated[
        str, typer.Option(help="Exit 1 when a moving rollout is not stepped for longer.")
    ] = "",
    interval: Annotated[str, typer.Option(help="Between two looks of --watch.")] = "2s",
) -> None:
    """Show a rollout: each wave's counts as devices signed them, and the last step's age."""
    session = sessions.of(ctx)
    limit = inputs.duration(max_age, "--max-age").total_seconds() if max_age else None
    pause = inputs.duration(interval, "--interval").total_seconds()
    name = only(session, rollout)
    found = session.wiring.campaign.status(name, sessions.now())
    with progress.line() as tell:
        while watch and found["state"] not in _CLOSED and not _silent(found, limit):
            tell(progress_line(found), f" ({_stepped(found)})")
            time.sleep(pause)
            found = session.wiring.campaign.status(name, sessions.now())
    _show(session, found)
    if _silent(found, limit):
        raise Outage(
            f"{name}: {_stepped(found)}",
            code="engine-silent",
            subject=name,
            remedy=f"ota rollout run {name}",
        )


def _silent(found: dict[str, Any], limit: float | None) -> bool:
    """Whether nobody has stepped a moving rollout for longer than the limit."""
    age = found["last_step_age"]
    return limit is not None and found["state"] in _MOVING and (age is None or age > limit)


def _stepped(found: dict[str, Any]) -> str:
    age = found["last_step_age"]
    return "never stepped" if age is None else f"last stepped {age} s ago"


def _show(session: Session, found: dict[str, Any]) -> None:
    if session.output == sessions.Format.table:
        found = {k: v for k, v in found.items() if k in _KEPT or v not in (0, "", [], {})}
        found["wave"] = f"{min(found['wave'] + 1, len(found['waves']))} of {len(found['waves'])}"
        found["waves"] = [_wave(wave) for wave in found["waves"]]
        age = found["last_step_age"]
        found["last_step_age"] = "never stepped" if age is None else inputs.spoken(age)
    session.details(found)


def _wave(wave: dict[str, Any]) -> dict[str, Any]:
    shown = (*_WAVE, *_MORE)
    return {name: wave[name] for name in shown if name in wave}


@app.command("list", epilog="Example: ota rollout list -o csv")
def list_(ctx: typer.Context) -> None:
    """List every rollout, oldest first."""
    session = sessions.of(ctx)
    found = session.wiring.campaign.rollouts(sessions.now())
    session.rows([{**row, "age": row["last_step_age"]} for row in found], _LIST)
    for row in found:
        if row["state"] == "BROKEN":
            raise Refusal(row["code"], row["problem"], subject=row["rollout"])


@app.command(epilog="Example: ota rollout history app-2-x7k2p9 -o json")
def history(ctx: typer.Context, rollout: Rollout) -> None:
    """Show a rollout's journal, whose hash chain is checked on the way."""
    session = sessions.of(ctx)
    found = session.wiring.campaign.history(rollout)
    if session.output == sessions.Format.table:
        for row in found:
            row["body"] = _short(row["body"])
    session.rows(found, ("version", "time", "kind", "body"))


def _short(body: dict[str, Any]) -> str:
    words = [f"{key}={_said(value)}" for key, value in body.items() if value not in ([], {}, "")]
    text = " ".join(words)
    return text if len(text) <= 120 else text[:117] + "..."


def _said(value: Any) -> str:
    """A value of the journal in words: lists and yes or no as tables show them."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return json.dumps(value) if isinstance(value, dict) else str(value)
