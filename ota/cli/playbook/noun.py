"""What the verbs of ``ota playbook`` share: the noun, its arguments, and where playbooks come from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.errors import Misuse

if TYPE_CHECKING:
    from ota.playbook.library import Listed
    from signing.playbooks.playbook import Playbook

app = typer.Typer(
    name="playbook", no_args_is_help=True, help="Playbooks: signed procedures for edge computers."
)

Name = Annotated[str, typer.Argument(metavar="NAME@VERSION", help="As ota playbook list says.")]
Source = Annotated[
    str, typer.Argument(metavar="PLAYBOOK", help="NAME@VERSION, a YAML file, or a shipped name.")
]
Params = Annotated[
    list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="May be repeated.")
]
ROADS = {"agent": "agent", "native": "native (not verified by the device)"}
_SUFFIXES = (".yaml", ".yml")


def is_file(text: str) -> bool:
    """Whether the words name a YAML file rather than a published playbook."""
    return text.endswith(_SUFFIXES) or (
        "@" not in text and (shipped(text) is not None or Path(text).is_file())
    )


def read_file(text: str) -> Playbook:
    """A playbook from a YAML file, or from one that ships with the product."""
    from ota.playbook import source  # noqa: PLC0415 - YAML is slow to import

    found = shipped(text) if not text.endswith(_SUFFIXES) else None
    path = found or Path(text)
    return source.read(inputs.read(path, 1024 * 1024, "playbook"), str(path))


def shipped(name: str) -> Path | None:
    """The YAML of a shipped playbook, or None."""
    from ota import shipped as files  # noqa: PLC0415 - `ota --help` stays quick

    return next((path for path in files.playbooks() if path.stem == name), None)


def read(session: sessions.Session, text: str) -> Playbook:
    """A playbook, published or waiting or from a file."""
    if is_file(text):
        return read_file(text)
    return session.wiring.library.draft(text, sessions.now()).playbook


def parameters(words: Iterable[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` words; ``Misuse`` for anything else."""
    found: dict[str, str] = {}
    for word in words or ():
        name, mark, value = word.partition("=")
        if not mark or name in found:
            why = "is not NAME=VALUE" if not mark else "stands twice"
            raise Misuse(f"--param {word!r:.80} {why}", subject=name[:80])
        found[name] = value
    return found


def row(item: Listed) -> dict[str, Any]:
    """One playbook in a list."""
    target = item.target
    return {
        "name": target.name,
        "version": target.version,
        "platforms": target.platforms,
        "roads": [ROADS[road] for road in target.roads],
        "state": item.state,
        "summary": target.summary,
        "path": target.path,
        "sha256": target.sha256,
    }


def brief(session: sessions.Session, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with steps in a few words each, except for programs that read JSON."""
    if session.output == sessions.Format.json:
        return list(rows)
    return [
        row
        | {
            "steps": [
                f"{s['name']}={s['outcome']}" + (f"({s['code']})" if s.get("code") else "")
                for s in row["steps"]
            ]
        }
        for row in rows
    ]
