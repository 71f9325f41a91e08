"""A wheelhouse without a network: wheels packed again from what is installed here, and our own.

>>> make(tmp_path / "wheels")      # the agent and everything that it needs, for this platform
"""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
OWN = "ota-orchestrator"


def make(folder: Path) -> Path:
    """Wheels of the base install's whole closure."""
    folder.mkdir(parents=True)
    names, waiting = set(), [OWN]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in names:
            continue
        names.add(name)
        waiting += [
            found.name
            for text in metadata.requires(name) or ()
            if (found := Requirement(text)).marker is None or found.marker.evaluate({"extra": ""})
        ]
    for name in sorted(names):
        _own(folder) if name == OWN else _packed(name, folder)
    return folder


def _packed(name: str, folder: Path) -> None:
    """One installed distribution as a wheel; its RECORD is written anew."""
    found = metadata.distribution(name)
    tags = re.findall(r"^Tag: (\S+)$", found.read_text("WHEEL") or "", re.MULTILINE)
    files = {
        str(path): Path(str(found.locate_file(path))).read_bytes()
        for path in found.files or ()
        if ".." not in path.parts and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    info = next(p for p in files if p.endswith(".dist-info/METADATA")).split("/")[0]
    _write(folder, found.metadata["Name"], found.version, tags[0], info, files)


def _own(folder: Path) -> None:
    """The tree itself, as an editable install has no files of its own."""
    found = metadata.distribution(OWN)
    files = {
        str(path.relative_to(ROOT)): path.read_bytes()
        for top in ("ota", "signing")
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    info = f"ota_orchestrator-{found.version}.dist-info"
    for name in ("METADATA", "entry_points.txt"):
        files[f"{info}/{name}"] = (found.read_text(name) or "").encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    _write(folder, OWN, found.version, "py3-none-any", info, files)


def _write(
    folder: Path, name: str, version: str, tag: str, info: str, files: dict[str, bytes]
) -> None:
    files = {path: data for path, data in files.items() if not path.endswith("/RECORD")}
    record = "".join(f"{p},sha256={_digest(d)},{len(d)}\n" for p, d in sorted(files.items()))
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    path = folder / f"{re.sub(r'[-_.]+', '_', name)}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        for member, data in sorted(files.items()):
            wheel.writestr(zipfile.ZipInfo(member), data)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
