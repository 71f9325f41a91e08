"""Planning a large fleet, from the registry in SQLite to the signed bytes of the plan.

A fresh process opens the registry, reads every device with its labels and components, and deals
them into four waves. Bounds: 100,000 devices in 3 s and 500 MB.

``python tests/benchmarks/bench_planning.py [-o json] [--million]``
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import figures
from figures import Figure
from securesystemslib.signer import CryptoSigner

from ota.fleet import rows, tables
from ota.fleet.registry import Registry
from ota.rollout import planning, spec
from signing import strict
from signing.enrolment import key_to_dict
from signing.plan import Workspace, sign_plan
from signing.release import Release
from signing.report import ComponentState, Slot

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
SECONDS, MEGABYTES = 3.0, 500
SPEC = b"""
rollout: app-2
release: app@2.0.0
select: fleet=north
waves:
  - {name: canary, count: 20}
  - {name: tenth, percent: 10}
  - {name: lyon, select: site=site-3}
  - {name: rest, rest: true}
limits: {in_flight: 1000, group_by: cell, max_unavailable: 1}
"""


def release(version: str) -> Release:
    """A release of ``app`` for two kinds of hardware."""
    return Release(
        path=f"app/app-{version}.tar",
        component="app",
        version=version,
        hardware_ids=("gw-rev-a", "gw-rev-b"),
        release_counter=1,
        format="tar",
        length=1,
        hashes={"sha256": strict.digest(version.encode())},
    )


def fill(file: Path, number: int) -> None:
    """A registry of ``number`` devices: five labels, two components each, keys of their own."""
    registry = Registry(f"sqlite:///{file}")
    with tables.writing(registry.engine) as conn:
        for start in range(0, number, 10_000):
            chunk = [_device(n) for n in range(start, min(start + 10_000, number))]
            conn.execute(tables.devices.insert(), chunk)
    registry.close()


def _device(n: int) -> dict[str, Any]:
    key = key_to_dict(_KEY) | {"keyid": strict.digest(str(n).encode())}
    old = release("1.0.0")
    slot = Slot(sha256=old.sha256, length=1, path=old.path, version="1.0.0", release_counter=1)
    components = {
        name: ComponentState(hardware_id=hardware, floor=1, current=slot, previous=slot)
        for name, hardware in (("app", "gw-rev-b"), ("os", "gw-rev-b"))
    }
    labels = {
        "fleet": "north",
        "site": f"site-{n % 50}",
        "cell": f"cell-{n // 10}",
        "line": f"line-{n % 7}",
        "owner": "ops",
    }
    return {
        "id": f"gateway-{n:07}",
        "keyid": key["keyid"],
        "key": json.dumps(key),
        "state": "active",
        "state_id": "state-1",
        "counter": 5,
        "held_state_id": "",
        "courier": "spool",
        "labels": rows.json_text(labels),
        "components": rows.components_text(components),
        "last_seen": strict.stamp(NOW),
        "registered": strict.stamp(NOW),
    }


def measure(file: Path) -> dict[str, Any]:
    """Plan once in this process."""
    releases = {r.path: r for r in (release("1.0.0"), release("2.0.0"))}
    started, worked = time.perf_counter(), time.process_time()
    registry = Registry(f"sqlite:///{file}")
    wanted = spec.read(SPEC)
    workspace = Workspace(image_root="a" * 64, director_root="b" * 64)
    plan = planning.make(
        wanted, registry.devices(wanted.select), releases, workspace, NOW, {}, token="abc123"
    )
    seconds, processor = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    signed = sign_plan(plan, CryptoSigner.generate_ed25519())
    return {
        "seconds": round(seconds, 2),
        "processor": round(processor, 2),
        "megabytes": round(peak),
        "waves": [len(wave.devices) for wave in plan.waves],
        "signed_megabytes": round(len(signed) / 1e6, 1),
        "seconds_with_signature": round(time.perf_counter() - started, 2),
    }


def run(number: int, times: int) -> dict[str, Any]:
    """Fill a registry, and measure in fresh processes so that filling does not count; medians."""
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as folder:
        file = Path(folder) / "registry.db"
        fill(file, number)
        command = [sys.executable, __file__, "--measure", str(file)]
        results = [
            json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            for _ in range(times)
        ]
    return {"devices": number} | {
        name: figures.median([r[name] for r in results]) for name in results[0] if name != "waves"
    }


def found(result: dict[str, Any], *, bounded: bool) -> list[Figure]:
    """The figures of one run; a million devices have no bounds, only figures."""
    many = f"{result['devices']:,} devices"
    return [
        Figure(f"{many}: plan", result["seconds"], "s", bound=SECONDS if bounded else None),
        Figure(f"{many}: plan, processor time", result["processor"], "s"),
        Figure(
            f"{many}: peak memory",
            result["megabytes"],
            "MB",
            bound=MEGABYTES if bounded else None,
        ),
        Figure(f"{many}: plan and signature", result["seconds_with_signature"], "s"),
        Figure(f"{many}: signed plan", result["signed_megabytes"], "MB"),
    ]


def main() -> None:
    """Measure three times in fresh processes and print the medians."""
    options = figures.arguments(
        __doc__,
        million={"action": "store_true", "help": "1,000,000 devices too"},
        measure={"type": Path, "help": argparse.SUPPRESS},
    )
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    rows = found(run(100_000, 3), bounded=True)
    if options.million:
        rows += found(run(1_000_000, 1), bounded=False)
    figures.show("planning", rows, options.output)


_KEY = CryptoSigner.generate_ecdsa().public_key

if __name__ == "__main__":
    main()
