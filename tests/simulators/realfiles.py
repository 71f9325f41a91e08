"""Real things to roll out: firmware of a Debian package, and wheels as they were published.

The firmware is what ``make test`` installs (package ``seabios``). Wheels come from PyPI through
its ordinary client, pinned by hash; whichever of pip and uv is there fetches them.

>>> firmware("bios.bin").stat().st_size
131072
>>> wheel("1.16.0", tmp_path).name
'six-1.16.0-py2.py3-none-any.whl'
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

FIRMWARE = Path("/usr/share/seabios")
SIX = {
    "1.16.0": "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254",
    "1.17.0": "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274",
}


def firmware(name: str) -> Path:
    """A firmware image of Debian's ``seabios``."""
    path = FIRMWARE / name
    assert path.is_file(), f"{path} is missing: apt-get install seabios (make test does it)"
    return path


def wheel(version: str, folder: Path) -> Path:
    """The published wheel of ``six``, byte for byte."""
    pins = folder / f"six-{version}.txt"
    pins.write_text(f"six=={version} --hash=sha256:{SIX[version]}\n")
    words = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    said = []
    for client in _clients():
        ran = subprocess.run(
            [*client, *words, "-d", str(folder), "-r", str(pins)],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if ran.returncode == 0:
            break
        said.append(ran.stderr[-300:])
    path = folder / f"six-{version}-py2.py3-none-any.whl"
    assert path.is_file(), f"no client of PyPI could fetch six {version}: {said}"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SIX[version]
    return path


def _clients() -> list[list[str]]:
    """Ways to call pip: this environment's, the system's, uv's."""
    ways = [[sys.executable, "-m", "pip"]]
    if shutil.which("pip3"):
        ways.append(["pip3"])
    if shutil.which("uv"):
        ways.append(["uv", "tool", "run", "pip"])
    return ways
