"""What kind of machine this is, in the words that playbooks use: ``linux``, and os-release's.

>>> words(Path("/etc/os-release"))
frozenset({'linux', 'debian'})
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

OS_RELEASE = Path("/etc/os-release")
_LINE = re.compile(r"(ID|ID_LIKE)=[\"']?([a-z0-9 ._-]{0,200})[\"']?")


def words(os_release: Path = OS_RELEASE) -> frozenset[str]:
    """``linux``, the system's own id, and those that it is like (os-release(5))."""
    found = {"linux"}
    with contextlib.suppress(OSError):
        text = os_release.read_text("utf-8", "replace")[:16384]
        for line in text.splitlines():
            match = _LINE.fullmatch(line.strip())
            if match:
                found.update(match[2].split())
    return frozenset(found)
