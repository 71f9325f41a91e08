"""Ways by which a verified image becomes what runs.

``dir-symlink`` unpacks an archive and swaps a symlink; ``single-file`` swaps one file; ``exec``
asks a vendor's own updater. Each asks the medium what is there and may be repeated after any
crash. They take nothing but what the trust room has verified.

>>> create("single-file", {"path": "/opt/app/model.bin"}, Path("/var/lib/ota-agent/model"))
SingleFile(...)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ota.ports_device import Installer
from signing.errors import Malformed

KINDS = ("dir-symlink", "single-file", "exec")


def create(kind: str, options: Mapping[str, Any], folder: Path) -> Installer:
    """Make the installer of one component; ``folder`` is the agent's own for this component.

    The folder's last segment is the component's name in messages. Unknown kinds, unknown
    options and wrong types raise ``Malformed`` naming the component and the key.
    """
    where = f"component {folder.name}"
    # Imported here: a device loads only the installers that it uses.
    if kind == "dir-symlink":
        from ota.agent.installers.dir_symlink import DirSymlink  # noqa: PLC0415 - as said above

        return DirSymlink.create(options, where)
    if kind == "single-file":
        from ota.agent.installers.single_file import SingleFile  # noqa: PLC0415 - the same

        return SingleFile.create(options, folder, where)
    if kind == "exec":
        from ota.agent.installers.exec_ import Exec  # noqa: PLC0415 - the same

        return Exec.create(options, where)
    raise Malformed(
        f"{where}: installer: {kind!r:.60} is none of {', '.join(KINDS)}",
        subject=where,
        remedy="correct agent.toml",
    )
