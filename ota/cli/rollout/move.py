"""``ota rollout step | run``: move rollouts on; safe to repeat after any crash."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.cli.rollout.noun import app, only, print_steps

if TYPE_CHECKING:
    from ota.cli.session import Session
    from ota.rollout.engine import Step

_COUNTS = ("committed", "failed", "reverted", "refused", "stale", "unreachable", "silent")


class Until(StrEnum):
    """Where ``run`` ends."""

    wave = "wave"
    done = "done"


@app.command(epilog="Example: ota rollout step   (from a timer, every minute)")
def step(
    ctx: typer.Context,
    rollout: Annotated[str, typer.Argument(help="All open ones without it.")] = "",
) -> None:
    """Observe, decide, record, act: once."""
    session = sessions.of(ctx)
    session.wiring.unlock_director()
    campaign = session.wiring.campaign
    now = sessions.now()
    print_steps(session, [campaign.step(rollout, now)] if rollout else campaign.step_all(now))


@app.command(epilog="Example: ota rollout run --until wave --time-limit 2h")
def run(
    ctx: typer.Context,
    rollout: Annotated[str, typer.Argument(help="The only open one without it.")] = "",
    until: Annotated[Until, typer.Option(help="The end of this wave, or of the rollout.")] = (
        Until.done
    ),
    time_limit: Annotated[str, typer.Option(help="Such as 90s, 2h; exit 8 when it comes.")] = "",
    interval: Annotated[str, typer.Option(help="Between two steps.")] = "2s",
) -> None:
    """Step until it is done: exit 0, 5 stopped by the gate, 6 needs a person, 8 time limit."""
    session = sessions.of(ctx)
    limit = inputs.duration(time_limit, "--time-limit").total_seconds() if time_limit else None
    pause = inputs.duration(interval, "--interval").total_seconds()
    name = only(session, rollout)
    session.wiring.unlock_director()
    found = session.wiring.run(name, until.value, limit, pause, Teller(session))
    session.record({key: found[key] for key in ("rollout", "state", "devices", "reasons")})


class Teller:
    """One line on stderr whenever something changed; a problem once for as long as it lasts."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last = ""
        self._known: set[str] = set()

    def __call__(self, step: Step, status: dict[str, Any]) -> None:
        """Tell of one step, where it is news."""
        line = progress_line(status)
        if line != self._last:
            self._session.say(line)
            self._last = line
        for problem in dict.fromkeys(step.problems):
            if problem not in self._known:
                self._session.say(f"{step.rollout}: {problem}")
        self._known = set(step.problems)


def progress_line(status: dict[str, Any]) -> str:
    """``app-2-x7k2p9 RUNNING: canary 2/2 committed; rest 3/20 committed, 1 failed``."""
    waves = []
    for wave in status["waves"]:
        if wave["state"] == "waiting":
            continue
        counts = [f"{wave[name]} {name}" for name in _COUNTS[1:] if wave[name]]
        words = [f"{wave['name']} {wave['committed']}/{wave['size']} committed", *counts]
        waves.append(", ".join(words))
    return f"{status['rollout']} {status['state']}: {'; '.join(waves) or 'not started'}"
