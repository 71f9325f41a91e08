"""``ota rollout pause | resume | abort | rollback``: stop, go on, end, take back."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ota.cli import session as sessions
from ota.cli.rollout.noun import Rollout, app, only, print_steps
from ota.errors import Misuse

Partial = Annotated[
    bool, typer.Option("--partial", help="Though some devices can not go back: they are listed.")
]


@app.command(epilog="Example: ota rollout pause --all")
def pause(
    ctx: typer.Context,
    rollout: Annotated[str, typer.Argument(help="The only open one without it.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Every running rollout.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave assignments that stand.")] = False,
) -> None:
    """Stop ordering, and withdraw what no device has activated yet."""
    session = sessions.of(ctx)
    if every and rollout:
        raise Misuse("--all and ROLLOUT exclude each other", remedy="ota rollout pause --help")
    session.wiring.unlock_director()
    campaign = session.wiring.campaign
    if every:
        print_steps(session, campaign.pause_all(sessions.now(), keep=keep))
    else:
        name = only(session, rollout)
        print_steps(session, [campaign.pause(name, sessions.now(), keep=keep)])


@app.command(epilog="Example: ota rollout resume app-2-x7k2p9")
def resume(ctx: typer.Context, rollout: Rollout) -> None:
    """Go on after a pause or a hold; devices that ended badly are accepted as they are."""
    session = sessions.of(ctx)
    found = session.wiring.campaign.resume(rollout, sessions.now())
    session.record({name: found[name] for name in ("rollout", "state", "accepted", "next")})


@app.command(epilog="Example: ota rollout abort app-2-x7k2p9 --leave")
def abort(
    ctx: typer.Context,
    rollout: Rollout,
    leave: Annotated[bool, typer.Option("--leave", help="Keep what was committed.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Take it back.")] = False,
    partial: Partial = False,
) -> None:
    """End a rollout; say what becomes of the devices that took the release."""
    session = sessions.of(ctx)
    if leave == rollback:
        raise Misuse("say one of --leave and --rollback", remedy="ota rollout abort --help")
    session.confirm(f"{rollout} will be aborted, {'leaving' if leave else 'taking back'} devices")
    session.wiring.unlock_director()
    mode: Literal["leave", "rollback"] = "leave" if leave else "rollback"
    found = session.wiring.campaign.abort(rollout, sessions.now(), mode, partial=partial)
    print_steps(session, [found])


@app.command(epilog="Example: ota rollout rollback app-2-x7k2p9 --dry-run")
def rollback(
    ctx: typer.Context,
    rollout: Rollout,
    partial: Partial = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say who could go back.")] = False,
) -> None:
    """Send exactly the devices that took the release back to what the plan froze."""
    session = sessions.of(ctx)
    campaign = session.wiring.campaign
    if dry_run:
        found = campaign.way_back(rollout, sessions.now())
        session.details(found)
        counts = [f"{len(found[name])} {name}" for name in ("eligible", "blocked", "unknown")]
        session.say(f"{rollout}: {', '.join(counts)}; nobody was sent back")
        return
    session.confirm(f"{rollout}: devices will be sent back")
    session.wiring.unlock_director()
    print_steps(session, [campaign.rollback(rollout, sessions.now(), partial=partial)])
    session.say(f"next: ota rollout run {rollout}")
