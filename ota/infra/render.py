"""Templates and values -> CloudFormation stacks, in the order in which they are made.

Jinja2 in its sandbox, undefined names are errors. Values were checked before
(``ota/infra/values.py``), so nothing in them can end a string or widen a policy.

>>> render(folder, values)["store"][:24]
'AWSTemplateFormatVersion'
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import jinja2
import msgspec
from jinja2.sandbox import SandboxedEnvironment

from ota.errors import Malformed
from ota.infra.values import Values
from ota.ports_aws import package_name

ORDER: Final = (
    "roles",
    "store",
    "keys",
    "reports",
    "network",
    "duties",
    "devices",
    "managed",
    "watch",
)
"""Every stack; none needs what a later one makes. Keys name roles, so roles come first."""
LIMIT: Final = 1_000_000
"""Largest template body that CloudFormation takes from S3, in bytes; 51,200 inline."""


def render(templates: Path, values: Values) -> dict[str, str]:
    """Stack name -> its template, for every stack that these values ask for.

    Raises ``Malformed`` naming template and line when one does not render.
    """
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    known = _context(values)
    return {
        name: _one(environment, name, known)
        for name in ORDER
        if name != "network" or values.network is not None
    }


def _context(values: Values) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(values)
    return plain | {
        "objects": values.objects,
        "folder": values.folder,
        "cloud": values.cloud,
        "packages": [package_name(component) for component in values.packages],
    }


def _one(environment: SandboxedEnvironment, name: str, known: dict[str, object]) -> str:
    file = f"{name}.yaml.j2"
    try:
        text = environment.get_template(file).render(known)
    except jinja2.TemplateSyntaxError as e:
        raise Malformed(f"{e.name or file}, line {e.lineno}: {e.message}", subject=file) from e
    except jinja2.TemplateError as e:
        raise Malformed(f"{file}: {e}", subject=file) from e
    if len(text.encode()) > LIMIT:
        raise Malformed(f"{file}: longer than {LIMIT} bytes", subject=file)
    return text
