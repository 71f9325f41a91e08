"""``ota store``: what devices fetch from, served for a pilot or carried to them in a folder."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from ota.cli import progress
from ota.cli import session as sessions
from ota.errors import Misuse, NotFound, Outage, Stale

app = typer.Typer(name="store", no_args_is_help=True, help="The store that devices fetch from.")

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@app.callback()
def store() -> None:
    """The store that devices fetch from."""


@app.command(epilog="Example: ota store serve --port 8000")
def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
) -> None:
    """Serve the store on this machine only, for a pilot: use your web server in a plant.

    Prints the URL for agent.toml, then serves until it is interrupted.
    """
    import uvicorn  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    application = session.wiring.store_application()
    with _listen(host, port) as listener:
        session.record({"url": f"http://{host}:{listener.getsockname()[1]}/"})
        sys.stdout.flush()  # a script that reads a pipe waits for this line
        config = uvicorn.Config(application, log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


@app.command(epilog="Example: ota store mirror /media/stick -l site=lyon --prune")
def mirror(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A stick, or this side of a diode.")],
    select: Annotated[
        str, typer.Option("-l", "--select", help="Label selector, such as site=lyon,!spare.")
    ] = "",
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what none of these devices needs any more.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how much would be written.")
    ] = False,
) -> None:
    """Bring a folder up to date with all that chosen devices read, to be carried to them.

    Their agents take the folder as their store (file:///...) and believe nobody who carried it.
    Run it again before timestamps expire: three days while a device has an order, else thirty.
    """
    from signing import strict  # noqa: PLC0415 - `ota --help` stays quick

    session = sessions.of(ctx)
    if not folder.is_dir():
        raise NotFound(
            f"there is no folder {folder}", subject=str(folder), remedy="mount or make it"
        )
    chosen = [d.id for d in session.wiring.registry.devices(select) if d.state != "retired"]
    if not chosen:
        raise NotFound(f"no device is {select or 'registered'}", remedy="ota fleet list")
    with progress.bar(str(folder)) as tick:
        done = session.wiring.carry(folder, chosen, prune=prune, dry_run=dry_run, progress=tick)
    session.record(
        {
            "devices": len(chosen) - len(done.problems),
            "written": done.written,
            "bytes": done.bytes,
            "unchanged": done.unchanged,
            "removed": done.removed,
            "expires": strict.stamp(done.ends) if done.ends else "",
        }
    )
    for device, error in done.problems.items():
        session.say(f"{device}: {error}")
    if done.problems:
        raise Outage(
            f"{len(done.problems)} devices could not be read",
            subject=min(done.problems),
            remedy="ota repo verify",
        )
    if done.ends is not None and done.ends <= sessions.now():
        raise Stale(
            f"timestamps in it have expired since {strict.stamp(done.ends)}: devices install nothing",
            code="expired",
            subject=str(folder),
            remedy="ota repo refresh, then the same command again",
        )


def _listen(host: str, port: int) -> socket.socket:
    if host not in _LOOPBACK:
        raise Misuse(
            f"--host {host}: only loopback addresses are served",
            subject=host,
            remedy="serve the store's folder with the web server of your plant",
        )
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as e:
        raise Outage(
            f"{host}:{port}: {os.strerror(e.errno or 0)}",
            subject=f"{host}:{port}",
            remedy="--port 0",
        ) from e
