"""``ota store``: the folder that devices fetch from."""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated

import typer

from ota.cli import session as sessions
from ota.errors import Misuse, Outage

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
