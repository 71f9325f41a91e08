"""What each verb of ``ota-agent`` does: call one use case, print, translate errors once."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import traceback
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ota.agent import build, provision, status, time_limit, waiting
from ota.agent.config import Config, load
from ota.agent.endings import Result
from signing import strict
from signing.errors import Misuse, NeedsHuman, NotPermitted, OtaError, Outage, StillRunning

_OUTCOME_EXIT = {"committed": 0, "": 0, "refused": 3, "failed": 1, "reverted": 1}


def run(arguments: argparse.Namespace) -> int:
    """Dispatch; every error becomes a message, a next step and an exit code."""
    config_path = Path(arguments.config)
    try:
        config = load(config_path)
        verbs = {
            "provision": _provision,
            "once": _once,
            "run": _run,
            "status": _status,
            "verify": _verify,
            "playbook": _playbook,
        }
        return verbs[arguments.verb](arguments, config)
    except OtaError as e:
        if arguments.debug:
            traceback.print_exc()
        return _fail(arguments, e)
    except OSError as e:
        if arguments.debug:
            traceback.print_exc()
        where = str(e.filename or config_path)
        return _fail(arguments, Outage(f"{where}: {e.strerror}", code="io", subject=where))
    except KeyboardInterrupt:
        return 130


def _fail(arguments: argparse.Namespace, error: OtaError) -> int:
    if arguments.output == "json":
        _json({"error": str(error), "code": error.code, "next": error.remedy})
    sys.stderr.write(f"error: {strict.shown(str(error))} ({error.code})\n")
    if error.remedy:
        sys.stderr.write(f"next: {strict.shown(error.remedy)}\n")
    return error.exit_code


def _json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _provision(arguments: argparse.Namespace, config: Config) -> int:
    roots = provision.read_roots(Path(arguments.director_root), Path(arguments.image_root))
    found = roots.fingerprints()
    expected = {
        "director": arguments.director_root_sha256,
        "image": arguments.image_root_sha256,
    }
    provision.check(roots, {k: v for k, v in expected.items() if v})
    either = {value.lower() for value in arguments.root_sha256}
    if either and set(found.values()) != either:
        raise Misuse("the fingerprints given are not those of the two files")
    known = bool(either) or all(expected.values())
    for name, fingerprint in found.items():
        sys.stderr.write(f"{name} root sha256 {fingerprint}\n")
    if not known and not arguments.yes:
        _ask()
    path = provision.provision(config, roots, datetime.now(UTC))
    if arguments.output == "json":
        _json({"device": config.device, "enrolment": str(path), "roots": found})
    else:
        sys.stdout.write(f"{path}\n")
    sys.stderr.write(f"next, at the operator's: ota fleet register {path} --allow FILE\n")
    return 0


def _ask() -> None:
    if not sys.stdin.isatty():
        raise NotPermitted(
            "nobody compared the fingerprints",
            remedy="give --director-root-sha256 and --image-root-sha256, or --yes",
        )
    sys.stderr.write("Are these the fingerprints that your operator told you? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise NotPermitted("the fingerprints were not accepted")


def _once(arguments: argparse.Namespace, config: Config) -> int:
    config = msgspec.structs.replace(config, feed=config.feed.at_once())
    with build.opened(config) as agent, time_limit.within(arguments.time_limit) as stopping:
        agent.applier.stopping = stopping
        trouble: Outage | None = None
        hint = None
        try:
            hint = agent.feed.next(config.feed.patience)
        except Outage as e:
            trouble = e
            sys.stderr.write(f"{e.code}: {e}\nnext: {e.remedy}\n")
        waiting.note(agent.state, trouble)
        results = agent.look(hint)
    _tell(arguments, results)
    return max((_exit(r) for r in results), default=0)


def _exit(result: Result) -> int:
    special = {"needs-human": NeedsHuman.exit_code, "pending-reboot": StillRunning.exit_code}
    return special.get(result.code, _OUTCOME_EXIT.get(result.outcome, 1))


def _tell(arguments: argparse.Namespace, results: Iterable[Result]) -> None:
    rows = [asdict(r) for r in results]
    if arguments.output == "json":
        _json({"updates": rows})
        return
    for row in rows:
        words = [row["component"], row["outcome"] or "waiting", row["code"], row["detail"]]
        sys.stdout.write(strict.shown(" ".join(w for w in words if w)) + "\n")


def _playbook(arguments: argparse.Namespace, config: Config) -> int:
    from ota.agent import playbook_verb  # noqa: PLC0415 - a device loads what it uses

    result = playbook_verb.run(arguments, config)
    _tell(arguments, [result])
    return _exit(result) if result.outcome else StillRunning.exit_code


def _run(arguments: argparse.Namespace, config: Config) -> int:
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _frame: stop.append(n))

    def log(found: Iterable[Result] | OtaError) -> None:
        if isinstance(found, OtaError):
            if arguments.debug:
                traceback.print_exception(found)
            sys.stderr.write(f"{found.code}: {strict.shown(str(found))}\n")
        else:
            for r in found:
                words = f"{r.component} {r.outcome or 'waiting'} {r.code} {r.detail}"
                sys.stderr.write(strict.shown(words.rstrip()) + "\n")
        sys.stderr.flush()

    with build.opened(config) as agent:
        agent.run(config.poll.interval, config.poll.jitter, lambda: bool(stop), log)
    return 0


def _status(arguments: argparse.Namespace, config: Config) -> int:
    found = status.status(config)
    if arguments.output == "json":
        _json(found)
    else:
        for line in status.lines(found):
            sys.stdout.write(line + "\n")
    if found["needs_human"]:
        raise NeedsHuman(
            f"{', '.join(found['needs_human'])} can not go on alone", remedy="look at the device"
        )
    return 0


def _verify(arguments: argparse.Namespace, config: Config) -> int:
    faults = status.verify(config)
    if arguments.output == "json":
        _json({"faults": faults})
    else:
        for fault in faults:
            sys.stdout.write(fault + "\n")
        if not faults:
            sys.stdout.write("sound\n")
    return 3 if faults else 0
