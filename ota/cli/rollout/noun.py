"""What the commands of ``ota rollout`` share: the noun itself, and its arguments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs
from ota.errors import Misuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ota.cli.session import Session
    from ota.rollout.engine import Step

app = typer.Typer(
    name="rollout", no_args_is_help=True, help="Rollouts: planned, approved, gated, taken back."
)

Rollout = Annotated[str, typer.Argument(metavar="ROLLOUT", help="Its id, as ota rollout list.")]
PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="The file of ota rollout plan.")]

PLAN_LIMIT = 400 * 1024 * 1024
APPROVAL_LIMIT = 64 * 1024


def read_plan(path: Path) -> bytes:
    """The exact bytes of a plan's file."""
    return inputs.read(path, PLAN_LIMIT, "plan")


def review(session: Session, described: dict[str, Any]) -> None:
    """Say what an approver approves, and ask a person at a terminal."""
    waves = ", ".join(f"{w['name']} {w['devices']}" for w in described["waves"])
    session.say(f"{described['rollout']}: {described['devices']} devices in waves: {waves}")
    for line in _playbook(described):
        session.say(line)
    for warning in described["warnings"]:
        session.say(f"warning: {warning}")
    session.ask(f"approve {described['rollout']}")


def _playbook(described: dict[str, Any]) -> list[str]:
    """What an approver of a playbook must know besides: what is run, with which values."""
    said = described["playbook"]
    if not said:
        return []
    lines = [f"runs {said['playbook']}: {said['summary']}"]
    lines += [f"with {name} = {value!r}" for name, value in said["parameters"].items()]
    return [*lines, f"every step of it: ota playbook show {said['playbook']}"]


def only(session: Session, rollout: str) -> str:
    """The rollout named, or the only one that is open; ``Misuse`` when that is not clear."""
    if rollout:
        return rollout
    names = session.wiring.open_rollouts()
    if not names:
        raise Misuse("no rollout is open", subject="ROLLOUT", remedy="ota rollout list")
    if len(names) > 1:
        shown = ", ".join(names[:5]) + (", ..." if names[5:] else "")
        raise Misuse(
            f"which rollout? {len(names)} are open: {shown}",
            subject="ROLLOUT",
            remedy="ota rollout list",
        )
    return names[0]


def print_steps(session: Session, steps: Sequence[Step]) -> None:
    """What steps did; their problems, which the next step retries, go to stderr."""
    rows: list[dict[str, Any]] = []
    for step in steps:
        rows.append(
            {
                "rollout": step.rollout,
                "state": "BROKEN" if step.refusal else step.state,
                "decision": step.decision,
                "orders": step.orders,
                "reasons": "; ".join(step.reasons),
            }
        )
        for problem in step.problems:
            session.say(f"{step.rollout}: {problem}")
    session.rows(rows, ("rollout", "state", "decision", "orders", "reasons"))
    refusals = [step.refusal for step in steps if step.refusal is not None]
    for refusal in refusals[1:]:
        session.say(str(refusal))
    if refusals:
        raise refusals[0]
