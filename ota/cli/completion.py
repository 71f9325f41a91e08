"""``ota completion``: a script that lets a shell complete ``ota``'s words."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

EXAMPLE = "Example: ota completion bash > ~/.local/share/bash-completion/completions/ota"


class Shell(StrEnum):
    """Shells with a script."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Print the completion script of a shell."""
    from typer._completion_shared import (  # noqa: PLC0415 - typer exports no other way
        get_completion_script,
    )

    typer.echo(
        get_completion_script(prog_name="ota", complete_var="_OTA_COMPLETE", shell=shell.value)
    )
