"""What the releases of one hash bin have in common, signed once beside them. Pure.

A thousand bins are read and written one at a time, so a bin's size is what a release costs. Of the
265 bytes of a release a hundred say what nearly every other one of its bin says too. So a bin
signs ``common``, and each of its targets only what differs:

>>> {"common": {"component": "app", "format": "tar", "kind": "release", ...},
...  "targets": {"app/a.tar": {"custom": {"version": "1.2.0"}, "hashes": ..., "length": ...}}}

Rules:

* the description of a release is ``common`` with the target's own ``custom`` laid over it: both are
  in one file under the same signatures, so whoever could change one could change the other;
* only :data:`FIELDS` are shared, each of which every release has. A ``common`` with anything else,
  or in another shape, makes every release of that bin malformed: a reader that did not know a field
  would read another description than its signer;
* nothing is shared outside of bins: there ``common`` means nothing, and a release says all of it;
* what is shared follows from the releases alone, so two people who list the same sign the same.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tuf.api.metadata import TargetFile, Targets

from signing import bins, strict
from signing.errors import Malformed

COMMON = "common"
"""Signed field of a bin: the description that its releases share."""
FIELDS = frozenset({"component", "format", "hardware_ids", "kind", "release_counter"})


def whole(role: Targets, target: TargetFile) -> TargetFile:
    """A target of this role with its whole description.

    Raises ``Malformed`` when what is shared is not what may be.
    """
    common = _common(role)
    custom = target.unrecognized_fields.get("custom")
    if not common or not isinstance(custom, dict):
        return target
    fields = {**target.unrecognized_fields, "custom": {**common, **custom}}
    return TargetFile(target.length, target.hashes, target.path, fields)


def listed(role: Targets) -> dict[str, TargetFile]:
    """Path -> target with its whole description, for everything that a role lists."""
    return {path: whole(role, target) for path, target in role.targets.items()}


def share(role: Targets) -> None:
    """Say once, in a bin, what most of its releases say; a role that is no bin says all of it.

    A field is shared when every target has it; its value is the one that most of them have, and of
    equally many the first in canonical JSON. What nobody can read (see :func:`whole`) is left as it
    is, so that it can still be taken off.
    """
    with contextlib.suppress(Malformed):
        role.targets = listed(role)
    role.unrecognized_fields.pop(COMMON, None)
    customs = [t.unrecognized_fields.get("custom") for t in role.targets.values()]
    found = [custom for custom in customs if isinstance(custom, dict)]
    if not _is_bin(role) or not found or len(found) < len(customs):
        return
    same = [name for name in sorted(FIELDS) if all(name in custom for custom in found)]
    common = {name: _usual([custom[name] for custom in found]) for name in same}
    if common:
        role.unrecognized_fields[COMMON] = common
    for path, target in role.targets.items():
        custom = target.unrecognized_fields["custom"]
        own = {n: v for n, v in custom.items() if n not in common or common[n] != v}
        fields = {**target.unrecognized_fields, "custom": own}
        role.targets[path] = TargetFile(target.length, target.hashes, path, fields)


def _usual(values: Sequence[Any]) -> Any:
    """The value that most have."""
    texts = Counter(map(strict.canonical, values))
    return json.loads(min(texts, key=lambda text: (-texts[text], text)))


def _is_bin(role: Targets) -> bool:
    name = role.unrecognized_fields.get(bins.NAME)
    return isinstance(name, str) and bins.is_bin(name)


def _common(role: Targets) -> dict[str, Any]:
    common = role.unrecognized_fields.get(COMMON, {}) if _is_bin(role) else {}
    if not isinstance(common, dict) or not common.keys() <= FIELDS:
        name = role.unrecognized_fields.get(bins.NAME)
        raise Malformed(f"{name}: {COMMON} holds what releases do not share", subject=str(name))
    return common
