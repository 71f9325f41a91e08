"""The verb ``relay``: read its words strictly, make the visit, print the answer.

It is called over SSH and by Systems Manager, many times for each update, so it loads little: the
agent itself only with ``--look``, and then in a process of its own.

With ``--look`` a device without a running agent looks at once: one cycle, detached in a session
of its own, so that neither the end of the connection nor a repetition of the visit touches it.
It is not begun while an agent works, nor for an order that was relayed before and whose hint is
gone.

Exit codes: those of ``ota-agent``; 2 for words that are wrong or a device that has no spool, 3
(``hint-wrong-device``) where another device was meant, 7 while another visit holds the spool.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from ota.agent import hints, relay
from ota.agent.config import Config, load
from signing import durable, handles, strict
from signing.errors import Busy, Malformed, Misuse, NotFound, OtaError, Outage, Refusal


def run(arguments: argparse.Namespace) -> int:
    """Make the visit; stdout is one JSON object, of the answer or of the error."""
    try:
        config = load(Path(arguments.config))
        answer = _visit(arguments, config)
    except OtaError as e:
        error = {"error": str(e), "code": e.code, "next": e.remedy}
        sys.stdout.write(strict.compact(error).decode() + "\n")
        sys.stderr.write(f"error: {e} ({e.code})\n")
        return e.exit_code
    sys.stdout.write(answer.encoded().decode())
    return 0


def _visit(arguments: argparse.Namespace, config: Config) -> relay.Answer:
    asked = _asked(arguments, config.device)
    if not 1 <= arguments.look_limit <= 7 * 86_400:
        raise Malformed("--look-limit: 1 to 604800 seconds")
    if config.feed.kind != "spool":
        raise Misuse(
            f"{config.device} has no spool to relay for",
            subject="feed.kind",
            remedy='[feed] kind = "spool" in agent.toml',
        )
    folder = Path(config.feed.path)
    answer = relay.take(folder, config.device, asked)
    answer.agent = _version()
    if arguments.look and (answer.hint != "known" or _waits(folder, arguments.order)):
        answer.look = _look(config, Path(arguments.config), arguments.look_limit)
    return relay.give(folder, answer, asked)


def _asked(arguments: argparse.Namespace, device: str) -> relay.Visit:
    if arguments.device is not None:
        strict.identifier(arguments.device, "--device")
        if arguments.device != device:
            raise Refusal(
                "hint-wrong-device", f"for {arguments.device}, this is {device}", subject=device
            )
    hint = None
    if (arguments.order is None) != (arguments.rollout is None):
        raise Misuse("--order and --rollout belong together")
    if arguments.order is not None:
        words = {"schema": 1, "device": device}
        words |= {"order": arguments.order, "rollout": arguments.rollout}
        hint = hints.parse(strict.compact(words))
    return relay.Visit(
        hint, tuple(arguments.ack), tuple(arguments.cancel), arguments.wait, arguments.max_bytes
    )


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415 - slow to import

    try:
        return metadata.version("ota-orchestrator")
    except metadata.PackageNotFoundError:
        return "from a source folder"


# -- the look ------------------------------------------------------------------------------------
def _waits(folder: Path, order: str) -> bool:
    """Whether the hint of an order still lies there."""
    try:
        with handles.opened(folder, "orders") as orders:
            return f"{order}.json" in handles.names(orders)
    except OSError:
        return False


def _look(config: Config, path: Path, limit: float) -> str:
    """``started``, ``running`` or ``not-permitted``; ``NotFound`` on an unprovisioned device."""
    try:
        if not (config.state / "identity" / "enrolment.json").exists():
            raise NotFound(
                f"{config.device} is not provisioned",
                subject=str(config.state),
                remedy="ota-agent provision",
            )
        with durable.locked(config.state / "lock"):
            pass
    except Busy:
        return "running"
    except (PermissionError, Outage):
        return "not-permitted"
    words = ("once", "--config", str(path.absolute()), "--time-limit", str(limit))
    subprocess.Popen(
        [sys.executable, "-m", "ota.agent.main", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return "started"
