"""What every benchmark prints: figures with units, measured against a peer in the same run.

A benchmark says ``holds`` or ``misses`` for each bound and never fails for it: on a noisy
machine a ratio means something, an absolute time does not. ``-o json`` prints one object.

>>> show("agent", [Figure("cold start", 1.1, "x", bound=1.3, peer="python -c 'import tuf'")], "table")
agent: cold start                        1.10 x    at most 1.3 x: holds    against python -c ...
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [p for p in (str(ROOT), str(ROOT / "tests")) if p not in sys.path]

from signing import durable  # noqa: E402 - the tree must be on the path first

Direction = Literal["at most", "at least"]


@dataclass(frozen=True)
class Figure:
    """One measured value. ``peer`` is what it was measured against, "" for nothing."""

    name: str
    value: float
    unit: str
    bound: float | None = None
    direction: Direction = "at most"
    peer: str = ""

    @property
    def verdict(self) -> str:
        """``holds``, ``misses``, or "" when nothing was asked of it."""
        if self.bound is None:
            return ""
        under = self.value <= self.bound
        return "holds" if under == (self.direction == "at most") else "misses"


def show(benchmark: str, figures: Sequence[Figure], output: str) -> None:
    """Print all figures, as lines for people or as one JSON object."""
    if output == "json":
        rows = [asdict(f) | {"verdict": f.verdict} for f in figures]
        print(json.dumps({"benchmark": benchmark, "figures": rows}), flush=True)
        return
    for figure in figures:
        line = f"{benchmark}: {figure.name:<46} {number(figure.value):>9} {figure.unit:<10}"
        if figure.bound is not None:
            line += f" {figure.direction} {number(figure.bound)} {figure.unit}: {figure.verdict}"
        if figure.peer:
            line += f"  against {figure.peer}"
        print(line.rstrip(), flush=True)


def number(value: float) -> str:
    """Three significant digits, thousands in full."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def arguments(description: str | None, **more: dict[str, Any]) -> argparse.Namespace:
    """Parse ``-o`` and a benchmark's own options, ``name={...}`` of ``add_argument``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    for name, options in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **options)
    return parser.parse_args()


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turn(runs: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Each measure ``runs`` times, A B A B, so that noise falls on all of them alike."""
    found: list[list[float]] = [[] for _ in measures]
    for _ in range(runs):
        for values, measure in zip(found, measures, strict=True):
            values.append(measure())
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of neighbours in time."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


median = statistics.median


@contextmanager
def disk_waits() -> Iterator[list[float]]:
    """Seconds for which our side waits for syncs while this is entered, one entry a wait."""
    found: list[float] = []
    parts = ("_sync_all", "sync_folder")
    honest = {name: getattr(durable, name) for name in parts}

    def timed_part(work: Callable[[Any], None]) -> Callable[[Any], None]:
        def inner(argument: Any) -> None:
            found.append(timed(lambda: work(argument)))

        return inner

    for name, work in honest.items():
        setattr(durable, name, timed_part(work))
    try:
        yield found
    finally:
        for name, work in honest.items():
            setattr(durable, name, work)
