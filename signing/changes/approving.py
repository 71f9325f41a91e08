"""Who may write and approve plans, as a change says it: shown by name before it is signed. Pure.

Top-level targets lists the keys in a small file, ``workspace/approvers.json``, by its hash alone.
Two keyholders who sign a hash could hand every rollout to a third who made the change.

>>> words(pending.files, before, after, names)
['targets: plans are written by author-1, approved by 2 of approver-1, approver-2, approver-3']
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from securesystemslib.signer import Key
from tuf.api.metadata import Targets

from signing import layout, strict
from signing.approval import APPROVERS_PATH, Approvers
from signing.errors import Malformed

LIMIT = 1024 * 1024


def words(
    files: Mapping[str, str], before: Targets | None, after: Targets, names: Mapping[str, str]
) -> list[str]:
    """One line when they differ; ``Malformed`` when the change comes without them."""
    known = before.targets.get(APPROVERS_PATH) if before else None
    target = after.targets.get(APPROVERS_PATH)
    if target is None or (known is not None and known.hashes == target.hashes):
        return []
    sha256 = target.hashes.get("sha256", "")
    data = files.get(layout.image_target(APPROVERS_PATH, sha256), "").encode()
    if strict.digest(data) != sha256:
        raise Malformed(
            f"pending change: {APPROVERS_PATH} comes without its content",
            subject=APPROVERS_PATH,
            remedy="ota repo discard image, or ask its maker",
        )
    found = read(data)
    authors = _who(found.author_keys(), names)
    approvers = f"{found.threshold} of {_who(found.approver_keys(), names)}"
    return [f"targets: plans are written by {authors}, approved by {approvers}"]


def read(data: bytes) -> Approvers:
    """The content of ``workspace/approvers.json``; ``Malformed`` for anything else."""
    body = strict.loads(data, limit=LIMIT, what=APPROVERS_PATH)
    try:
        found = msgspec.convert(body, Approvers, strict=True)
    except msgspec.ValidationError as e:
        raise Malformed(f"{APPROVERS_PATH}: {e}", subject=APPROVERS_PATH) from e
    found.author_keys(), found.approver_keys()  # all of them are keys, under their own ids
    return found


def _who(keys: Iterable[Key], names: Mapping[str, str]) -> str:
    return ", ".join(names.get(key.keyid, f"unknown key {key.keyid[:12]}") for key in keys)
