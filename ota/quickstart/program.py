"""The small real program that the demo rolls out, as releases 1.0.0, 2.0.0 and a broken 3.0.0.

Each release is a tar archive with ``bin/app``, an HTTP server that answers ``/health``, and
``VERSION``. Version 3.0.0 truly fails: it looks for a setting that no device has, and its
``/health`` answers 503. ``SERVICE`` plays the part of the device's service manager: it stops
the program that runs and starts the one below ``current``.

>>> build("1.0.0", folder / "app-1.0.0.tar.gz")
"""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

APP = '''\
"""A gateway program: answers /health and /version on loopback."""
import json, os, socket, sys, threading, time

HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
VERSION = open(os.path.join(HERE, "VERSION")).read().strip()
NEEDS = {needs!r}


def leave_with_owner(owner):
    while True:
        time.sleep(1)
        try:
            os.kill(owner, 0)
        except ProcessLookupError:
            os._exit(0)


def health():
    missing = [name for name in NEEDS if name not in os.environ]
    if missing:
        return 503, {{"version": VERSION, "missing": missing}}
    return 200, {{"version": VERSION, "healthy": True}}


def listen(port):
    for _ in range(150):
        try:
            return socket.create_server(("127.0.0.1", port), backlog=16)
        except OSError:
            time.sleep(0.02)
    sys.exit("port %d is taken" % port)


def main():
    port, owner = int(sys.argv[1]), int(sys.argv[2])
    server = listen(port)
    threading.Thread(target=leave_with_owner, args=(owner,), daemon=True).start()
    while True:
        client, _ = server.accept()
        with client:
            client.settimeout(2)
            try:
                request = client.recv(4096)
                status, body = health() if b" /health" in request else (200, {{"version": VERSION}})
                text = json.dumps(body).encode()
                head = "HTTP/1.1 %d X\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n"
                client.sendall((head % (status, len(text))).encode() + text)
            except OSError:
                pass


main()
'''

SERVICE = '''\
"""Plays the device's service manager: restart the program that `current` points to."""
import os, signal, subprocess, sys

slots, port, owner = sys.argv[1], sys.argv[2], sys.argv[3]
pid_file = os.path.join(os.path.dirname(slots), "app.pid")


def stop():
    try:
        pid = int(open(pid_file).read())
        os.kill(pid, signal.SIGKILL)
        os.remove(pid_file)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return


stop()
app = os.path.join(slots, "current", "bin", "app.py")
if len(sys.argv) < 5 and os.path.exists(app):
    started = subprocess.Popen(
        [sys.executable, "-I", "-S", app, port, owner],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with open(pid_file + ".new", "w") as out:
        out.write(str(started.pid))
    os.replace(pid_file + ".new", pid_file)
'''


def build(version: str, path: Path) -> Path:
    """Write the archive of one version, byte for byte the same each time."""
    needs = ["DATABASE_URL"] if version.startswith("3.") else []
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, "VERSION", version + "\n", 0o644)
        _add(archive, "bin/app.py", APP.format(needs=needs), 0o755)
    with path.open("wb") as out, gzip.GzipFile("", "wb", 6, out, mtime=0) as packed:
        packed.write(buffer.getvalue())
    return path


def _add(archive: tarfile.TarFile, name: str, text: str, mode: int) -> None:
    data = text.encode()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), mode, 0
    archive.addfile(entry, io.BytesIO(data))
