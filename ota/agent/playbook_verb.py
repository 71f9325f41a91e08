"""The verb ``playbook run``: run now what the director orders here, if it is what was asked for.

This is the command that Systems Manager, SSH, or a person on the device carries. It chooses
nothing: the order, the playbook's text and every value come signed. What the command says besides
must be the same, or nothing runs and the device reports it.

Where an agent works already, the request is left for it as a hint, and the verb waits.

Exit codes: 0 done, 1 a step failed, 3 refused, 7 an agent works and no spool leads to it, 8 not
done yet (a reboot, the interlock, the end of ``--wait``).
"""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ota.agent import build, hints, relay
from ota.agent.config import Config
from ota.agent.endings import Result
from ota.agent.feeds.options import SpoolOptions
from ota.agent.state import State
from signing import strict
from signing.errors import Busy, Malformed, Misuse, StillRunning
from signing.layout import PLAYBOOKS
from signing.playbooks.playbook import named, path_of

_TICK = 0.5
_T = TypeVar("_T")


def run(arguments: argparse.Namespace, config: Config) -> Result:
    """What came of it; raises what the agent's cycle raises, ``Busy``, or ``StillRunning``."""
    asked = request(config.device, arguments.name, arguments.param)
    if not 0 <= arguments.wait <= 86_400:
        raise Malformed("--wait: 0 to 86400 seconds")
    try:
        with build.opened(config) as agent:
            return agent.playbook(asked)
    except Busy:
        if not isinstance(config.feed, SpoolOptions):
            raise
        return _by_the_running_agent(config, Path(config.feed.path), asked, arguments.wait)


def request(device: str, name: str, params: list[str]) -> hints.Body:
    """The words of a command as a hint; ``Malformed`` or ``Misuse`` for words that are none."""
    named(name)
    values: dict[str, str] = {}
    for word in params:
        key, mark, value = word.partition("=")
        if not mark or key in values:
            raise Misuse(f"--param {word!r:.80}: not NAME=VALUE, or twice", subject=key[:80])
        values[key] = value
    order = f"here-{secrets.token_hex(8)}"
    body = {"schema": 1, "device": device, "order": order, "rollout": "here"}
    return hints.parse(strict.compact(body | {"playbook": name, "parameters": values}))


def _by_the_running_agent(config: Config, spool: Path, asked: hints.Body, wait: float) -> Result:
    """Leave a hint, and see how the run ends that it leads to."""
    path = path_of(*named(asked.playbook))
    before = _look(config, lambda state: set(state.runs.endings(path)))
    relay.take(spool, config.device, relay.Visit(asked))
    until = time.monotonic() + wait
    while True:
        found = _look(config, lambda state: state.runs.endings(path))
        for order in set(found) - before:
            return Result(PLAYBOOKS, order, found[order].outcome, found[order].code)
        if time.monotonic() >= until:
            raise StillRunning(
                f"{asked.playbook} was handed to the running agent",
                subject=asked.playbook,
                remedy="ota-agent status",
            )
        time.sleep(_TICK)


def _look(config: Config, question: Callable[[State], _T]) -> _T:
    state = State.open(config.state, read_only=True)
    try:
        return question(state)
    finally:
        state.close()
