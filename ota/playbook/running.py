"""Use case: run a rendered playbook on machines without an agent, and keep what they said.

Nothing here was verified by the device, and every record says so. A run has an id; repeated with
it, a machine that was done says the same again, and one whose connection broke is waited for.

>>> runs = NativeRuns(folder, shells)
>>> for row in runs.run(order, ["box-1", "box-2"], now): print(row["device"], row["outcome"])
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from ota.errors import Malformed, NotFound, Outage
from ota.playbook import loader, told
from ota.playbook.native import UNVERIFIED, Rendered
from ota.ports import Answered, Errand, Shells
from signing import durable, strict

_RUN: Final = re.compile(r"native-[a-z0-9-]{1,48}-[0-9a-f]{8}")
_LIMIT: Final = 64 * 1024 * 1024
_OUTPUT: Final = 1024 * 1024
_UNKNOWN: Final = {"outcome": "unknown", "code": "", "detail": "", "steps": []}
"""Of a machine that was asked and has not answered: this side may have been stopped since."""
OUTCOMES: Final = {0: "done", 1: "failed", 3: "refused"}


@dataclass(frozen=True)
class Native:
    """What is run: the text, its values, files to bring along (local -> far), how it is started.

    ``signed``: whether the playbook is published by its keyholders, or only a file.
    """

    rendered: Rendered
    values: Mapping[str, str]
    signed: bool
    pushes: tuple[tuple[Path, str], ...] = ()
    prefix: tuple[str, ...] = ()
    run: str = ""


class NativeRuns:
    """Runs over ``shells``; records lie in ``folder``, one file a run."""

    def __init__(self, folder: Path, shells: Shells | None = None) -> None:
        self._folder = folder
        self._shells = shells

    def run(
        self, native: Native, devices: Sequence[str], now: datetime
    ) -> Iterator[dict[str, Any]]:
        """One row for each device as it is done; kept before the first and after the last."""
        if self._shells is None:
            raise NotFound("no way to run anything on a machine", subject="couriers.ssh")
        name = native.run or new_run(native.rendered.playbook)
        errand = Errand(
            argv=tuple(loader.argv(native.rendered, name, native.prefix)),
            stdin=loader.stdin(native.rendered, native.values),
            timeout=float(native.rendered.timeout),
            limit=_OUTPUT,
            pushes=native.pushes,
        )
        record: dict[str, Any] = {
            "schema": 1,
            "run": name,
            "playbook": native.rendered.playbook,
            "road": native.rendered.road,
            "sha256": native.rendered.sha256,
            "signed": native.signed,
            "verified": UNVERIFIED,
            "parameters": dict(native.values),
            "time": strict.stamp(now),
            "devices": dict.fromkeys(devices, _UNKNOWN),
        }
        self._keep(record)
        try:
            for answered in self._shells.each(devices, errand):
                row = _row(answered)
                record["devices"][answered.device] = row
                yield {"device": answered.device, "run": name, **row, "verified": UNVERIFIED}
        finally:
            self._keep(record)

    def _keep(self, record: dict[str, Any]) -> None:
        durable.folder(self._folder, 0o700)
        durable.replace(self._path(record["run"]), msgspec.json.encode(record), mode=0o600)

    def runs(self) -> list[dict[str, Any]]:
        """Every run that is kept, oldest first."""
        paths = self._folder.glob("native-*.json")
        return [self._read(p) for p in sorted(paths, key=lambda path: path.stat().st_mtime_ns)]

    def show(self, run: str) -> dict[str, Any]:
        """One run; ``NotFound``."""
        return self._read(self._path(run))

    def _path(self, run: str) -> Path:
        if not _RUN.fullmatch(run):
            raise Malformed(f"{run!r:.80} is not the id of a native run", subject=run[:80])
        return self._folder / f"{run}.json"

    def _read(self, path: Path) -> dict[str, Any]:
        data = durable.read(path, _LIMIT, "native run")
        if data is None:
            raise NotFound(
                f"there is no native run {path.stem}",
                subject=path.stem,
                remedy="ota playbook status --native",
            )
        found = strict.loads(data, limit=_LIMIT, what=str(path))
        if not isinstance(found, dict) or not isinstance(found.get("devices"), dict):
            raise Malformed(f"{path}: not a native run", subject=str(path))
        return found


def new_run(playbook: str) -> str:
    """An id for a run of this playbook."""
    name = re.sub("[^a-z0-9]+", "-", playbook.lower()).strip("-")[:48].strip("-")
    return f"native-{name}-{secrets.token_hex(4)}"


def _row(answered: Answered) -> dict[str, Any]:
    """What a machine said, in one row; ``unreachable`` where it said nothing."""
    if answered.error is not None:
        error = answered.error
        return {"outcome": "unreachable" if isinstance(error, Outage) else "refused",
                "code": error.code, "detail": str(error)[:300], "steps": []}  # fmt: skip
    steps = told.read(answered.out)
    code, detail = loader.MEANING.get(answered.status, ("", ""))
    bad = next((step for step in steps if step.outcome == "failed"), None)
    outcome = "failed" if code else OUTCOMES.get(answered.status, "failed")
    words = answered.err.decode("utf-8", "replace")[:300] if outcome != "done" else ""
    return {
        "outcome": outcome,
        "code": code or (bad.code if bad and outcome != "done" else ""),
        "detail": detail or "".join(c if c.isprintable() else " " for c in words).strip(),
        "steps": [msgspec.to_builtins(step) for step in steps],
    }


def bad(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Devices that are not done."""
    return [str(row["device"]) for row in rows if row["outcome"] != "done"]
