"""Progress on stderr: a bar on a terminal, one line at the end otherwise.

>>> with bar("app.bin") as tick:
...     tick(4096, 1048576)          # bytes done, bytes in all
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
