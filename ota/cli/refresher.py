"""AWS Lambda's way to ``ota repo refresh``: the handler ``ota.cli.refresher.handler``.

1. The event is not read: whoever may invoke the function can have it look once more, and no more.
2. ``OTA_WORKSPACE`` is the workspace, on a file system that outlives the function (EFS). What this
   workspace has seen must not be forgotten from one run to the next: without it, whoever holds the
   bucket could show an older state and have it signed anew.
3. It is the same command that a timer runs; what it prints is in the function's log. Any exit code
   but 0 raises, so that Lambda counts an error, for an alarm to watch.

Let one run at a time (reserved concurrency 1). A run that Lambda's time limit ends is a killed run:
the next one goes on.

>>> handler({}, None)
{'image': 'not due', 'devices': 0}
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

from ota.errors import Misuse, Outage

_COMMAND = ("-o", "json", "repo", "refresh")


def handler(_event: object, _context: object) -> dict[str, Any]:
    """Refresh what is due; returns what the command prints.

    Raises ``Misuse`` without a workspace, ``Outage`` (its exit code in the text) for a run that did
    not end well: the command's own error is in the log.
    """
    from ota.cli.app import run  # noqa: PLC0415 - typer, only where it is called

    workspace = os.environ.get("OTA_WORKSPACE", "")
    if not Path(workspace).is_absolute():
        raise Misuse("OTA_WORKSPACE is not an absolute path", remedy="set it: /mnt/ota/plant")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = run(["-C", workspace, *_COMMAND])
    print(said.getvalue().strip(), flush=True)  # noqa: T201 - the function's log
    if code != 0:
        raise Outage(f"ota repo refresh ended with {code}", code="refresh", subject=workspace)
    found: dict[str, Any] = json.loads(said.getvalue())
    return found
