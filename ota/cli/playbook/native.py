"""``ota playbook render``, and ``run --native``: machines without an agent.

The same playbook as one script or one Systems Manager document, pinned by its hash. Nothing of it
is verified by the device, and everything printed here says so.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.cli.playbook import noun
from ota.cli.playbook.noun import Params, Source, app
from ota.errors import Malformed, Misuse, Outage

if TYPE_CHECKING:
    from ota.cli.session import Session
    from ota.playbook.native import Rendered
    from signing.playbooks.playbook import Playbook

_ROWS = ("device", "outcome", "code", "steps", "verified", "detail")
_RUNS = ("run", "playbook", "signed", "verified", "time", "done", "not_done")


@dataclass(frozen=True)
class Asked:
    """The words of ``run --native``."""

    road: str
    playbook: str
    parameters: dict[str, str]
    pushes: tuple[str, ...]
    sudo: bool
    again: str
    collect: Path | None


@app.command(
    epilog="Example: ota playbook render restart-service@1.0.0 --native ssm --out doc.json"
)
def render(
    ctx: typer.Context,
    playbook: Source,
    road: Annotated[str, typer.Option("--native", help="ssm or ssh.")],
    out: Annotated[Path | None, typer.Option(help="A file; stdout without it.")] = None,
    download: Annotated[
        list[str] | None,
        typer.Option(metavar="S3-URL=PATH", help="ssm: fetch this on the machine first."),
    ] = None,
    param: Params = None,
) -> None:
    """Render a playbook for machines without an agent; they verify nothing of it.

    With --param also checks these values, and shows the ones that are computed from them.
    """
    from signing import durable  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    found, signed = _found(session, playbook)
    rendered = _rendered(found, road, download or [])
    shown = _shown(rendered, signed=signed)
    if param:
        from ota.playbook import compute  # noqa: PLC0415 - jinja2 is slow to import

        shown["parameters"] = compute.bind(found, noun.parameters(param))
    if out is not None:
        durable.replace(out, rendered.text.encode())
        session.details(shown | {"file": str(out)})
    elif session.output == sessions.Format.json:
        session.details(shown | {"text": rendered.text})
    else:
        sys.stdout.write(rendered.text)
        for name, value in shown.items():
            session.say(f"{name}: {value}")


@app.command(
    epilog="Example: ota playbook bundle --wheels wheels-x86_64 --config agent.toml --out b.tar"
)
def bundle(
    ctx: typer.Context,
    wheels: Annotated[Path, typer.Option(help="Wheels of the agent and all it needs.")],
    config: Annotated[Path, typer.Option(help="agent.toml, without the device's id.")],
    out: Annotated[Path, typer.Option(help="The archive for bootstrap-agent.")],
) -> None:
    """Pack what a machine needs to become a device; prints the values for bootstrap-agent."""
    from ota.playbook import bundle as bundles  # noqa: PLC0415 - `ota --help` stays quick
    from signing import durable  # noqa: PLC0415 - the same

    session = sessions.of(ctx)
    roots = {row["repository"]: Path(row["file"]) for row in session.wiring.first_roots()}
    texts = {name: inputs.read(path, 1024 * 1024, "root") for name, path in roots.items()}
    made = bundles.make(
        wheels, inputs.read(config, 256 * 1024, "agent.toml"), texts["director"], texts["image"]
    )
    durable.replace(out, made.data)
    digests = {row["repository"]: row["sha256"] for row in session.wiring.first_roots()}
    session.details(
        {
            "archive": str(out),
            "archive_sha256": made.sha256,
            "director_root_sha256": digests["director"],
            "image_root_sha256": digests["image"],
            "packages": list(made.names),
        }
    )


def go(session: Session, asked: Asked, devices: list[str], *, dry_run: bool) -> None:
    """Run it on hosts of the SSH inventory; exit 1 when one of them is not done."""
    from ota.playbook import compute, native, running  # noqa: PLC0415 - `ota --help`

    if asked.road != "ssh":
        raise Misuse(
            f"--native {asked.road!r:.20}: this command runs over ssh",
            remedy="ota playbook render PLAYBOOK --native ssm",
        )
    if not devices:
        raise Misuse("--native needs --limit: name the machines", remedy="ota ssh check")
    found, signed = _found(session, asked.playbook)
    order = running.Native(
        rendered=native.script(found),
        values=compute.bind(found, asked.parameters),
        signed=signed,
        pushes=tuple(_push(text) for text in asked.pushes),
        prefix=("sudo", "-n") if asked.sudo else (),
        run=asked.again or running.new_run(found.name),
    )
    for name, value in _shown(order.rendered, signed=signed).items():
        session.say(f"{name}: {value}")
    session.say(f"run: {order.run}")
    if dry_run:
        session.rows([{"device": d, **order.values} for d in devices], ("device", *order.values))
        session.say("nothing was done")
        return
    rows = []
    for row in session.wiring.native_runs("ssh").run(order, devices, sessions.now()):
        rows.append(row)
        session.say(f"{row['device']}: {row['outcome']} {row['code']}".rstrip())
    rows.sort(key=lambda row: str(row["device"]))
    _keep(rows, asked.collect)
    session.rows(noun.brief(session, rows), _ROWS)
    bad = running.bad(rows)
    if bad:
        raise Outage(
            f"{len(bad)} of {len(rows)} machines are not done: {', '.join(bad[:10])}",
            code="native-failed",
            subject=order.run,
            remedy=f"ota playbook run {asked.playbook} --native ssh --limit failed:{order.run}",
        )


def show(session: Session, run: str) -> None:
    """All native runs, or the machines of one."""
    runs = session.wiring.native_runs()
    if run:
        found = runs.show(run)
        rows = [{"device": d, **row, "verified": found["verified"]}
                for d, row in sorted(found["devices"].items())]  # fmt: skip
        session.rows(noun.brief(session, rows), _ROWS)
        return
    session.rows([_summary(record) for record in runs.runs()], _RUNS)


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    rows = record["devices"].values()
    done = sum(row["outcome"] == "done" for row in rows)
    return {**record, "done": done, "not_done": len(rows) - done}


def _found(session: Session, text: str) -> tuple[Playbook, bool]:
    """The playbook, and whether its keyholders have signed and published it."""
    if noun.is_file(text):
        return noun.read_file(text), False
    return session.wiring.library.read(text, sessions.now()).playbook, True


def _rendered(playbook: Playbook, road: str, downloads: list[str]) -> Rendered:
    from ota.playbook import native  # noqa: PLC0415 - `ota --help` stays quick

    if road == "ssm":
        pairs = [text.rpartition("=") for text in downloads]
        for url, mark, path in pairs:
            if not mark or not url.startswith("https://") or not path.startswith("/"):
                raise Malformed(f"--download {url!r:.80}: not HTTPS-URL=ABSOLUTE-PATH")
        return native.document(playbook, {url: path for url, _, path in pairs})
    if road != "ssh" or downloads:
        raise Misuse("--native is ssm or ssh; --download is for ssm", remedy="--help")
    return native.script(playbook)


def _shown(rendered: Rendered, *, signed: bool) -> dict[str, Any]:
    from ota.playbook.native import UNVERIFIED  # noqa: PLC0415 - `ota --help` stays quick

    return {
        "playbook": rendered.playbook,
        "signed": "by its keyholders" if signed else "by nobody: a file",
        "verified": UNVERIFIED,
        "sha256": rendered.sha256,
    }


def _push(text: str) -> tuple[Path, str]:
    source, mark, target = text.rpartition("=")
    if not mark or not target.startswith("/"):
        raise Misuse(f"--push {text!r:.80}: not FILE=ABSOLUTE-PATH", subject=text[:80])
    return Path(source), target


def _keep(rows: list[dict[str, Any]], folder: Path | None) -> None:
    """What was collected, one file for each machine and step."""
    if folder is None:
        return
    from signing import durable, strict  # noqa: PLC0415 - `ota --help` stays quick

    for row in rows:
        for step in row["steps"]:
            if step.get("output_sha256"):
                name = f"{strict.identifier(row['device'], 'device')}.{step['name']}"
                durable.replace(folder / name, str(step.get("output", "")).encode())
