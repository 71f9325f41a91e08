"""``ota-agent``: the device's command. Everything heavy is imported only when it is needed.

Exit codes: 0 done, 1 error, 2 usage, 3 verification refused, 4 not permitted, 6 waiting for a
human, 7 another agent holds this device, 8 waiting for a reboot or stopped at the time limit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType, TracebackType
from typing import cast

from ota.agent.arguments import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    top = parser()
    arguments = top.parse_args(argv)
    if arguments.version:
        from importlib.metadata import version  # noqa: PLC0415 - start quickly

        sys.stdout.write(f"ota-agent {version('ota-orchestrator')}\n")
        return 0
    if arguments.verb is None:
        top.print_help()
        return 2
    if not getattr(arguments, "debug", False):
        sys.excepthook = _unforeseen
    # securesystemslib imports boto3 wherever it is installed; a device never needs it, and where
    # both installs share an environment this saves a quarter of the start and 10 MB.
    sys.modules.setdefault("boto3", cast("ModuleType", None))
    if arguments.verb == "tuf":
        from ota.agent import plain_tuf  # noqa: PLC0415 - start quickly

        return plain_tuf.run(arguments)
    if arguments.verb == "relay":
        from ota.agent import relay_verb  # noqa: PLC0415 - start quickly

        return relay_verb.run(arguments)
    from ota.agent import verbs  # noqa: PLC0415 - start quickly

    return verbs.run(arguments)


def _unforeseen(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    sys.stderr.write(
        f"error: a mistake of this program: {kind.__name__}: {error} (internal)\n"
        "next: the same command with --debug, and report what it prints\n"
    )


if __name__ == "__main__":
    sys.exit(main())
