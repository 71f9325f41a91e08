"""A real PostgreSQL server of one's own: temporary data, a unix socket, no network.

PostgreSQL refuses to run as root, so as root it becomes the user ``postgres`` of the Debian
package. A missing server is an error, not a skipped test.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa


class Postgres:
    """A running server; :meth:`database` makes a fresh, empty database in it."""

    def __init__(self, socket: Path, user: str) -> None:
        self._socket = socket
        self._user = user

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{self._user}@/{database}?host={self._socket}"

    def database(self) -> str:
        """URL of a new database."""
        name = f"t{uuid.uuid4().hex}"
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as conn:
            conn.exec_driver_sql(f'CREATE DATABASE "{name}"')
        engine.dispose()
        return self.url(name)


@contextlib.contextmanager
def server() -> Iterator[Postgres]:
    """Start a server for as long as the block lasts."""
    binaries = _binaries()
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="ota-pg-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(folder, user, user)
    data = folder / "data"
    try:
        _run(user, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-N", "-U", user)
        options = f"-c listen_addresses='' -k {folder} -c fsync=off"
        control = str(binaries / "pg_ctl")
        _run(
            user, control, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start"
        )
        try:
            yield Postgres(folder, user)
        finally:
            _run(user, control, "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    if path is None:
        raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
    return Path(path).resolve().parent


def _run(user: str, *command: str) -> None:
    identity = {"user": user, "group": user} if os.geteuid() == 0 else {}
    extra = {"extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        timeout=60,
        **identity,
        **extra,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout.decode(errors='replace')[-2000:]}")
