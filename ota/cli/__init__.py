"""The command line: one file a noun; parse, call one use case, print.

``main`` is the entry point ``ota``. In the base install, which is the device's, the operator's
libraries are missing: then it says which install it needs (exit 2).
"""

from __future__ import annotations

import sys
from typing import NoReturn

_OPS = frozenset({"typer", "rich", "sqlalchemy", "yaml", "starlette", "uvicorn", "boto3"})


def main() -> NoReturn:
    """Run ``ota`` with the process's arguments and end the process with its exit code."""
    try:
        from ota.cli.app import run  # noqa: PLC0415 - typer is absent from the base install

        code = run(sys.argv[1:])
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in _OPS:
            raise
        sys.stderr.write(
            f"error: this is the device's install; the command line needs {e.name}\n"
            "code: missing-library\n"
            "next: pip install 'ota-orchestrator[ops]', or in a checkout: pip install '.[ops]'\n"
        )
        code = 2
    sys.exit(code)
