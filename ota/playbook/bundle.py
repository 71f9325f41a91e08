"""Use case: one archive with which ``bootstrap-agent`` makes a machine a device, without a network.

    wheels/*.whl           the agent and what it needs, for one platform
    requirements.txt       exactly these, each with its hash (pip's --require-hashes)
    roots/director.json    both first roots, as files (rule 14)
    roots/image.json
    agent.toml             the configuration, but for the device's id

The same input makes the same bytes, so that the archive's hash can be compared.

>>> make(Path("wheels"), b"state_dir = ...", director_root, image_root).sha256
'5f0c...'
"""

from __future__ import annotations

import io
import re
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ota.errors import Malformed, NotFound
from signing import durable, strict

_WHEEL: Final = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._]*)-([A-Za-z0-9][A-Za-z0-9._+!]*)(-[0-9][A-Za-z0-9_.]*)?"
    r"-([A-Za-z0-9_.]+)-([A-Za-z0-9_.]+)-([A-Za-z0-9_.]+)\.whl"
)
"""name-version(-build)-python-abi-platform.whl (binary distribution format)."""
_AGENT: Final = "ota_orchestrator"
_MOST: Final = 512 * 1024 * 1024


@dataclass(frozen=True)
class Bundle:
    """The archive; ``names`` are the packages in it, as ``name==version``."""

    data: bytes
    names: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """What ``bootstrap-agent`` compares on the machine."""
        return strict.digest(self.data)


def make(wheels: Path, config: bytes, director_root: bytes, image_root: bytes) -> Bundle:
    """Pack a folder of wheels with both roots; ``Malformed`` names what does not belong there."""
    _check_config(config)
    found = _read(wheels)
    lines = [f"{name} --hash=sha256:{strict.digest(data)}" for name, (_, data) in found.items()]
    files = {f"wheels/{file}": data for file, data in found.values()}
    files |= {
        "requirements.txt": "".join(f"{line}\n" for line in lines).encode(),
        "roots/director.json": director_root,
        "roots/image.json": image_root,
        "agent.toml": config,
    }
    return Bundle(_packed(files), tuple(found))


def _read(folder: Path) -> dict[str, tuple[str, bytes]]:
    """``name==version`` -> its file; one version of each package."""
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder", subject=str(folder), remedy="pip download -d")
    found: dict[str, tuple[str, bytes]] = {}
    versions: dict[str, str] = {}
    total = 0
    for path in sorted(folder.iterdir()):
        match = _WHEEL.fullmatch(path.name)
        if match is None or not path.is_file():
            raise Malformed(f"{path} is not a wheel", subject=str(path), remedy="move it away")
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        if versions.setdefault(name, path.name) != path.name:
            raise Malformed(f"{path.name} and {versions[name]}: one platform, one version of each")
        try:
            data = path.read_bytes()
        except OSError as e:
            raise durable.outage(path, e) from e
        total += len(data)
        if total > _MOST:
            raise Malformed(f"{folder}: more than {_MOST} bytes", subject=str(folder))
        found[f"{name}=={match[2]}"] = (path.name, data)
    if _AGENT.replace("_", "-") not in versions:
        raise Malformed(f"{folder}: no wheel of {_AGENT} is there", subject=str(folder))
    return found


def _check_config(config: bytes) -> None:
    try:
        body = tomllib.loads(config.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise Malformed(f"agent.toml: {e}", subject="agent.toml") from e
    if "device" in body:
        raise Malformed("agent.toml: leave out device; each machine gets its own", subject="device")


def _packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()
