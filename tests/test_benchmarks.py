"""Every benchmark still runs, on very little: figures are judged by people, not here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent / "benchmarks"
SMALL = {
    "bench_engine": ("--devices", "20"),
    "bench_refresh": ("--devices", "5", "--delay", "1"),
    "bench_s3": ("--mib", "8"),
    "bench_scale": ("--runs", "1", "--releases", "200", "--bins", "4"),
    "bench_ssh": ("--mib", "1", "--hosts", "2", "--runs", "1"),
    "bench_verify": ("--runs", "2"),
}
LARGE = {
    "bench_agent": "it installs the agent into an environment of its own",
    "bench_feed": "the same",
    "bench_iot_jobs": "a hundred devices already take a quarter of a minute",
    "bench_planning": "it plans a hundred thousand devices, always",
    "bench_playbook": "its hosts are brought up one by one",
}
"""Those whose smallest run takes long: here only their words are asked for."""


def bench(name: str, *words: str) -> str:
    command = [sys.executable, str(FOLDER / f"{name}.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_is_run_or_excused() -> None:
    """A new benchmark is on one of both lists."""
    assert {p.stem for p in FOLDER.glob("bench_*.py")} == {*SMALL, *LARGE}


@pytest.mark.parametrize("name", SMALL)
def test_it_measures(name: str) -> None:
    """Figures above nothing, each with its bound's verdict where it has one."""
    found = json.loads(bench(name, "-o", "json", *SMALL[name]))
    assert f"bench_{found['benchmark'].replace('-', '_')}" == name
    assert found["figures"]
    for figure in found["figures"]:
        assert figure["value"] >= 0, figure
        assert (figure["verdict"] == "") == (figure["bound"] is None), figure


@pytest.mark.parametrize("name", LARGE)
def test_it_says_what_it_measures(name: str) -> None:
    """It starts, with everything that it imports, and explains itself."""
    assert f"python tests/benchmarks/{name}.py" in bench(name, "--help")
