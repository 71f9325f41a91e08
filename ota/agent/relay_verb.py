"""The verb ``relay``: read its words strictly, make the visit, print the answer.

It is called over SSH and by Systems Manager, many times for each update, so it loads little: of
agent.toml only the lines that it needs (the agent reads all of it, strictly), and the agent itself
only with ``--look``, in a process of its own.

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

import msgspec

from ota.agent import hints, options, relay
from signing import durable, handles, strict
from signing.errors import Busy, Malformed, Misuse, NotFound, OtaError, Outage, Refusal


class _Feed(msgspec.Struct, frozen=True):
    kind: str = "none"
    path: str = ""


class _Device(msgspec.Struct, frozen=True):
    """What a visit needs of agent.toml."""

    device: str
    state_dir: str
    feed: _Feed = _Feed()

    @property
    def state(self) -> Path:
        return Path(self.state_dir)


def _load(path: Path) -> _Device:
    found = options.load(path, _Device)
    try:
        strict.identifier(found.device, "device")
    except Malformed as e:
        raise Malformed(f"{path}: {e}", subject=str(path), remedy=f"correct {path}") from e
    if found.feed.kind != "spool" or not found.feed.path.startswith("/"):
        raise Misuse(
            f"{found.device} has no spool to relay for",
            subject="feed.kind",
            remedy='[feed] kind = "spool" and an absolute path, in agent.toml',
        )
    return found


def run(arguments: argparse.Namespace) -> int:
    """Make the visit; stdout is one JSON object, of the answer or of the error."""
    try:
        config = _load(Path(arguments.config))
        answer = _visit(arguments, config)
    except OtaError as e:
        error = {"error": str(e), "code": e.code, "next": e.remedy}
        sys.stdout.write(strict.compact(error).decode() + "\n")
        sys.stderr.write(f"error: {e} ({e.code})\n")
        return e.exit_code
    sys.stdout.write(answer.encoded().decode())
    return 0


def _visit(arguments: argparse.Namespace, config: _Device) -> relay.Answer:
    asked = _asked(arguments, config.device)
    if not 1 <= arguments.look_limit <= 7 * 86_400:
        raise Malformed("--look-limit: 1 to 604800 seconds")
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


def _look(config: _Device, path: Path, limit: float) -> str:
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
