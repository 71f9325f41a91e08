"""Progress on stderr: a bar on a terminal, one line at the end otherwise.

>>> with bar("app.bin") as tick:
...     tick(4096, 1048576)          # bytes done, bytes in all
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from signing import strict

Tick = Callable[[int, int], None]


@contextmanager
def bar(label: str) -> Iterator[Tick]:
    """A progress callback that shows bytes done of bytes in all."""
    if not sys.stderr.isatty():
        total = [0]

        def count(_done: int, of: int) -> None:
            total[0] = of

        yield count
        if total[0]:
            sys.stderr.write(f"{label}: {total[0]} bytes\n")
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal pays for it
    from rich.progress import (  # noqa: PLC0415 - the same
        BarColumn,
        DownloadColumn,
        Progress,
        TransferSpeedColumn,
    )

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None)

        def show(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        yield show


@contextmanager
def line() -> Iterator[Callable[[str, str], None]]:
    """Something that changes: redrawn in place on a terminal, else one line for each change.

    The second text (an age) is shown and is no change.
    """
    if not sys.stderr.isatty():
        seen: list[str] = []

        def on_change(text: str, more: str) -> None:
            if seen[-1:] != [text]:
                seen.append(text)
                sys.stderr.write(strict.shown(text + more) + "\n")

        yield on_change
        return

    def redraw(text: str, more: str) -> None:
        sys.stderr.write("\r\033[2K" + strict.shown(text + more))
        sys.stderr.flush()

    try:
        yield redraw
    finally:
        sys.stderr.write("\n")
