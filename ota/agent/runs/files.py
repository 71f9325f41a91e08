r"""Files of a step: whole or not at all, with their mode from the first byte on.

A new content is written beside the old one, checked by ``validate``, synced, and renamed over it.
What is there and is no plain file is left alone.

>>> bring(File(path="/etc/motd", content="hello\n", ...), values, types, clock)
'done'
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ota.agent.runs import programs
from ota.agent.runs.failing import Clock, StepFailed
from signing import durable
from signing.playbooks import values as values_of
from signing.playbooks.steps import FILE, File

Values = Mapping[str, str]


def bring(action: File, values: Values, types: Values, clock: Clock) -> Literal["done", "skipped"]:
    """Make the file so; ``StepFailed`` (``no-space``, ``not-a-file``, ``invalid``, ``no-owner``, ``io``)."""
    path = Path(values_of.argument(action.path, values))
    try:
        found = _look(path)
        if action.absent:
            if found is None:
                return "skipped"
            path.unlink()
            durable.sync_folder(path.parent)
            return "done"
        content = values_of.content(action.content, values, types, action.format).encode()
        if found is not None and _is_so(path, found, content, action):
            return "skipped"
        _write(path, content, action, values, clock)
    except OSError as e:
        found_out = durable.outage(path, e)
        raise StepFailed(str(found_out), code=found_out.code) from e
    except LookupError as e:
        raise StepFailed(f"{path}: {e}", code="no-owner") from e
    return "done"


def _look(path: Path) -> os.stat_result | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise StepFailed(f"{path} is there and is no plain file", code="not-a-file")
    return found


def _is_so(path: Path, found: os.stat_result, content: bytes, action: File) -> bool:
    user, group = _owners(action)
    return (
        stat.S_IMODE(found.st_mode) == int(action.mode, 8)
        and found.st_size == len(content)
        and user in {-1, found.st_uid}
        and group in {-1, found.st_gid}
        and path.read_bytes() == content
    )


def _write(path: Path, content: bytes, action: File, values: Values, clock: Clock) -> None:
    temporary = path.with_name(f".ota-{path.name[:100]}.new")  # one agent, one name
    temporary.unlink(missing_ok=True)
    try:
        durable.write_new(temporary, content, int(action.mode, 8))
        os.chown(temporary, *_owners(action), follow_symlinks=False)
        temporary.chmod(int(action.mode, 8))
        if action.validate:
            _validate(temporary, action, values, clock)
        temporary.replace(path)
        durable.sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _validate(new: Path, action: File, values: Values, clock: Clock) -> None:
    argv = [
        str(new) if text == FILE else values_of.argument(text, values) for text in action.validate
    ]
    try:
        programs.must(argv, clock)
    except StepFailed as e:
        raise StepFailed(f"the new content does not pass: {e}", code="invalid") from e


def _owners(action: File) -> tuple[int, int]:
    """User and group id; -1 for "as it is". ``LookupError`` for unknown names."""
    user = pwd.getpwnam(action.owner).pw_uid if action.owner else -1
    group = grp.getgrnam(action.group).gr_gid if action.group else -1
    return user, group
