"""One update by a real agent, in the device's own install: seconds of its three heavy phases.

Runs in the lean environment, where neither tests nor operator's packages are; ``bench_agent.py``
calls it. Prints JSON: ``download``, ``verify`` and ``stage`` in seconds, ``processor`` (their
processor time, all threads) and ``whole`` for the look.

``.../lean/bin/python phases.py agent.toml``
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ota.agent import build
from ota.agent.config import load
from ota.agent.download import Downloader
from ota.agent.installers.single_file import SingleFile
from ota.agent.trust import TrustRoom

SECONDS: dict[str, float] = {}


def watch(owner: type, method: str, name: str) -> None:
    """Add up the time spent in one method."""
    original: Callable[..., Any] = getattr(owner, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        began, worked = time.perf_counter(), time.process_time()
        try:
            return original(*args, **kwargs)
        finally:
            SECONDS[name] = SECONDS.get(name, 0.0) + time.perf_counter() - began
            SECONDS["processor"] = SECONDS.get("processor", 0.0) + time.process_time() - worked

    setattr(owner, method, timed)


def main() -> None:
    """Look once; an update that was not committed is an error."""
    watch(Downloader, "image", "download")
    watch(TrustRoom, "verify", "verify")
    watch(SingleFile, "stage", "stage")
    began = time.perf_counter()
    with build.opened(load(Path(sys.argv[1]))) as agent:
        results = agent.look(None)
    SECONDS["whole"] = time.perf_counter() - began
    assert [r.outcome for r in results] == ["committed"], results
    print(json.dumps(SECONDS))


if __name__ == "__main__":
    main()
