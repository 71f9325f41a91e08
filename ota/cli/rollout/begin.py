"""``ota rollout plan | show | approve | start``: from a spec to a running rollout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.cli.rollout.noun import APPROVAL_LIMIT, PlanFile, app, read_plan, review

if TYPE_CHECKING:
    from ota.cli.session import Session

_SPEC_LIMIT = 1024 * 1024


@app.command(epilog="Example: ota rollout plan app-2.yaml --out plan.json --key author")
def plan(
    ctx: typer.Context,
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="YAML: release, waves, gates.")],
    out: Annotated[Path, typer.Option(help="Where the signed plan goes.")] = Path("plan.json"),
    key: Annotated[
        str, typer.Option(help="The author's key.", autocompletion=inputs.keyholders)
    ] = "author",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it, sign nothing.")] = False,
) -> None:
    """Freeze a rollout: which device gets what, in which wave, and what it goes back to."""
    from signing import durable  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    data = inputs.read(spec, _SPEC_LIMIT, "spec")
    made = session.wiring.plan(data, str(spec))
    if not dry_run:
        durable.replace(out, session.wiring.sign_plan(made, key))
    _show(session, session.wiring.describe(made))
    session.say("nothing was signed" if dry_run else f"next: ota rollout approve {out} --key NAME")


@app.command(epilog="Example: ota rollout show plan.json -o json")
def show(ctx: typer.Context, plan: PlanFile) -> None:
    """Show what a plan says, before you approve it. Its signature is checked on approval."""
    session = sessions.of(ctx)
    with inputs.about(plan):
        _show(session, session.wiring.describe_file(read_plan(plan)))


def _show(session: Session, described: dict[str, Any]) -> None:
    if session.output == sessions.Format.table:
        keep = ("limits", "supersedes", "clear_denials")
        described = {k: v for k, v in described.items() if k not in keep or v}
        described["waves"] = [_wave(wave) for wave in described["waves"]]
        described["limits"] = {
            k: inputs.spoken(v) if k == "order_lifetime" else v
            for k, v in described["limits"].items()
            if v
        }
    session.details(described)


def _wave(wave: dict[str, Any]) -> dict[str, Any]:
    """One wave for people: times as they are written, the gate left out."""
    times = {name: inputs.spoken(wave[name]) for name in ("soak", "deadline")}
    return {k: v for k, v in wave.items() if k != "gate"} | times


@app.command(epilog="Example: ota rollout approve plan.json --key approver")
def approve(
    ctx: typer.Context,
    plan: PlanFile,
    key: Annotated[
        str,
        typer.Option(
            help="An approver's key; never the author's.", autocompletion=inputs.keyholders
        ),
    ],
    lasts: Annotated[str, typer.Option(help="How long it counts: 12h, 7d.")] = "30d",
    out: Annotated[
        Path | None, typer.Option(help="Only write the approval here, for ota rollout start.")
    ] = None,
) -> None:
    """Approve exactly this plan: sign its digest, this workspace, and an end."""
    from signing import durable  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    data = read_plan(plan)
    ends = sessions.now() + inputs.duration(lasts, "--lasts")
    with inputs.about(plan):
        described = session.wiring.describe_file(data)
    review(session, described)
    approval = session.wiring.sign_approval(data, key, ends)
    if out is not None:
        durable.replace(out, approval)
        session.record({"rollout": described["rollout"], "approval": str(out), "expires": ends})
        return
    found = session.wiring.campaign.approve(data, approval, sessions.now())
    session.record(found)
    if not found["missing"]:
        session.say(f"next: ota rollout start {plan}")


@app.command(epilog="Example: ota rollout start plan.json && ota rollout run")
def start(
    ctx: typer.Context,
    plan: PlanFile,
    approval: Annotated[
        list[Path] | None, typer.Option(help="A file of ota rollout approve --out; repeatable.")
    ] = None,
) -> None:
    """Set an approved plan running; the orders go out with ota rollout run or step."""
    from signing import statement  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    approvals = [inputs.read(path, APPROVAL_LIMIT, "approval") for path in approval or ()]
    data = read_plan(plan)
    with inputs.about(plan):
        session.wiring.describe_file(data)
    for path, item in zip(approval or (), approvals, strict=True):
        with inputs.about(path):
            statement.peek("approval", item)
    found = session.wiring.campaign.start(data, approvals, sessions.now())
    session.record({name: found[name] for name in ("rollout", "state", "devices", "next")})
