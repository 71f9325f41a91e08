"""``ota infra``: what an AWS account needs, rendered and checked before it is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ota.cli import inputs
from ota.cli import session as sessions
from ota.errors import Busy, Malformed, NotFound

if TYPE_CHECKING:
    from ota.infra.values import Values

app = typer.Typer(
    name="infra", no_args_is_help=True, help="AWS: roles, keys, policies, rendered and checked."
)
From = Annotated[
    Path, typer.Option("--values", help="The account's values; see `ota infra values`.")
]
_DEFAULT = Path("infra.toml")


@app.callback()
def infra() -> None:
    """AWS: roles, keys, policies, rendered and checked."""


@app.command(epilog="Example: ota infra values > infra.toml")
def values() -> None:
    """Print an example of the values, to be filled in."""
    typer.echo((_folder() / "infra.toml").read_text(), nl=False)


@app.command(epilog="Example: ota infra render --values infra.toml --out infra")
def render(
    ctx: typer.Context,
    source: From = _DEFAULT,
    out: Annotated[Path | None, typer.Option(help="Write one file for each stack here.")] = None,
    stack: Annotated[str, typer.Option(help="Print this stack.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace files that are there.")
    ] = False,
) -> None:
    """Render the CloudFormation stacks, in the order in which they are to be made.

    `ota infra lint` checks them. Every stack that makes roles needs CAPABILITY_NAMED_IAM.
    """
    from ota.infra import render as rendering  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    found = rendering.render(_folder(), _values(source))
    if stack:
        if stack not in found:
            names = ", ".join(found)
            raise NotFound(f"there is no stack {stack}", subject=stack, remedy=f"one of {names}")
        typer.echo(found[stack], nl=False)
        return
    if out is not None:
        _write(out, found, replace=replace)
    rows = [
        {
            "stack": name,
            "bytes": len(text.encode()),
            "file": str(out / f"{name}.yaml") if out else "",
        }
        for name, text in found.items()
    ]
    session.rows(rows, ["stack", "bytes", "file"] if out else ["stack", "bytes"])


@app.command(epilog="Example: ota infra lint --values infra.toml")
def lint(ctx: typer.Context, source: From = _DEFAULT) -> None:
    """Check the stacks: form, least privilege, who may do what. Exit 2 when something is wrong.

    Needs the extra: pip install 'ota-orchestrator[infra]'.
    """
    from ota.infra import lint as linting  # noqa: PLC0415 - `ota --help` stays quick
    from ota.infra import promise  # noqa: PLC0415 - the same
    from ota.infra import render as rendering  # noqa: PLC0415 - the same

    session = sessions.of(ctx)
    checked = _values(source)
    table = (_folder() / promise.FILE).read_bytes()
    found = linting.lint(rendering.render(_folder(), checked), checked, table)
    session.rows([{"where": f.where, "what": f.what} for f in found], ["where", "what"])
    if found:
        raise Malformed(
            f"{len(found)} findings",
            code="infra-lint",
            subject=str(source),
            remedy="correct the values, or the templates in playbooks/aws",
        )
    session.say("nothing to object to")


@app.command(epilog="Example: ota infra can device:press-07 iot:Publish topic/ota/press-08/report")
def can(
    ctx: typer.Context,
    who: Annotated[
        str, typer.Argument(help="publisher, rollout, refresh, enrol, gc, device:THING.")
    ],
    action: Annotated[str, typer.Argument(help="Such as s3:PutObject.")],
    resource: Annotated[str, typer.Argument(help="An ARN, or the end of one: thing/press-07.")],
    source: From = _DEFAULT,
) -> None:
    """Ask the rendered policies who may do what. Exit 4 when the answer is no.

    A device is asked about as over MQTT; device:THING/https and device:THING/s3 are its other ways.
    """
    from ota.infra import duties, promise, stacks  # noqa: PLC0415 - `ota --help` stays quick
    from ota.infra import render as rendering  # noqa: PLC0415 - the same
    from ota.infra.evaluate import Request  # noqa: PLC0415 - the same

    session = sessions.of(ctx)
    checked = _values(source)
    policies = stacks.policies(stacks.parse(rendering.render(_folder(), checked)), checked)
    full = promise.full_arn(checked, action, resource)
    found = duties.ask(policies, checked, who, Request(action, full))
    by = next((p.where for p in policies if found.by is not None and found.by in p.statements), "")
    session.record({"allowed": found.allowed, "resource": full, "by": by})
    if not found.allowed:
        raise typer.Exit(4)


def _folder() -> Path:
    from ota import shipped  # noqa: PLC0415 - `ota --help` stays quick

    return shipped.folder("playbooks") / "aws"


def _values(source: Path) -> Values:
    from ota.infra import values as reading  # noqa: PLC0415 - `ota --help` stays quick

    try:
        data = inputs.read(source, reading.LIMIT, "file of values")
    except NotFound as e:
        raise NotFound(str(e), subject=e.subject, remedy="ota infra values > infra.toml") from e
    return reading.read(data, str(source))


def _write(out: Path, found: dict[str, str], *, replace: bool) -> None:
    from signing import durable  # noqa: PLC0415 - `ota --help` stays quick

    files = {out / f"{name}.yaml": text.encode() for name, text in found.items()}
    there = [p for p, data in files.items() if p.exists() and p.read_bytes() != data]
    if there and not replace:
        raise Busy(
            f"{there[0]} is there and differs",
            subject=str(there[0]),
            remedy="ota infra render --replace, or another --out",
        )
    durable.folder(out)
    for path, data in files.items():
        durable.replace(path, data)
