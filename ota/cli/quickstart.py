"""``ota quickstart``: the whole road on this machine, with real processes and real attacks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ota.cli import session as sessions
from ota.errors import Misuse

EXAMPLE = "Example: ota quickstart --image firmware.bin --image firmware-2.bin"
_COUNTS = ("committed", "in_progress", "pending", "reverted", "failed", "refused")


def quickstart(
    ctx: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(help="A new folder; kept afterwards. Default: a temporary one.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="Roll out your own file instead; repeatable.")
    ] = None,
    devices: Annotated[
        int,
        typer.Option(min=0, max=200, show_default=False, help="Default: 24, or 3 with --image."),
    ] = 0,
) -> None:
    """Make a fleet of real agents here, roll out four releases, and attack it six times.

    Exits non-zero if anything differs from what the README says of it.
    """
    import tempfile  # noqa: PLC0415 - `ota --help` stays quick

    from ota.quickstart.demo import LEAST, Demo, DemoFailed  # noqa: PLC0415 - the same
    from ota.quickstart.own import Own  # noqa: PLC0415 - the same

    session = sessions.of(ctx)
    for file in image or ():
        if not file.is_file() or file.stat().st_size == 0:
            raise Misuse(f"{file}: not a file with content", subject=str(file))
    if not image and 0 < devices < LEAST:
        raise Misuse(f"--devices: the attacks need at least {LEAST}", subject="--devices")
    place = folder or Path(tempfile.mkdtemp(prefix="ota-quickstart-")) / "plant"
    show = _Live() if sys.stderr.isatty() else _Lines()
    if image:
        result = Own(place, image, devices or 3, show).run()
    else:
        result = Demo(place, devices or 24, show).run()
    show.end()
    wrong = result.pop("wrong")
    if session.output == sessions.Format.table:
        for rollout in result["rollouts"]:
            rollout["waves"] = [_words(wave) for wave in rollout["waves"]]
    session.details(result)
    if wrong:
        raise DemoFailed(f"{len(wrong)} things went differently: {'; '.join(wrong[:5])}")
    session.say(
        f"all of it went as it must; next: {_program()} -C {result['workspace']} fleet list"
    )


def _program() -> str:
    """How this program is called again from where a person stands."""
    import shutil  # noqa: PLC0415 - `ota --help` stays quick

    called = Path(sys.argv[0])
    away = called.name == "ota" and called.is_file() and shutil.which("ota") is None
    return str(called.absolute()) if away else "ota"


class _Lines:
    """One line a change."""

    def __init__(self) -> None:
        self._last = ""

    def say(self, text: str) -> None:
        sys.stderr.write(text + "\n")

    def step(self, status: dict[str, Any]) -> None:
        line = _line(status)
        if line != self._last:
            self._last = line
            sys.stderr.write(f"  {line}\n")

    def end(self) -> None:
        """Nothing is left open."""


class _Live(_Lines):
    """The last line moves in place."""

    def say(self, text: str) -> None:
        self.end()
        sys.stderr.write(text + "\n")

    def step(self, status: dict[str, Any]) -> None:
        self._last = _line(status)
        sys.stderr.write(f"\r\033[2K  {self._last[:150]}")
        sys.stderr.flush()

    def end(self) -> None:
        if self._last:
            sys.stderr.write("\n")
            self._last = ""


def _line(status: dict[str, Any]) -> str:
    return f"{status['rollout']} {status['state']} | " + " | ".join(map(_words, status["waves"]))


def _words(wave: dict[str, Any]) -> str:
    """``canary 3: 2 committed, 1 in progress``."""
    counts = (f"{wave[k]} {k.replace('_', ' ')}" for k in _COUNTS if wave.get(k))
    return f"{wave['name']} {wave['size']}: {', '.join(counts) or wave['state']}"
